"""COCO instances JSON as label tools write it: the right panoptic map, written by hand, for each quirk."""

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.data.check import CheckReport, check_source
from panoptic_deeplab.data.formats.coco_instances import CocoInstancesSource
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.errors import ConfigError, DatasetError

pytest.importorskip("pycocotools")

TABLE = CategoryTable(
    name="farm",
    categories=(
        Category(id=0, name="cat", isthing=True, color=(1, 2, 3)),
        Category(id=7, name="road", isthing=False, color=(4, 5, 6)),
        Category(id=90, name="rest", isthing=False, color=(7, 8, 9)),
    ),
    void_ids=(200,),
)
NAME = "street.rf.0a1b.jpg"
CATEGORIES = [
    {"id": 5, "name": "animals", "supercategory": "none"},  # a root that no annotation uses
    {"id": 0, "name": "cat", "supercategory": "animals"},
    {"id": 7, "name": "road", "supercategory": "animals"},
    {"id": 90, "name": "rest"},
]
LAYOUTS = [
    ("{split}/_annotations.coco.json", "{split}"),
    ("annotations/instances_{split}.json", "{split}"),
    ("annotations/instances_{split}.json", "images/{split}"),
    ("annotations/instances_{split}.json", "images"),
    ("{split}.json", "images"),
    ("{split}.json", "images/{split}"),
]


