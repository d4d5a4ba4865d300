"""Where images come from: files, folders, patterns, manifests and URLs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.batch.inputs import Item, UnreachableError, list_images, local_file
from panoptic_deeplab.errors import ConfigError, DatasetError, ImageError
from panoptic_deeplab.images.read import read_image

fsspec = pytest.importorskip("fsspec")


def _image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5, 3), 7, np.uint8)).save(path)
    return path


def test_folders_with_subfolders_patterns_and_files_each_image_once(tmp_path: Path) -> None:
    a, b = _image(tmp_path / "x" / "a.png"), _image(tmp_path / "x" / "deep" / "a.png")
    (tmp_path / "x" / "notes.txt").touch()
    items = list_images([str(tmp_path / "x"), str(tmp_path / "x" / "*.png"), str(a)])
    assert items == [Item(str(a), str(a)), Item(str(b), str(b))]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_manifests(tmp_path: Path, kind: str) -> None:
    absolute = str(_image(tmp_path / "b.png"))
    rows = [{"n": 1, "image": "a/ü.png"}, {"n": 2, "image": absolute}, {"n": 3, "image": "a/ü.png"}]
    path = tmp_path / f"list.{kind}"
    if kind == "csv":
        path.write_text("n,image\n" + "".join(f"{r['n']},{r['image']}\n" for r in rows), "utf-8")
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)
    assert [item.place for item in list_images([str(path)])] == [f"{tmp_path}/a/ü.png", absolute]


def test_urls(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    content = _image(tmp_path / "a.png").read_bytes()
    for name in ("/photos/a.png", "/photos/deep/b.png", "/photos/c.txt"):
        memory.pipe_file(name, content)
    memory.pipe_file("/photos/list.csv", b"image\na.png\n")
    names = ["memory:///photos/a.png", "memory:///photos/deep/b.png"]
    assert [item.place for item in list_images(["memory://photos"])] == names
    assert [item.place for item in list_images(["memory://photos/*.png"])] == names[:1]
    assert [item.place for item in list_images(["memory://photos/list.csv"])] == ["memory://photos/a.png"]
    assert [item.place for item in list_images([f"file://{tmp_path}/a.png"])] == [f"file://{tmp_path}/a.png"]
    with local_file(Item(names[0], names[0])) as path:
        assert read_image(path).shape == (4, 5, 3)
    memory.pipe_file("/photos/bad.png", b"no picture")
    with (
        pytest.raises(ImageError, match=r"memory://photos/bad\.png is corrupt"),
        local_file(Item("k", "memory://photos/bad.png")) as path,
    ):
        read_image(path)
    with (
        pytest.raises(ImageError, match=r"no image file memory://gone\.png"),
        local_file(Item("k", "memory://gone.png")),
    ):
        pass


def test_pictures_at_urls_are_chosen_as_in_folders(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    content = _image(tmp_path / "a.png").read_bytes()
    names = ["/chosen/._a.png", "/chosen/A.PNG", "/chosen/b[1].png", "/chosen/c.heic", "/chosen/d.json"]
    for name in names:
        memory.pipe_file(name, content)
    assert [item.place for item in list_images(["memory://chosen"])] == [f"memory://{name}" for name in names[1:4]]
    assert [item.place for item in list_images(["memory://chosen/b[1].png"])] == ["memory:///chosen/b[1].png"]


def test_a_place_that_does_not_answer_is_no_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PluginError(Exception):
        """As botocore's, which are kin of nothing."""

    def cat_file(self: object, path: str) -> bytes:
        raise {"/gone.png": FileNotFoundError(path), "/denied.png": PermissionError("Forbidden")}.get(
            path, PluginError("no route")
        )

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", cat_file)
    for name, error, said in (
        ("gone", ImageError, r"There is no image file memory://gone\.png"),
        ("denied", ImageError, r"memory://denied\.png cannot be read: Forbidden"),
        ("far", UnreachableError, r"memory://far\.png cannot be read: no route"),
    ):
        with pytest.raises(error, match=said) as caught, local_file(Item("k", f"memory://{name}.png")):
            pass
        assert type(caught.value) is error
    with pytest.raises(UnreachableError, match="cannot be opened"), local_file(Item("k", "nonsense://a.png")):
        pass
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "isdir", cat_file)
    with pytest.raises(ConfigError, match="memory://photos cannot be listed: no route"):
        list_images(["memory://photos"])


def test_a_folder_that_cannot_be_listed_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _image(tmp_path / "a.png")
    _image(tmp_path / "closed" / "b.png")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ImageError, match=r"closed cannot be listed: Permission denied"):
        list_images([str(tmp_path)])


def test_what_names_no_image_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, error, said in (
        (str(tmp_path / "empty"), ImageError, "has no image in it"),
        (str(tmp_path / "none.png"), ImageError, "no file, folder or match"),
        ("memory://nowhere", ImageError, "no image at"),
        ("nonsense://bucket", ConfigError, "cannot be opened"),
        (str(tmp_path / "none.csv"), DatasetError, "cannot be read"),
    ):
        with pytest.raises(error, match=said):
            list_images([source])
    for name, text, said in (
        ("a.csv", "name\nx.png\n", "no image in row 1"),
        ("b.jsonl", '{"image": 5}\n', "no image in row 1"),
        ("c.jsonl", "[]\n", "no object in line 1"),
        ("d.jsonl", "{\n", "line 1"),
        ("e.csv", "image\n\udcff\n", "UTF-8"),
    ):
        (tmp_path / name).write_text(text, errors="surrogateescape")
        with pytest.raises(DatasetError, match=said):
            list_images([str(tmp_path / name)])
    (tmp_path / "f.parquet").write_bytes(b"PAR")
    with pytest.raises(DatasetError, match="no Parquet file"):
        list_images([str(tmp_path / "f.parquet")])


def test_videos_are_no_images_and_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _image(tmp_path / "deep" / "a.png")
    (tmp_path / "deep" / "b.mp4").touch()
    (tmp_path / "list.csv").write_text("image\ndeep/b.mp4\n")
    for source in ("deep/b.mp4", "deep/*.mp4", "list.csv"):
        with pytest.raises(ConfigError, match=r"b\.mp4 is a video, and only images are read here.*predict"):
            list_images([str(tmp_path / source)])
    assert len(list_images([str(tmp_path)])) == 1
    assert "are not taken with its images: b.mp4" in caplog.text
