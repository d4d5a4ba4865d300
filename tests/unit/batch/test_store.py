"""What a kill leaves behind, moment by moment, without a process."""

import json
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.errors import ConfigError, DatasetError

pq = pytest.importorskip("pyarrow.parquet")


def _row(name: str) -> dict[str, Any]:
    segment = {"id": 1, "category_id": 7, "name": "road", "isthing": False, "area": 9, "bbox": [0, 0, 3, 3]}
    segments = [segment | {"score": 0.5, "rle": "09"}]
    return {"image": name, "height": 3, "width": 3, "segments": segments, "files": {"labels": "a.png"}, "warning": None}


def _store(folder: Path, **job: Any) -> ResultStore:
    return ResultStore(folder, job, shard_images=3)


def _images(folder: Path) -> list[str]:
    return [n for p in sorted(folder.glob("results/*.parquet")) for n in pq.read_table(p)["image"].to_pylist()]


def test_rows_come_back_from_shards(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        for name in "abcd":
            store.add(_row(name))
        store.add_error("e", "corrupt")
        store.finish([])
    assert _images(tmp_path) == list("abcd")
    row = pq.read_table(tmp_path / "results" / "part-00000.parquet").to_pylist()[0]
    assert row | {"files": dict(row["files"])} == _row("a")
    with _store(tmp_path) as store:
        assert store.finished == set("abcde")
        assert store.num_errors == 1


def test_a_line_that_is_cut_short_is_an_image_that_is_not_finished(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        store.add(_row("a"))
    for name in ("pending.jsonl", "errors.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"image": "b"')
    with _store(tmp_path) as store:
        assert store.finished == {"a"}
        store.add(_row("b"))
        store.add_error("c", "gone")
    with _store(tmp_path) as store:
        assert store.finished == {"a", "b", "c"}


def test_rows_in_a_shard_and_still_pending_count_once(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        store.add(_row("a"))
        store.add(_row("b"))
        pending = (tmp_path / "pending.jsonl").read_bytes()
        store.add(_row("c"))
    (tmp_path / "pending.jsonl").write_bytes(pending + json.dumps(_row("c")).encode() + b"\n")  # as if not emptied
    (tmp_path / "results" / ".part-00001.abc.parquet").write_bytes(b"PAR1 half")
    with _store(tmp_path) as store:
        assert store.finished == set("abc")
        store.add(_row("d"))
        store.finish([])
    assert _images(tmp_path) == list("abcd")
    assert [path.name for path in (tmp_path / "results").iterdir() if path.name.startswith(".")] == []


def test_another_job_or_process_is_refused(tmp_path: Path) -> None:
    with (
        _store(tmp_path, model="a") as _,
        pytest.raises(ConfigError, match="Another process"),
        _store(tmp_path, model="a"),
    ):
        pass
    with pytest.raises(ConfigError, match="its `model` differs"), _store(tmp_path, model="b"):
        pass


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        for name in "abc":
            store.add(_row(name))
    (tmp_path / "pending.jsonl").write_bytes(b"no json\n")
    with pytest.raises(DatasetError, match=r"pending\.jsonl, line 1"), _store(tmp_path):
        pass
    (tmp_path / "pending.jsonl").unlink()
    (tmp_path / "results" / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="is damaged"), _store(tmp_path):
        pass


def test_names_of_pictures_are_unique_and_can_be_read(tmp_path: Path) -> None:
    store = _store(tmp_path)
    paths = {store.picture("labels", key, "наклон " + "x" * 300) for key in ("a/x.png", "b/x.png")}
    assert len(paths) == 2
    assert all(len(path.name.encode()) < 200 and path.name.startswith("наклон_x") for path in paths)