def box(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def write_set(
    root: Path,
    *annotations: dict[str, Any],
    layout: tuple[str, str] = LAYOUTS[1],
    names: tuple[str, ...] = (NAME,),
    encode: Callable[[str], bytes] = str.encode,
    **changes: Any,
) -> Path:
    """A split `val` of images of 3 x 5 pixels, the first of which has the annotations; its JSON."""
    json_path, folder = (root / text.format(split="val") for text in layout)
    json_path.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 3), (50, 60, 70)).save(path)
    data = {
        "images": [{"id": i + 1, "file_name": name, "height": 3, "width": 5} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": 1, **entry} for i, entry in enumerate(annotations)],
        "categories": CATEGORIES,
        **changes,
    }
    json_path.write_bytes(encode(json.dumps(data)))
    return json_path


def read(root: Path, table: CategoryTable = TABLE, **options: Any) -> CocoInstancesSource:
    return CocoInstancesSource(root, "val", table, **options)


def check_map(source: PanopticSource, expected: list[list[int]], *segments: tuple[int, int, bool]) -> None:
    """Hold the first image against a map and the `(id, category_id, iscrowd)` of its segments."""
    sample = source[0]
    assert sample.panoptic_map is not None
    assert sample.panoptic_map.tolist() == expected
    assert [(s.id, s.category_id, s.iscrowd) for s in sample.segments_info] == list(segments)


def check(source: PanopticSource, problems: Problems | None = None) -> CheckReport:
    return check_source(source, labels_needed=True, instances_needed=True, top_k=9, max_detections=9, problems=problems)


ROAD = {"category_id": 7, "segmentation": [box(0, 1, 5, 2)], "iscrowd": 0}
CAT = {"category_id": 0, "segmentation": [box(1, 0, 2, 2)]}  # neither iscrowd nor area


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layouts_of_label_tools(tmp_path: Path, layout: tuple[str, str]) -> None:
    write_set(tmp_path, CAT, ROAD, layout=layout)
    data = DataConfig(format="coco_instances", root=str(tmp_path))
    (tmp_path / "table.json").write_text(json.dumps(TABLE.to_json()))
    source = open_source(DataConfig(**{**vars(data), "categories": str(tmp_path / "table.json")}), "val")
    assert list(source.image_ids) == ["1"]  # type: ignore[attr-defined]
    assert source[0].image_path == (tmp_path / layout[1].format(split="val") / NAME).resolve()
    check_map(source, [[0, 1, 1, 0, 0], [2, 1, 1, 2, 2], [2, 2, 2, 2, 2]], (1, 0, False), (2, 7, False))


def test_label_studio_names_images_from_the_root(tmp_path: Path) -> None:
    write_set(tmp_path, CAT, layout=("{split}.json", "."), names=("images\\1\\street.jpg",))
    check_map(read(tmp_path), [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], (1, 0, False))


def test_sub_folders_and_images_without_annotations(tmp_path: Path) -> None:
    write_set(tmp_path, CAT, names=("a/street.JPG", "b\\street.jpg"))
    source = read(tmp_path)
    assert source[0].image_path == (tmp_path / "val/a/street.JPG").resolve()
    second = source[1].panoptic_map
    assert second is not None
    assert (second == 0).all()
    assert source[1].segments_info == []


def test_parts_run_lengths_and_crowds(tmp_path: Path) -> None:
    write_set(
        tmp_path,
        {"category_id": 0, "segmentation": [box(0, 0, 1, 1), box(4, 0, 1, 1)]},
        {"category_id": 0, "segmentation": {"size": [3, 5], "counts": [4, 1, 2, 1, 7]}},
        {"category_id": 0, "segmentation": {"size": [3, 5], "counts": "5141O"}, "iscrowd": 1},
    )
    check_map(
        read(tmp_path), [[1, 0, 0, 0, 1], [0, 2, 2, 3, 0], [0, 3, 0, 3, 0]], (1, 0, False), (2, 0, False), (3, 0, True)
    )


def test_several_polygons_of_one_stuff_class_are_one_segment(tmp_path: Path) -> None:
    parts = [{"category_id": 7, "segmentation": [box(x, 0, 1, 3)]} for x in (0, 2, 4)]
    write_set(tmp_path, CAT, *parts)
    check_map(
        read(tmp_path, overlap="file"),
        [[2, 1, 2, 0, 2], [2, 1, 2, 0, 2], [2, 0, 2, 0, 2]],
        (1, 0, False),
        (2, 7, False),
    )


def test_what_is_outside_or_empty_makes_no_segment(tmp_path: Path) -> None:
    write_set(
        tmp_path,
        {"category_id": 0, "segmentation": []},
        {"category_id": 0, "segmentation": [box(9, 9, 4, 4)]},
        {"category_id": 0, "segmentation": [box(3.4, -4, 99, 6)]},
        {"category_id": 200, "segmentation": [box(0, 0, 1, 3)]},  # void, as the table says
    )
    problems = Problems()
    source = read(tmp_path, problems=problems)
    check_map(source, [[0, 0, 0, 3, 3], [0, 0, 0, 3, 3], [0, 0, 0, 0, 0]], (3, 0, False))
    report = check(source, problems)
    text = " ".join(finding.message for finding in report.findings)
    assert report.ok
    assert "an empty `segmentation` and so without a pixel: 1, the first is annotations[0] (image 1)" in text
    assert "Annotations that cover no pixel of their image (empty, outside, thinner than a pixel): 2, the" in text


def test_overlaps_are_counted(tmp_path: Path) -> None:
    write_set(tmp_path, CAT, ROAD, {"category_id": 7, "segmentation": [box(1, 1, 1, 1)]})
    source = read(tmp_path, overlap="file")
    report = check(source)
    assert report.statistics.overlap_share == 2 / 15
    assert report.to_json()["statistics"]["overlap_share"] == 2 / 15
    assert "13.33% of the pixels" in report.table()
    write_set(tmp_path, CAT, {**CAT, "segmentation": [box(0, 0, 5, 3)]})
    report = check(read(tmp_path, overlap="file"))
    assert (
        "are covered by others completely, and not seen: 1, the first is annotations[0]" in report.findings[0].message
    )


@pytest.mark.parametrize(
    "folder", ["semantic/val", "semantic", "stuffthingmaps/val", "annotations/stuff_val_pixelmaps"]
)
def test_stuff_as_a_folder_of_maps(tmp_path: Path, folder: str) -> None:
    write_set(tmp_path, CAT)
    (tmp_path / folder).mkdir(parents=True)
    values = np.array([[7, 7, 7, 7, 7], [200, 200, 200, 0, 7], [200, 200, 200, 0, 7]], np.uint8)
    Image.fromarray(values).save(tmp_path / folder / NAME.replace(".jpg", ".png"))
    check_map(
        read(tmp_path),
        [[3, 1, 1, 3, 3], [0, 1, 1, 2, 3], [0, 0, 0, 2, 3]],
        (1, 0, False), (2, 0, True), (3, 7, False),
    )  # fmt: skip


def test_what_nobody_annotated_can_be_a_class(tmp_path: Path) -> None:
    write_set(tmp_path, CAT, names=(NAME, "other.jpg"))
    table = CategoryTable.from_json({**TABLE.to_json(), "unlabeled": "rest"})
    source = read(tmp_path, table)
    check_map(source, [[2, 1, 1, 2, 2], [2, 1, 1, 2, 2], [2, 2, 2, 2, 2]], (1, 0, False), (2, 90, False))
    assert [(s.name, s.area) for s in source[1].segments_info] == [("rest", 15)]


def test_categories_of_one_name_are_told_apart(tmp_path: Path) -> None:
    rows = [*CATEGORIES, {"id": 3, "name": "cat"}]
    write_set(tmp_path, CAT, {**ROAD, "category_id": 3}, categories=rows)
    with pytest.raises(DatasetError, match=r"annotations\[1\] \(image 1\) has category id 3, which the table 'farm'"):
        read(tmp_path)
    other = Category(id=3, name="other cat", isthing=True, color=(9, 9, 9), dataset_ids=(3,), dataset_names=("cat",))
    problems = Problems()
    source = read(tmp_path, CategoryTable(name="farm", categories=(*TABLE.categories, other)), problems=problems)
    problems.raise_any()
    assert "several categories named 'cat': 0 (1 annotations), 3 (1 annotations)" in problems.warnings[0]
    assert [(s.category_id, s.name) for s in source[0].segments_info] == [(0, "cat"), (3, "other cat")]


def test_a_list_of_images_has_no_labels(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    data = json.loads(path.read_text())
    del data["annotations"]
    path.write_text(json.dumps(data))
    assert read(tmp_path)[0].panoptic_map is None


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    ],
)
def test_encodings_of_windows(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    write_set(tmp_path, CAT, encode=encode)
    assert len(read(tmp_path)[0].segments_info) == 1


def test_one_sentence_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    path = write_set(tmp_path, CAT, encode=lambda text: text.replace("cat", "caté").encode("latin-1"))
    with pytest.raises(DatasetError, match=r"instances_val.json is no text in UTF-8"):
        read(tmp_path)
    path.write_text(json.dumps([1]))
    with pytest.raises(DatasetError, match=r"is no instances JSON. Expected an object with the lists `images`"):
        read(tmp_path)
    with pytest.raises(DatasetError, match=r"Split 'test' is not in .*test/_annotations.coco.json, annotations/inst"):
        CocoInstancesSource(tmp_path, "test", TABLE)
    write_set(tmp_path, CAT, layout=LAYOUTS[0])
    with pytest.raises(DatasetError, match=r"_annotations.coco.json and .*instances_val.json both list split 'val'"):
        read(tmp_path)
    with pytest.raises(ConfigError, match=r"data.overlap is z_order, but this format has none"):
        read(tmp_path, overlap="z_order")


WRONG: list[tuple[dict[str, Any] | Any, str]] = [
    ("x", "is no object, but 'x'"),
    ({"category_id": 0, "segmentation": [], "image_id": None}, "has the `image_id` null"),
    ({"category_id": 0, "segmentation": [], "image_id": 99}, "is an annotation for image 99, which is not among"),
    ({"category_id": "0", "segmentation": []}, "(image 1) has the `category_id` '0'. Expected an integer"),
    ({"segmentation": []}, "(image 1) has no `category_id`"),
    ({"category_id": 41, "segmentation": []}, "(image 1) has category id 41, which the table 'farm' lists neither"),
    ({**CAT, "iscrowd": 2}, "(image 1) has the `iscrowd` 2. Expected 0 or 1"),
    ({"category_id": 0}, "(image 1) has no `segmentation`. Expected polygons"),
    ({"category_id": 0, "segmentation": None}, "(image 1) has the `segmentation` null. Expected polygons"),
    ({"category_id": 0, "segmentation": [[1, 2, 3, 4]]}, "(image 1) has a polygon of 4 numbers"),
    ({"category_id": 0, "segmentation": box(0, 0, 1, 1)}, "(image 1) has a polygon that is no list of numbers, but 0"),
    ({"category_id": 0, "segmentation": {"counts": [15]}}, "(image 1) has run lengths of the size null"),
    (
        {"category_id": 0, "segmentation": {"size": [5, 3], "counts": [15]}},
        "(image 1) has run lengths of the size 5 x 3 (height x width), but its image has 3 x 5",
    ),
    ({"category_id": 0, "segmentation": {"size": [3, 5], "counts": [14]}}, "(image 1) has run lengths of 14 pixels"),
    ({"category_id": 0, "segmentation": {"size": [3, 5]}}, "(image 1) has the run lengths null"),
]


@pytest.mark.parametrize(("entry", "message"), WRONG)
def test_a_wrong_annotation_among_many_is_named(tmp_path: Path, entry: Any, message: str) -> None:
    path = write_set(tmp_path, *[CAT] * 700)
    data = json.loads(path.read_text())
    data["annotations"][567] = {"image_id": 1, **entry} if isinstance(entry, dict) else entry
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError) as caught:
        read(tmp_path)
    assert f"{path}: annotations[567] {message}" in str(caught.value)


