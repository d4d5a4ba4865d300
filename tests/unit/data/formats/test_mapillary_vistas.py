"""Mapillary Vistas: two versions, two layouts, two kinds of labels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.data.formats.mapillary_vistas import MapillaryVistasSource
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import id_to_rgb

TABLES = {version: CategoryTable.load(f"mapillary_vistas_{version}") for version in ("v1.2", "v2.0")}
PANOPTIC_JSON = {"v1.2": "panoptic_2018.json", "v2.0": "panoptic_2020.json"}
NOT_EVALUATED = {"v1.2": {65}, "v2.0": {2, 31, 38, 79, 86, 96, 115, 123}}
BIRD, CAR, ROAD, UNLABELED = "Bird", "Car", "Road", "Unlabeled"
NAMES = [BIRD, BIRD, CAR, CAR, ROAD, UNLABELED]
NUMBERS = [0, 1, 0, 255, 0, 0]
"""A row of six pixels: birds 0 and 1, cars 0 and 255 (the largest number), road, unlabeled."""


def labels_of(version: str) -> list[dict[str, Any]]:
    """The list of the `config` file: the table's categories, and those that are not evaluated at their places."""
    labels: list[dict[str, Any]] = []
    categories = iter(TABLES[version].categories)
    for place in range(len(TABLES[version]) + len(NOT_EVALUATED[version])):
        if place in NOT_EVALUATED[version]:
            name = UNLABELED if place in (65, 123) else f"void {place}"
            labels.append({"readable": name, "instances": place in (79, 96), "evaluate": False})
        else:
            category = next(categories)
            labels.append({"readable": category.name, "instances": category.isthing, "evaluate": True})
    return labels


def place_of(version: str, name: str) -> int:
    return [label["readable"] for label in labels_of(version)].index(name)


def write_images(root: Path, split: str, image_id: str = "abc") -> None:
    (root / split / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 1), (9, 9, 9)).save(root / split / "images" / f"{image_id}.jpg")


def write_config(root: Path, version: str, *, old_layout: bool = False) -> None:
    name = "config.json" if old_layout else f"config_{version}.json"
    (root / name).write_text(json.dumps({"labels": labels_of(version), "version": version[1:]}))


def write_instances(folder: Path, version: str, image_id: str = "abc") -> None:
    values = [256 * place_of(version, name) + number for name, number in zip(NAMES, NUMBERS, strict=True)]
    (folder / "instances").mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values], np.uint16)).save(folder / "instances" / f"{image_id}.png")


