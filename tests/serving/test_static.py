"""`serve --static`: the folder that it writes, the headers of its files, and what it refuses."""

import gzip
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from panoptic_deeplab.cli import main
from panoptic_deeplab.errors import ConfigError, MissingDependencyError
from panoptic_deeplab.serving import static_site, web_runtime
from panoptic_deeplab.serving.static_app import make_static_app
from panoptic_deeplab.serving.static_site import pipeline_file, write_site

_CONTENTS = {"ort.mjs": b"export {};", "ort.wasm": b"\0asm" * 100}


@pytest.fixture(autouse=True)
def _small_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package in the place of onnxruntime-web, and an empty cache."""
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in _CONTENTS.items()}
    monkeypatch.setattr(web_runtime, "_CHECKSUMS", checksums)
    monkeypatch.setenv("PANOPTIC_DEEPLAB_CACHE", str(tmp_path / "cache"))


def _archive(path: Path, **changed: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {**_CONTENTS, **changed}.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_what_is_needed_of_the_archive_is_kept_packed(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"make browser-runtime.*npm pack.*--runtime"):
        web_runtime.runtime_files()
    web_runtime.keep_runtime(_archive(tmp_path / "archive.tgz"))
    files = {path.name: path for path in web_runtime.runtime_files()}
    assert files.keys() == {"ort.mjs", "ort.wasm.gz"}
    assert gzip.decompress(files["ort.wasm.gz"].read_bytes()) == _CONTENTS["ort.wasm"]

    whole = files["ort.wasm.gz"].read_bytes()
    for damaged in (b"cut", whole[:12] + b"\xff\xff\xff" + whole[15:]):
        files["ort.wasm.gz"].write_bytes(damaged)
        with pytest.raises(MissingDependencyError, match=r"ort\.wasm\.gz is missing or damaged"):
            web_runtime.runtime_files()


@pytest.mark.parametrize("kind", ["missing", "no archive", "other content", "other files"])
def test_another_archive_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive.tgz"
    if kind == "no archive":
        path.write_bytes(b"no archive")
    elif kind == "other content":
        _archive(path, **{"ort.mjs": b"alert(1)"})
    elif kind == "other files":
        tarfile.open(path, "w:gz").close()
    with pytest.raises(ConfigError, match="npm pack onnxruntime-web@"):
        web_runtime.keep_runtime(path)
    with pytest.raises(MissingDependencyError):
        web_runtime.runtime_files()


def test_without_npm_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="no npm"):
        web_runtime.fetch_runtime()


def test_files_have_types_and_headers(tmp_path: Path) -> None:
    web_runtime.keep_runtime(_archive(tmp_path / "archive.tgz"))
    write_site(tmp_path / "site", {})
    ended = []
    with TestClient(make_static_app(tmp_path / "site", at_end=lambda: ended.append(True))) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert (page.headers["cross-origin-opener-policy"], page.headers["cross-origin-embedder-policy"]) == (
            *("same-origin", "require-corp"),
        )
        types = {
            "page.js": "text/javascript",
            "runtime/ort.mjs": "text/javascript",
            "runtime/ort.wasm.gz": "application/gzip",
        }
        for path, media_type in {**types, "page.css": "text/css", "models.json": "application/json"}.items():
            answer = client.get(f"/{path}")
            assert answer.status_code == 200, path
            assert answer.headers["content-type"].startswith(media_type), path
            assert "content-encoding" not in answer.headers
            again = client.get(f"/{path}", headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 304
        assert "webgpu" in client.get("/worker.js").text  # the page that predicts by itself,
        assert "v1/panoptic" not in client.get("/page.js").text  # not the one that asks
        assert client.get("/nothing").status_code == 404
        assert client.get("/..%2fcache").status_code == 404
        assert client.post("/page.js", content=b"x").status_code == 405
    assert ended == [True]
    assert json.loads((tmp_path / "site" / "models.json").read_text("utf-8")) == []


def test_scripts_and_page_fit_together() -> None:
    """Every file that a script imports is there, for each of the two pages."""
    folder = Path(static_site.__file__).parent
    for part, others in (("page", ["page"]), ("browser", ["browser", "page"])):
        for script in (folder / part).glob("*.js"):
            text = script.read_text("utf-8")
            for name in re.findall(r'from "\./([\w.]+)"', text):
                assert any((folder / other / name).is_file() for other in others), (script.name, name)


@pytest.mark.parametrize("name", ["network.xml", "network.pt2"])
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="export --panoptic"):
        pipeline_file(str(tmp_path / name))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--static", "--workers", "2"], "`workers` is for predictions on this machine"),
        (["--static", "--device", "cpu"], "`device` is for predictions on this machine"),
        (["--static"], "make browser-runtime"),
        (["--static", "--runtime", "no.tgz"], "no.tgz cannot be read"),
        (["--site", "site"], "`site` is for --static"),
        (["--runtime", "x.tgz"], "`runtime` is for --static"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "nuclei", *arguments])
    assert ended.value.code not in (0, None)
    assert message in capsys.readouterr().err


def test_a_token_cannot_guard_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PANOPTIC_DEEPLAB_TOKEN", "secret")
    with pytest.raises(SystemExit):
        main(["serve", "nuclei", "--static"])
    assert "PANOPTIC_DEEPLAB_TOKEN asks for a token" in capsys.readouterr().err
