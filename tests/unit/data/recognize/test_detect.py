"""Which format a folder looks like, its splits and classes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.recognize.detect import LOOKS, choose_format, choose_splits, find_formats, with_things
from panoptic_deeplab.data.sources import FORMATS as READERS
from panoptic_deeplab.errors import ConfigError, DatasetError


def write_instances(path: Path, categories: list[dict[str, Any]], used: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    annotations = [{"id": place, "image_id": 1, "category_id": id_} for place, id_ in enumerate(used)]
    path.write_text(json.dumps({"images": [], "annotations": annotations, "categories": categories}), "utf-8")


def test_every_format_that_is_detected_has_a_reader() -> None:
    assert set(LOOKS) <= set(READERS)


def test_coco_panoptic(tmp_path: Path) -> None:
    scenes = SyntheticSource(1, size=(32, 32))
    for split in ("train", "val"):
        write_coco_panoptic(scenes, tmp_path, split)
    (found,) = find_formats(tmp_path)
    assert (found.format, list(found.splits)) == ("coco_panoptic", ["train", "val"])
    classes = found.classes()
    assert classes.things_known
    expected = [(c.id, c.name, c.isthing) for c in scenes.categories.categories]
    assert [(c.id, c.name, c.isthing) for c in classes.table.categories] == expected


@pytest.mark.parametrize("path", ["{}/_annotations.coco.json", "annotations/instances_{}.json"])
def test_coco_instances_takes_the_classes_that_are_used(tmp_path: Path, path: str) -> None:
    rows = [{"id": 0, "name": "root"}, {"id": 3, "name": "car"}, {"id": 4, "name": "car"}, {"name": "no id"}]
    write_instances(tmp_path / path.format("train"), rows, [3])
    write_instances(tmp_path / path.format("valid"), rows, [4, 3])
    found, others = choose_format(tmp_path)
    assert (found.format, list(found.splits), others) == ("coco_instances", ["train", "valid"], [])
    classes = found.classes()
    assert [(c.id, c.name) for c in classes.table.categories] == [(3, "car"), (4, "car (4)")]
    assert not classes.things_known
    table = with_things(classes, ["car"])
    assert [c.isthing for c in table.categories] == [True, False]
    assert len({c.color for c in table.categories}) == 2
    assert table.unlabeled is None
    all_things = with_things(classes, ["car", "car (4)"])
    assert [(c.id, c.name, c.isthing) for c in all_things.categories][2:] == [(5, "background", False)]
    assert all_things.unlabeled == "background"
    with pytest.raises(
        ConfigError, match=r"names 'cat', which is no class of the set. Choose from: 'car', 'car \(4\)'"
    ):
        with_things(classes, ["cat"])


def test_folder_with_instances_and_with_semantic(tmp_path: Path) -> None:
    for kind in ("images", "instances"):
        (tmp_path / kind).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / kind / "a.png")
    (tmp_path / "train.txt").write_text("a")
    (tmp_path / "README.txt").write_text("no list")
    (found,) = find_formats(tmp_path)
    assert (found.format, list(found.splits)) == ("folder", ["train"])
    assert [(c.name, c.isthing) for c in found.classes().table.categories] == [("object", True), ("background", False)]
    (tmp_path / "semantic").mkdir()
    Image.fromarray(np.array([[7, 200]], np.uint8)).save(tmp_path / "semantic" / "a.png")
    classes = find_formats(tmp_path)[0].classes()
    assert [(c.id, c.name) for c in classes.table.categories] == [(7, "class 7"), (200, "class 200")]


def test_one_mask_an_object(tmp_path: Path) -> None:
    root = tmp_path / "kaggle"
    for name in ("stage1_train/a", "stage1_test/b"):
        (root / name / "images").mkdir(parents=True)
    assert LOOKS["object_masks"](root) is None
    (root / "stage1_train" / "a" / "masks").mkdir()
    found, others = choose_format(root)
    assert (found.format, list(found.splits), found.root, others) == ("object_masks", ["stage1_train"], root, [])
    assert found.classes().table.unlabeled == "background"
    split = choose_format(root / "stage1_train")[0]
    assert (list(split.splits), split.root) == (["stage1_train"], root)
    assert choose_splits(split.splits) == ("stage1_train", None)


def test_packaged_tables_of_known_sets(tmp_path: Path) -> None:
    for folder in ("leftImg8bit", "gtFine"):
        for split in ("train", "val"):
            (tmp_path / folder / split / "city").mkdir(parents=True)
    found, _ = choose_format(tmp_path)
    assert (found.format, list(found.splits)) == ("cityscapes", ["train", "val"])
    assert found.classes().table.name == "cityscapes"


def test_what_it_could_be_otherwise(tmp_path: Path) -> None:
    write_coco_panoptic(SyntheticSource(1, size=(32, 32)), tmp_path, "train")
    write_instances(tmp_path / "annotations" / "instances_train.json", [{"id": 1, "name": "car"}], [1])
    found, (other,) = choose_format(tmp_path)
    assert (found.format, other.format) == ("coco_panoptic", "coco_instances")
    assert choose_format(tmp_path, "coco_instances")[0].format == "coco_instances"
    with pytest.raises(DatasetError, match=r"not look like the format .folder.\. Choose from: coco_panoptic, coco_"):
        choose_format(tmp_path, "folder")


def test_a_folder_of_nothing_is_told_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="looks like no format that is read here") as caught:
        find_formats(tmp_path)
    assert all(name in str(caught.value) for name in LOOKS)


@pytest.mark.parametrize(
    ("splits", "chosen"),
    [
        (["dev", "train"], ("train", "dev")),
        (["test", "train", "valid"], ("train", "valid")),
        (["train2017", "val2017"], ("train2017", "val2017")),
        (["all"], ("all", None)),
        (["val"], ("val", None)),
    ],
)
def test_splits_by_name(splits: list[str], chosen: tuple[str, str | None]) -> None:
    assert choose_splits(splits) == chosen


def test_splits_that_say_nothing_are_asked_for() -> None:
    with pytest.raises(DatasetError, match=r"a, b do not say .* --train-split"):
        choose_splits(["a", "b"])
    with pytest.raises(DatasetError, match="do not say"):
        choose_splits(["a", "b"], "a", "a")
    assert choose_splits(["a", "b"], "b", "a") == ("b", "a")
    assert choose_splits(["train", "left"], None, "left") == ("train", "left")