def write_panoptic(folder: Path, version: str, image_id: str = "abc") -> None:
    """Segments with any ids, as the data set numbers them, and category ids that count evaluated labels from 1."""
    ids = [5, 70_000, 6, 7, 8, 0]
    (folder / "panoptic").mkdir(parents=True, exist_ok=True)
    Image.fromarray(id_to_rgb(np.array([ids], np.int32))).save(folder / "panoptic" / f"{image_id}.png")
    id_of = {category.name: category.id for category in TABLES[version].categories}
    segments = [
        {"id": i, "category_id": id_of[name], "iscrowd": 0, "area": 1} for i, name in zip(ids, NAMES, strict=True) if i
    ]
    rows = [{"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in TABLES[version].categories]
    data = {
        "images": [{"id": image_id, "file_name": f"{image_id}.jpg", "height": 1, "width": 6}],
        "annotations": [{"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": segments}],
        "categories": rows,
    }
    (folder / "panoptic" / PANOPTIC_JSON[version]).write_text(json.dumps(data))


def regions(sample: Sample) -> list[tuple[str, bool, bool, list[int]]]:
    """Segments as sets of pixels, since the two kinds of labels number them differently."""
    assert sample.panoptic_map is not None
    return sorted(
        (s.name, s.isthing, s.iscrowd, np.flatnonzero(sample.panoptic_map[0] == s.id).tolist())
        for s in sample.segments_info
    )


EXPECTED = [
    (BIRD, True, False, [0]),
    (BIRD, True, False, [1]),
    (CAR, True, False, [2]),
    (CAR, True, False, [3]),
    (ROAD, False, False, [4]),
]


def test_tables_have_the_published_numbers_of_classes() -> None:
    for version, things, stuff in (("v1.2", 37, 28), ("v2.0", 70, 46)):
        table = TABLES[version]
        assert [category.id for category in table.categories] == list(range(1, things + stuff + 1))
        assert int(table.thing_mask.sum()) == things
        assert len(labels_of(version)) == {"v1.2": 66, "v2.0": 124}[version]
    assert TABLES["v1.2"][55].name == TABLES["v2.0"][102].name == CAR
    assert TABLES["v2.0"].categories[94].name == "Traffic Sign (Front)"  # id 95 in other people's code


@pytest.mark.parametrize("labels", [("instances",), ("panoptic",), ("instances", "panoptic")])
@pytest.mark.parametrize(("version", "old_layout"), [("v1.2", True), ("v1.2", False), ("v2.0", False)])
def test_layouts_versions_and_labels_agree(
    tmp_path: Path, version: str, old_layout: bool, labels: tuple[str, ...]
) -> None:
    write_images(tmp_path, "training")
    write_config(tmp_path, version, old_layout=old_layout)
    folder = tmp_path / "training" if old_layout else tmp_path / "training" / version
    writers = {"instances": write_instances, "panoptic": write_panoptic}
    for kind in labels:
        writers[kind](folder, version)
    for split in ("train", "training"):
        source = MapillaryVistasSource(tmp_path, split, TABLES[version])
        assert list(source.image_ids) == ["abc"]
        sample = source[0]
        assert (sample.image_id, sample.size) == ("abc", (1, 6))
        assert regions(sample) == EXPECTED
        assert (sample.panoptic_map == 0).sum() == 1
    ids = sorted(s.id for s in sample.segments_info)
    assert (ids == [5, 6, 7, 8, 70_000]) == ("panoptic" in labels)
    assert (1 in ids) == ("panoptic" not in labels)  # bird 0, whose value in the file is 0


def test_the_table_chooses_the_version(tmp_path: Path) -> None:
    write_images(tmp_path, "training")
    for version in ("v1.2", "v2.0"):
        write_config(tmp_path, version)
        write_instances(tmp_path / "training" / version, version)
    for version, table in TABLES.items():
        data = DataConfig(format="mapillary_vistas", root=str(tmp_path), categories=f"mapillary_vistas_{version}")
        source = open_source(data, data.train_split)
        assert source.categories == table
        assert regions(source[0]) == EXPECTED
    with pytest.raises(DatasetError, match=r"labels of version v1.2 and v2.0, but the table 'coco' is of none"):
        MapillaryVistasSource(tmp_path, "train", CategoryTable.load("coco"))


def test_a_merged_table(tmp_path: Path) -> None:
    write_images(tmp_path, "training")
    write_config(tmp_path, "v1.2")
    write_instances(tmp_path / "training" / "v1.2", "v1.2")
    things = tuple(c.id for c in TABLES["v1.2"].categories if c.isthing)
    stuff = tuple(c.id for c in TABLES["v1.2"].categories if not c.isthing)
    table = CategoryTable(
        name="two",
        categories=(
            Category(id=1, name="thing", isthing=True, color=(1, 2, 3), dataset_ids=things[2:]),
            Category(id=2, name="stuff", isthing=False, color=(4, 5, 6), dataset_ids=stuff),
        ),
        void_ids=things[:2],  # bird and ground animal
    )
    sample = MapillaryVistasSource(tmp_path, "train", table)[0]
    assert regions(sample) == [
        ("stuff", False, False, [4]),
        ("thing", True, False, [2]),
        ("thing", True, False, [3]),
    ]
    without = CategoryTable(name="two", categories=table.categories)
    with pytest.raises(DatasetError, match=r"table 'two' is of none"):
        MapillaryVistasSource(tmp_path, "train", without)


def test_version_1_2_needs_no_config_and_2_0_does(tmp_path: Path) -> None:
    for version in ("v1.2", "v2.0"):
        write_images(tmp_path, "training")
        write_instances(tmp_path / "training" / version, version)
    assert regions(MapillaryVistasSource(tmp_path, "train", TABLES["v1.2"])[0]) == EXPECTED
    with pytest.raises(DatasetError, match=r"config_v2.0.json does not exist"):
        MapillaryVistasSource(tmp_path, "train", TABLES["v2.0"])


@pytest.mark.parametrize("split", ["test", "testing"])
def test_test_split_has_images_alone(tmp_path: Path, split: str) -> None:
    write_images(tmp_path, "testing", "b")
    write_images(tmp_path, "testing", "a")
    source = MapillaryVistasSource(tmp_path, split, TABLES["v1.2"])
    assert list(source.image_ids) == ["a", "b"]
    sample = source[1]
    assert (sample.image_id, sample.panoptic_map, sample.segments_info) == ("b", None, [])


def no_labels(root: Path) -> None:
    (root / "training" / "v1.2" / "instances" / "abc.png").unlink()


def wrong_value(root: Path) -> None:
    label = Image.fromarray(np.full((1, 6), 256 * 66, np.uint16))
    label.save(root / "training" / "v1.2" / "instances" / "abc.png")


def wrong_size(root: Path) -> None:
    Image.fromarray(np.zeros((2, 6), np.uint16)).save(root / "training" / "v1.2" / "instances" / "abc.png")


def change_config(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        data = json.loads((root / "config_v1.2.json").read_text())
        change(data)
        (root / "config_v1.2.json").write_text(json.dumps(data))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_labels, r"no labels .*v1.2/instances/\*.png, and no panoptic JSON"),
        (wrong_value, r"abc.png has the value 16896, which is label 66. Expected labels 0 to 65"),
        (wrong_size, r"abc.png has the size \(height, width\) \(2, 6\).*\(1, 6\)"),
        (lambda root: (root / "training" / "images" / "abc.jpg").unlink(), r"no images .*training/images/\*.jpg"),
        (
            lambda root: write_images(root, "training", "new"),
            r"images/new.jpg is there, but its label is not",
        ),
        (
            lambda root: write_instances(root / "training" / "v1.2", "v1.2", "old"),
            r"instances/old.png is there, but its image is not",
        ),
        (change_config(lambda data: data["labels"][2].update(readable="Kerb")), r"calls category 3 'Kerb'.*'Curb'"),
        (change_config(lambda data: data["labels"][2].update(instances=True)), r"'Curb' \(thing\).*'Curb' \(stuff\)"),
        (change_config(lambda data: data["labels"].pop(2)), r"has 64 labels that are evaluated. Expected the 65"),
        (change_config(lambda data: data.pop("labels")), r"is no configuration of Mapillary Vistas"),
        (change_config(lambda data: data["labels"][0].pop("evaluate")), r"is no configuration of Mapillary Vistas"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    write_images(tmp_path, "training")
    write_config(tmp_path, "v1.2")
    write_instances(tmp_path / "training" / "v1.2", "v1.2")
    damage(tmp_path)
    with pytest.raises(DatasetError, match=message):
        list(MapillaryVistasSource(tmp_path, "train", TABLES["v1.2"]))


def test_a_split_without_any_labels_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "training")
    with pytest.raises(DatasetError, match=r"no labels of split 'training'. Expected folders v1.2, v2.0"):
        MapillaryVistasSource(tmp_path, "train", TABLES["v1.2"])


def test_a_panoptic_json_that_misses_an_image_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "training")
    write_panoptic(tmp_path / "training", "v1.2")
    write_images(tmp_path, "training", "new")
    with pytest.raises(DatasetError, match=r"panoptic_2018.json does not list 1 of the images.*new"):
        MapillaryVistasSource(tmp_path, "train", TABLES["v1.2"])


def test_a_panoptic_json_of_another_numbering_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "training")
    write_panoptic(tmp_path / "training", "v1.2")
    path = tmp_path / "training" / "panoptic" / "panoptic_2018.json"
    data = json.loads(path.read_text())
    for row in data["categories"]:
        row["id"] += 1
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=r"calls category 2 'Bird'.*'Ground Animal'"):
        MapillaryVistasSource(tmp_path, "train", TABLES["v1.2"])
