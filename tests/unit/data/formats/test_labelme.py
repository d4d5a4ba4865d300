"""LabelMe's JSON files."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.formats.labelme import LabelmeSource
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError

pytest.importorskip("pycocotools")

TABLE = CategoryTable(
    name="street",
    categories=(
        Category(id=4, name="car", isthing=True, color=(1, 1, 1)),
        Category(id=2, name="road", isthing=False, color=(2, 2, 2)),
    ),
)


def png(array) -> str:
    memory = io.BytesIO()
    Image.fromarray(np.asarray(array)).save(memory, "PNG")
    return base64.b64encode(memory.getvalue()).decode()


def shape(label: str, points: list, kind: str = "polygon", group: int | None = None, **others) -> dict:
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}, **others}


def write(root: Path, *shapes: dict, name: str = "a", image: bool = True, encoding: str = "utf-8", **others) -> Path:
    folder = root / "train"
    folder.mkdir(exist_ok=True)
    if image:
        Image.new("RGB", (6, 4)).save(folder / f"{name}.png")
    document = {"shapes": shapes, "imagePath": f"{name}.png", "imageData": None, "imageHeight": 4, "imageWidth": 6}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**document, **others}), encoding)
    return path


def read(root: Path, **options) -> list[list[int]]:
    return LabelmeSource(root, "train", TABLE, **options)[0].panoptic_map.tolist()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_shapes_of_every_kind(tmp_path, encoding):
    mask = shape("car", [[0, 2], [1, 3]], "mask", mask=png(np.array([[0, 255], [255, 0]], np.uint8)))
    circle = shape("car", [[5, 3], [5, 4]], "circle")
    polygon = shape("road", [[0, 0], [6, 0], [6, 1], [0, 1]])
    write(tmp_path, polygon, mask, shape("car", [[3, 4], [2, 2]], "rectangle"), circle, encoding=encoding)
    sample = LabelmeSource(tmp_path, "train", TABLE)[0]
    assert sample.panoptic_map.tolist() == [[1] * 6, [0] * 6, [0, 2, 3, 0, 4, 4], [2, 0, 3, 0, 4, 4]]
    assert [s.name for s in sample.segments_info] == ["road", "car", "car", "car"]


def test_groups_join_shapes_of_one_class(tmp_path):
    boxes = [shape(label, [[x, 0], [x + 1, 4]], "rectangle", 0) for label, x in (("car", 0), ("road", 2), ("car", 5))]
    write(tmp_path, *boxes)
    assert read(tmp_path) == [[1, 0, 2, 0, 0, 1]] * 4


def test_overlaps_follow_the_rule(tmp_path):
    write(tmp_path, shape("car", [[0, 0], [3, 4]], "rectangle"), shape("car", [[2, 0], [6, 4]], "rectangle"))
    assert read(tmp_path)[0] == [1, 1, 1, 2, 2, 2]
    assert read(tmp_path, overlap="file")[0] == [1, 1, 2, 2, 2, 2]


def test_an_image_that_is_in_the_json_alone(tmp_path):
    write(
        tmp_path,
        shape("car", [[0, 0], [6, 4]], "rectangle"),
        image=False,
        imageData=png(np.full((4, 6, 3), 9, np.uint8)),
    )
    sample = LabelmeSource(tmp_path, "train", TABLE)[0]
    assert (sample.image == 9).all()
    assert sample.image_path is None
    assert (sample.panoptic_map == 1).all()
    deep = np.full((4, 6), 3000, np.uint16)
    write(tmp_path, image=False, imageData=png(deep))
    assert np.array_equal(LabelmeSource(tmp_path, "train", TABLE)[0].pixels[..., 0], deep)  # as in a file of its own
    write(tmp_path, image=False, imageData="no picture")
    with pytest.raises(DatasetError, match="no image in `imageData` that can be read"):
        LabelmeSource(tmp_path, "train", TABLE)[0]


@pytest.mark.parametrize("name", ["..\\photos\\b.png", "../photos/b.png", "C:\\Users\\me\\b.png"])
def test_paths_as_windows_writes_them(tmp_path, name):
    write(tmp_path, image=False, imagePath=name)
    folder = tmp_path / ("train" if "C:" in name else "photos")
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (6, 4), (7, 7, 7)).save(folder / "b.png")
    assert (LabelmeSource(tmp_path, "train", TABLE)[0].image == 7).all()


def test_a_list_and_folders_of_their_own(tmp_path):
    write(tmp_path, name="a", image=False)
    write(tmp_path, name="b", image=False)
    (tmp_path / "train").rename(tmp_path / "annotations")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (6, 4)).save(tmp_path / "images" / "b.png")
    (tmp_path / "val.txt").write_text("images\\b.png\n")
    source = LabelmeSource(tmp_path, "val", TABLE)
    assert list(source.image_ids) == ["b"]
    assert source[0].size == (4, 6)
    (tmp_path / "val.txt").write_text("b\nb\nc\n")
    with pytest.raises(DatasetError, match=r"entry 2 lists 'b' twice.*one other kind"):
        LabelmeSource(tmp_path, "val", TABLE)
    with pytest.raises(DatasetError, match="Split 'test' is not in"):
        LabelmeSource(tmp_path, "test", TABLE)


def test_all_that_is_wrong_is_named_at_once(tmp_path):
    faulty = [
        shape("cars", [[0, 0], [3, 4]], "rectangle"),
        shape("car", [[0, 0]], "circle"),
        shape("car", [[0, 0], [1, 1]]),
        shape("car", [[0, 0], [1, 1]], "line"),
    ]
    write(tmp_path, *faulty)
    write(tmp_path, name="b", image=False)
    write(tmp_path, name="c").write_text("{")
    write(tmp_path, name="d").write_text("[]")
    Image.new("RGB", (6, 4)).save(tmp_path / "train" / "e.png")
    problems = Problems()
    LabelmeSource(tmp_path, "train", TABLE, problems=problems)
    messages = [message for message, _ in problems.messages()]
    expected = (
        "a.json: shapes[0] names the class 'cars', which the table 'street' does not have",
        "a.json: shapes[1] is no 'circle' that can be read",
        "a.json: shapes[2] has a polygon of 4 numbers",
        "b.json names the image 'b.png', which is not there",
        "c.json is not valid JSON",
        "d.json is no JSON of LabelMe",
        "e.png has no JSON of LabelMe",
    )
    assert len(messages) == len(expected)
    for part in expected:
        assert any(part in message for message in messages), part
    assert "1 of kind 'line', first" in problems.warnings[0]
