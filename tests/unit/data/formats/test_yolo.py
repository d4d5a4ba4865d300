"""YOLO's segmentation labels."""

from pathlib import Path

import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.formats.yolo import YoloSource
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
LEFT, TOP = "1 0 0 .5 0 .5 1 0 1", "0 0 0 1 0 1 .5 0 .5"
YAML = "path: ../datasets/x\ntrain: images/train\nval: images/val\nnames:\n  0: road\n  1: car\n"


def write(root: Path, labels: dict[str, str | None], *, settings: str = YAML, place: str = "{}/train") -> Path:
    (root / "data.yaml").write_text(settings)
    images, texts = root / place.format("images"), root / place.format("labels")
    images.mkdir(parents=True, exist_ok=True)
    texts.mkdir(parents=True, exist_ok=True)
    for name, text in labels.items():
        Image.new("RGB", (4, 2)).save(images / f"{name}.JPG", format="JPEG")
        if text is not None:
            (texts / f"{name}.txt").write_text(text)
    return texts


def problems_of(root: Path) -> Problems:
    problems = Problems()
    YoloSource(root, "train", TABLE, problems=problems)
    return problems


def test_polygons_in_parts_of_the_sides(tmp_path):
    texts = write(tmp_path, {"a": f"{TOP}\n\n{LEFT}\n"})
    sample = YoloSource(tmp_path, "train", TABLE)[0]
    assert sample.panoptic_map.tolist() == [[2, 2, 1, 1], [2, 2, 0, 0]]
    assert [(s.name, s.area) for s in sample.segments_info] == [("road", 2), ("car", 4)]
    (texts / "a.txt").write_text(f"{TOP}\r\n{LEFT}", "utf-16")
    assert YoloSource(tmp_path, "train", TABLE)[0].panoptic_map.tolist() == sample.panoptic_map.tolist()


def test_the_layout_and_names_of_roboflow(tmp_path):
    settings = "train: ../valid/images\nval: ../train/images\nnames: ['road', 'car']\n"
    write(tmp_path, {"a": LEFT}, settings=settings, place="train/{}")
    assert len(YoloSource(tmp_path, "valid", TABLE)[0].segments_info) == 1  # its folder is what `val` says


def test_names_in_a_list(tmp_path):
    write(tmp_path, {"a": LEFT})
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(DatasetError, match=r"does not name the classes. Expected data.yaml"):
        YoloSource(tmp_path, "train", TABLE)
    (tmp_path / "classes.txt").write_text("road\r\ncar\r\n")
    assert YoloSource(tmp_path, "train", TABLE)[0].segments_info[0].name == "car"
    (tmp_path / "data.yaml").write_text("names: 3\n")
    with pytest.raises(DatasetError, match=r"has the `names` 3"):
        YoloSource(tmp_path, "train", TABLE)


def test_images_without_a_file_have_no_object_and_are_counted(tmp_path):
    write(tmp_path, {"a": LEFT, "b": None})
    assert YoloSource(tmp_path, "train", TABLE)[1].panoptic_map.tolist() == [[0] * 4] * 2
    assert "1 of 2 images have no file in" in problems_of(tmp_path).warnings[0]
    (tmp_path / "labels" / "train" / "a.txt").unlink()
    assert YoloSource(tmp_path, "train", TABLE)[0].panoptic_map is None


def test_all_that_is_wrong_is_named_at_once(tmp_path):
    lines = ["1 .5 .5 .2 .2", "1 0 0 9 0 9 9", "7 0 0 1 0 1 1", "1 0 0 1 x 1 1", "1 0 0 1 1", "2 0 0 1 0 1 1", LEFT]
    texts = write(tmp_path, {"a": "\n".join(lines), "c": LEFT}, settings=f"{YAML}  2: cars\n")
    (texts / "b.txt").write_text(LEFT)
    (texts / "c.txt").write_bytes(b"1 0 \xff")
    messages = [message for message, _ in problems_of(tmp_path).messages()]
    expected = (
        "a.txt: line 1 is a box of 4 numbers",
        "a.txt: line 2 has corners outside of 0 to 1",
        "a.txt: line 3 has the class 7, which",
        "a.txt: line 4 is '1 0 0 1 x 1 1'",
        "a.txt: line 6 (class 2 in data.yaml) names the class 'cars', which the table 'street' does not have",
        "b.txt belongs to no image",
        "c.txt is no text in UTF-8",
    )
    assert len(messages) == len(expected)
    for part in expected:
        assert any(part in message for message in messages), part
    with pytest.raises(DatasetError, match=r"no images of split 'test'"):
        YoloSource(tmp_path, "test", TABLE)
