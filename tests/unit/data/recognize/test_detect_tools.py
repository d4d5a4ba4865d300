"""What label tools leave is found, and the reader opens what was found, with the table that was written."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.data.recognize.detect import find_formats, with_things
from panoptic_deeplab.data.sources import open_source

CORNERS = [[2.0, 3.0], [9.0, 3.0], [9.0, 8.0], [2.0, 8.0]]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (90, 120, 30)).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")


def test_what_lies_beside_the_labels_hides_none_of_them(tmp_path: Path) -> None:
    text(tmp_path / "a.json", labelme_json("a.jpg"))
    (tmp_path / "._a.json").write_bytes(b"\0\5\x16\7")  # of macOS
    for name in ("a.jpg", "a_mask.jpg"):  # a drawing of the labels, whose colors a JPEG has changed
        Image.effect_noise((16, 12), 60).save(tmp_path / name)
    assert find_formats(tmp_path)[0].format == "labelme"


def labelme_json(name: str) -> str:
    shape = {"label": "cat", "points": CORNERS, "shape_type": "polygon", "group_id": None, "flags": {}}
    size = {"imageHeight": 12, "imageWidth": 16}
    return json.dumps({"shapes": [shape], "imagePath": name, "imageData": None, **size})


def cvat_xml(name: str, subset: str = "") -> str:
    points = ";".join(f"{x},{y}" for x, y in CORNERS)
    subset = f' subset="{subset}"' if subset else ""
    image = f'<image id="0" name="{name}" width="16" height="12"{subset}>'
    return f'<annotations>{image}<polygon label="cat" points="{points}"/></image></annotations>'


def labelme(root: Path) -> None:
    for split in ("train", "val"):
        picture(root / split / "a.jpg")
        text(root / split / "a.json", labelme_json("a.jpg"))


def one_folder_of_labelme(root: Path) -> None:
    picture(root / "a.jpg")
    text(root / "a.json", labelme_json("a.jpg"))


def cvat(root: Path) -> None:
    for split in ("train", "val"):
        picture(root / "images" / f"{split}.png")
        text(root / f"{split}.xml", cvat_xml(f"{split}.png"))


def cvat_with_subsets(root: Path) -> None:
    picture(root / "images" / "a.png")
    picture(root / "images" / "b.png")
    one, other = cvat_xml("a.png", "train"), cvat_xml("b.png", "val")
    text(root / "annotations.xml", one.removesuffix("</annotations>") + other.removeprefix("<annotations>"))


def one_task_of_cvat(root: Path) -> None:
    picture(root / "images" / "a.png")
    text(root / "annotations.xml", cvat_xml("a.png"))


def yolo(root: Path) -> None:
    text(root / "data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\n")
    for split in ("train", "val"):
        picture(root / "images" / split / "a.jpg")
        corners = " ".join(f"{x / 16} {y / 12}" for x, y in CORNERS)
        text(root / "labels" / split / "a.txt", f"0 {corners}\n")


def yolo_of_roboflow(root: Path) -> None:
    text(root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnames: [cat, dog]\n")
    for split in ("train", "valid"):
        picture(root / split / "images" / "a.jpg")
        corners = " ".join(f"{x / 16} {y / 12}" for x, y in CORNERS)
        text(root / split / "labels" / "a.txt", f"0 {corners}\n")


def mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.zeros((12, 16), np.uint8)
    numbers[3:8, 2:9] = 7
    Image.fromarray(numbers).save(path)


def stardist(root: Path) -> None:
    for split in ("train", "test"):
        for name in ("a.tif", "b.tif"):
            picture(root / split / "images" / name)
            mask(root / split / "masks" / name)


def masks_in_a_tree_of_their_own(root: Path) -> None:
    for split in ("train", "val"):
        picture(root / "images" / split / "a.png")
        mask(root / "masks" / split / "a.png")


def cellpose(root: Path) -> None:
    for split in ("train", "test"):
        picture(root / split / "000_img.png")
        mask(root / split / "000_masks.png")


@pytest.mark.parametrize(
    ("make", "format_", "splits", "classes"),
    [
        (labelme, "labelme", ["train", "val"], ["cat"]),
        (one_folder_of_labelme, "labelme", ["set"], ["cat"]),
        (cvat, "cvat", ["train", "val"], ["cat"]),
        (cvat_with_subsets, "cvat", ["train", "val"], ["cat"]),
        (one_task_of_cvat, "cvat", ["set"], ["cat"]),
        (yolo, "yolo", ["train", "val"], ["cat", "dog"]),
        (yolo_of_roboflow, "yolo", ["train", "valid"], ["cat", "dog"]),
        (stardist, "label_images", ["test", "train"], ["object", "background"]),
        (masks_in_a_tree_of_their_own, "label_images", ["train", "val"], ["object", "background"]),
        (cellpose, "label_images", ["test", "train"], ["object", "background"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_found_and_read(
    tmp_path: Path, make: Callable[[Path], None], format_: str, splits: list[str], classes: list[str]
) -> None:
    root = tmp_path / "set"
    root.mkdir()
    make(root)
    found, *others = find_formats(root)
    assert [other.format for other in others] == ["color_masks"] * (format_ == "label_images")  # numbers of classes
    assert (found.format, list(found.splits)) == (format_, splits)
    assert (found.root / found.evidence).is_file()
    known = found.classes()
    assert [category.name for category in known.table.categories] == classes
    table = known.table if known.things_known else with_things(known, classes)
    path = tmp_path / "categories.json"
    path.write_text(json.dumps(table.to_json()), "utf-8")
    data = DataConfig(format=found.format, root=str(found.root), categories=str(path))
    for split in splits:
        sample = open_source(replace(data, train_split=split), split)[0]
        things = [segment for segment in sample.segments_info if segment.isthing]
        assert [(segment.name, segment.area) for segment in things] == [(classes[0], 35)]
