"""`batch` with images in a store that speaks S3: moto's server on the loopback address, read by s3fs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pq = pytest.importorskip("pyarrow.parquet")
s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

Run = Callable[..., Any]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store with an empty bucket `photos`, as s3fs sees it; what it needs to know is in the environment, as usual."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    files.mkdir("photos")
    yield files
    files.rm("photos", recursive=True)  # the server keeps its buckets in this process
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def _rows(output: Path) -> dict[str, Any]:
    rows = [row for path in sorted((output / "results").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len({row["image"] for row in rows}) == len(rows)
    return {row["image"]: row for row in rows}


def test_images_in_a_bucket(store: Any, run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    content = photo.read_bytes()
    good = ["day 1/a.jpg", "day 2/a.jpg", "day 2/a[1].jpg", "day 2/100%+#?.JPG", "day 2/клетка 図.jpg"]
    for name in good:
        store.pipe_file(f"photos/{name}", content)
    store.pipe_file("photos/day 2/cut.jpg", content[:200])
    store.pipe_file("photos/day 2/.hidden.jpg", content)
    store.pipe_file("photos/day 2/notes.txt", b"x")
    store.pipe_file("photos/list.csv", b"url\nday 1/a.jpg\ns3://photos/gone.jpg\n")
    how = ("--model", model_folder, "--device", "cpu", "--output")

    outcome = run("batch", "s3://photos", *how, tmp_path / "all", "--save", "labels")
    assert outcome.code == 1, outcome.err
    rows = _rows(tmp_path / "all")
    assert set(rows) == {f"s3://photos/{name}" for name in good}
    assert all((tmp_path / "all" / dict(row["files"])["labels"]).is_file() for row in rows.values())
    (error,) = [json.loads(line) for line in (tmp_path / "all" / "errors.jsonl").read_text("ascii").splitlines()]
    assert error["image"] == "s3://photos/day 2/cut.jpg"
    assert error["error"].startswith("s3://photos/day 2/cut.jpg is corrupt")

    assert run("batch", f"{photo.parent}/photo.jpg", *how, tmp_path / "local").code == 0
    (local,) = _rows(tmp_path / "local").values()
    assert all(row["segments"] == local["segments"] for row in rows.values())

    outcome = run("batch", "s3://photos/list.csv", "s3://photos/day 2/a*.jpg", *how, tmp_path / "some")
    assert outcome.code == 1, outcome.err
    assert set(_rows(tmp_path / "some")) == {f"s3://photos/{name}" for name in good[:3]}
    (error,) = [json.loads(line) for line in (tmp_path / "some" / "errors.jsonl").read_text("ascii").splitlines()]
    assert error["error"] == "There is no image file s3://photos/gone.jpg. Check the address."

    assert run("batch", "s3://photos/day 2/a[1].jpg", *how, tmp_path / "one").code == 0
    assert set(_rows(tmp_path / "one")) == {"s3://photos/day 2/a[1].jpg"}


def test_without_credentials_there_is_one_sentence(
    store: Any, run: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    outcome = run("batch", "s3://photos", "--model", model_folder, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert "s3://photos cannot be listed: Unable to locate credentials" in outcome.err


def test_results_are_not_written_to_a_url(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("batch", photo, "--model", model_folder, "--output", "s3://photos/results")
    assert outcome.code == 2
    assert "`output` s3://photos/results is a URL" in outcome.err
    assert list(tmp_path.glob("s3*")) == []