def test_a_check_names_all_faults_in_one_run(tmp_path: Path) -> None:
    path = write_set(tmp_path, names=(NAME, "b.jpg", "C.JPG", "d.jpg", "e.jpg"), annotations=[
        {"image_id": 1, **entry} if isinstance(entry, dict) else entry for entry, _ in WRONG
    ])  # fmt: skip
    data = json.loads(path.read_text())
    data["images"][1]["file_name"] = "gone.jpg"
    data["images"][2]["file_name"] = "c.jpg"
    data["images"][3]["file_name"] = "C:\\Users\\me\\d.jpg"
    data["images"].append({"id": 6})
    path.write_text(json.dumps(data))
    problems = Problems()
    source = read(tmp_path, problems=problems)
    report = check(source, problems)
    text = "\n".join(finding.message for finding in report.findings)
    for number, (_, message) in enumerate(WRONG):
        alike = f"The same is wrong with annotations[{number}] (image 1)."
        assert (alike if number in (4, 8) else f"{path}: annotations[{number}] {message}") in text
    assert f"{path}: image 2 names the file 'gone.jpg', which is not in {tmp_path / 'val'}" in text
    assert f"image 3 names the file 'c.jpg', but the file in {tmp_path / 'val'} is 'C.JPG'. Expected the same" in text
    assert "images[3] (image 4) names the file 'C:\\\\Users\\\\me\\\\d.jpg', which lies outside of" in text
    assert "images[5] (image 6) has no `file_name`" in text
    assert f"There are images in {tmp_path / 'val'} that {path} does not list: C.JPG and 2 more" in text
    assert report.statistics.images == 1  # image 5 has no fault


def test_boxes_alone_are_no_segmentation(tmp_path: Path) -> None:
    write_set(tmp_path, *[{"category_id": 0, "segmentation": [], "bbox": [0, 0, 1, 1]}] * 3)
    with pytest.raises(DatasetError, match=r"annotations\[0\] \(image 1\) has an empty `segmentation`, as all annot"):
        read(tmp_path)


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    segmentation = {"size": [3, 4], "counts": [12]}
    images = [{"id": 1, "file_name": NAME, "width": 4, "height": 3}]
    write_set(tmp_path, {"category_id": 0, "segmentation": segmentation}, images=images)
    with pytest.raises(DatasetError, match=r"says that image 1 has the `width` 4, but .* has 5"):
        read(tmp_path)[0]
    write_set(tmp_path, {"category_id": 0, "segmentation": segmentation}, images=[{"id": 1, "file_name": NAME}])
    with pytest.raises(DatasetError, match=r"annotations\[0\] \(image 1\) has run lengths of the size 3 x 4"):
        read(tmp_path)[0]


def test_each_image_needs_its_map_of_stuff(tmp_path: Path) -> None:
    write_set(tmp_path, CAT)
    (tmp_path / "semantic").mkdir()
    with pytest.raises(DatasetError, match=r"image 1 has no map 'street.rf.0a1b.png' in .*semantic. Add it"):
        read(tmp_path)
