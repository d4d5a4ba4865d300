"""Entries of a panoptic JSON that are wrong: named with their place, all at once, and without hiding the others."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.check import check_source
from panoptic_deeplab.data.formats.coco_panoptic import CocoPanopticSource
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import id_to_rgb

TABLE = CategoryTable(
    name="farm",
    categories=(
        Category(id=17, name="cat", isthing=True, color=(1, 2, 3)),
        Category(id=149, name="road", isthing=False, color=(4, 5, 6)),
    ),
    void_ids=(200,),
)
LABEL = np.array([[300, 300, 0, 70_000], [300, 9, 9, 70_000]], np.int32)
SEGMENTS = [
    {"id": 300, "category_id": 17, "iscrowd": 0, "area": 3},
    {"id": 9, "category_id": 17, "iscrowd": 1, "area": 2},
    {"id": 70_000, "category_id": 149, "iscrowd": 0, "area": 2},
]
CHECK = {"labels_needed": True, "instances_needed": True, "top_k": 200, "max_detections": 100}


def make_set(root: Path, num_images: int = 4) -> dict[str, Any]:
    """A set of images 1, 2, ...; the contents of its JSON, to be changed and written."""
    for folder in ("val", "annotations/panoptic_val"):
        (root / folder).mkdir(parents=True)
    ids = range(1, num_images + 1)
    for i in ids:
        Image.new("RGB", (4, 2)).save(root / "val" / f"{i}.jpg")
        Image.fromarray(id_to_rgb(LABEL)).save(root / "annotations" / "panoptic_val" / f"{i}.png")
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in ids],
        "annotations": [
            {"image_id": i, "file_name": f"{i}.png", "segments_info": copy.deepcopy(SEGMENTS)} for i in ids
        ],
        "categories": [{"id": 17, "name": "cat", "isthing": 1}, {"id": 149, "name": "road", "isthing": 0}],
    }


def collect(root: Path, data: Any, table: CategoryTable = TABLE) -> tuple[CocoPanopticSource, Problems]:
    (root / "annotations" / "panoptic_val.json").write_text(json.dumps(data))
    problems = Problems()
    return CocoPanopticSource(root, "val", table, problems=problems), problems


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("category_id", 1.9, "1.9"),
        ("category_id", 17.0, "17.0"),
        ("category_id", "17", "'17'"),
        ("category_id", True, "true"),
        ("category_id", None, "null"),
        ("category_id", -1, "-1"),
        ("category_id", 10**30, "1000"),
        ("id", 300.5, "300.5"),
        ("id", "300", "'300'"),
        ("id", True, "true"),
        ("id", 0, "0"),
        ("id", 2**24, "16777216"),
        ("id", [300], r"\[300\]"),
        ("iscrowd", 0.9, "0.9"),
        ("iscrowd", 1.0, "1.0"),
        ("iscrowd", "0", "'0'"),
        ("iscrowd", "false", "'false'"),
        ("iscrowd", None, "null"),
        ("iscrowd", 2, "2"),
        ("iscrowd", {}, "{}"),
        ("area", None, "null"),
        ("area", "3", "'3'"),
        ("area", float("nan"), "nan"),
        ("area", float("inf"), "inf"),
        ("area", -5, "-5"),
        ("area", True, "true"),
    ],
)
def test_a_wrong_value_of_a_segment_is_named_and_the_other_images_are_read(tmp_path, key, value, shown):
    data = make_set(tmp_path)
    data["annotations"][2]["segments_info"][1][key] = value
    source, problems = collect(tmp_path, data)
    ((message, image_id),) = problems.messages()
    assert image_id == "3"
    assert f"panoptic_val.json: annotations[2].segments_info[1] (image 3) has the `{key}` " in message
    report = check_source(source, **CHECK, problems=problems)
    assert not report.ok
    assert report.statistics.images == 3
    assert [f.image_id for f in report.findings if f.severity == "error"] == ["3"]
    with pytest.raises(DatasetError, match=rf"segments_info\[1\] \(image 3\) has the `{key}` {shown}.*Expected "):
        CocoPanopticSource(tmp_path, "val", TABLE)


def test_what_exporters_leave_out_or_write_otherwise_is_read(tmp_path):
    data = make_set(tmp_path)
    for segment in data["annotations"][0]["segments_info"]:
        segment["iscrowd"] = bool(segment["iscrowd"])
        segment["area"] = float(segment["area"])
    for segment in data["annotations"][1]["segments_info"]:
        del segment["area"]
    del data["annotations"][2]["segments_info"][0]["iscrowd"]
    data["annotations"][3]["image_id"] = "4"
    for row in data["categories"]:
        del row["isthing"]
    source, problems = collect(tmp_path, data)
    assert problems.messages() == []
    samples = [source[i] for i in range(4)]
    assert [sample.segments_info for sample in samples[1:]] == [samples[0].segments_info] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["images"][1].pop("file_name"), r"images[1] (image 2) has no `file_name`"),
        (lambda d: d["images"][1].update(file_name=None), r"images[1] (image 2) names the file None, which is no text"),
        (lambda d: d["images"][1].update(file_name="../x.jpg"), r"images[1] (image 2) names the file '../x.jpg'"),
        (lambda d: d["images"][1].update(file_name="/x.jpg"), r"lies outside of"),
        (lambda d: d["annotations"][1].pop("file_name"), r"annotations[1] (image 2) has no `file_name`"),
        (lambda d: d["annotations"][1].update(file_name="C:\\x.png"), r"annotations[1] (image 2) names the file"),
        (lambda d: d["annotations"][1].update(segments_info=None), r"annotations[1] (image 2) has no list `segments"),
        (lambda d: d["annotations"][1]["segments_info"].append(7), r"segments_info[3] (image 2) is no object"),
        (lambda d: d["annotations"][1]["segments_info"][0].pop("id"), r"segments_info[0] (image 2) has no `id`"),
        (
            lambda d: d["images"][1].update(file_name=d["images"][0]["file_name"]),
            r"images[1] (image 2) names the image '1.jpg', as images[0] (image 1) does",
        ),
        (
            lambda d: d["annotations"][1].update(file_name=d["annotations"][0]["file_name"]),
            r"annotations[1] (image 2) names the label '1.png', as annotations[0] (image 1) does",
        ),
        (lambda d: d["annotations"].pop(1), r"image 2 is listed without an annotation"),
        (lambda d: d["annotations"].append(d["annotations"][1]), r"annotations[4] (image 2) is one of two"),
    ],
)
def test_a_wrong_entry_is_named_and_the_other_images_are_read(tmp_path, change, message):
    data = make_set(tmp_path)
    change(data)
    source, problems = collect(tmp_path, data)
    ((found, image_id),) = problems.messages()
    assert message in found
    assert image_id == "2"
    report = check_source(source, **CHECK, problems=problems)
    assert report.statistics.images == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["images"].append(5), "images[4] is no object"),
        (lambda d: d["images"].append({"id": None, "file_name": "5.jpg"}), "images[4] has the `id` null"),
        (lambda d: d["images"].append({"id": True, "file_name": "5.jpg"}), "images[4] has the `id` true"),
        (lambda d: d["images"].append({"id": 5.0, "file_name": "5.jpg"}), "images[4] has the `id` 5.0"),
        (lambda d: d["images"].append({"file_name": "5.jpg"}), "images[4] has no `id`"),
        (lambda d: d["images"].append(dict(d["images"][0])), "images[4] lists an image id twice: 1"),
        (lambda d: d["annotations"].append({}), "annotations[4] has no `image_id`"),
        (lambda d: d["annotations"].append([]), "annotations[4] is no object"),
        (
            lambda d: d["annotations"].append({"image_id": 9}),
            "annotations[4] is an annotation for image 9, which",
        ),
        (lambda d: d["categories"].append(None), "categories[2] is no object"),
        (lambda d: d["categories"][0].update(id="17"), "categories[0] has the `id` '17'"),
        (lambda d: d["categories"][0].update(id=17.0), "categories[0] has the `id` 17.0"),
        (lambda d: d["categories"][0].update(isthing="0"), "categories[0] has the `isthing` '0'"),
        (lambda d: d["categories"][0].update(isthing=None), "categories[0] has the `isthing` null"),
    ],
)
def test_entries_of_no_image_are_named_and_all_images_are_read(tmp_path, change, message):
    data = make_set(tmp_path)
    change(data)
    source, problems = collect(tmp_path, data)
    assert message in problems.messages()[0][0]
    assert check_source(source, **CHECK, problems=problems).statistics.images == 4


@pytest.mark.parametrize(
    "data",
    [[], 7, None, {}, {"annotations": []}, {"images": None}, {"images": [], "annotations": {}, "categories": None}],
)
def test_what_is_no_panoptic_json_is_refused(tmp_path, data):
    make_set(tmp_path)
    with pytest.raises(DatasetError, match=r"panoptic_val.json is no panoptic JSON. Expected an object with the lists"):
        collect(tmp_path, data)


def test_all_problems_are_listed_at_once_and_the_same_ones_are_counted(tmp_path):
    data = make_set(tmp_path, 8)
    for annotation in data["annotations"][:6]:
        annotation["segments_info"][0]["iscrowd"] = "no"
    data["annotations"][6]["segments_info"][2]["category_id"] = 5
    data["images"][7].pop("file_name")
    source, problems = collect(tmp_path, data)
    report = check_source(source, **CHECK, problems=problems)
    errors = [f for f in report.findings if f.severity == "error"]
    assert len(errors) == 3
    assert report.statistics.images == 0
    crowd = next(f.message for f in errors if "iscrowd" in f.message)
    assert "annotations[0].segments_info[0] (image 1) has the `iscrowd` 'no'. Expected 0 or 1." in crowd
    assert crowd.endswith("annotations[3].segments_info[0] (image 4) and 2 more.")
    with pytest.raises(DatasetError, match=r"problems of 2 other kinds \(8 in all\): `panoptic-deeplab data check`"):
        CocoPanopticSource(tmp_path, "val", TABLE)


def test_file_names_may_lead_elsewhere_with_permission_alone(tmp_path):
    root = tmp_path / "set"
    data = make_set(root)
    (root / "val" / "1.jpg").rename(tmp_path / "far.jpg")
    (root / "annotations" / "panoptic_val.json").write_text(json.dumps(data))
    for name in (str(tmp_path / "far.jpg"), "../../far.jpg"):
        data["images"][0]["file_name"] = name
        _, problems = collect(root, data)
        assert "lies outside of" in problems.messages()[0][0]
        assert "data.outside_root true" in problems.messages()[0][0]
        assert CocoPanopticSource(root, "val", TABLE, outside_root=True)[0].size == (2, 4)
    data["images"][0]["file_name"] = "1.jpg"
    (root / "val" / "1.jpg").symlink_to(tmp_path / "far.jpg")
    source, problems = collect(root, data)
    assert problems.messages() == []
    with pytest.raises(DatasetError, match=r"\(image 1\) names the file '1.jpg', which lies outside"):
        source[0]
    label = root / "annotations" / "panoptic_val" / "2.png"
    label.rename(tmp_path / "far.png")
    label.symlink_to(tmp_path / "far.png")
    with pytest.raises(DatasetError, match=r"\(annotation of image 2\) names the file '2.png', which lies outside"):
        source[1]


def merged(names: tuple[str, ...]) -> CategoryTable:
    thing = Category(id=1, name="all", isthing=True, color=(1, 1, 1), dataset_ids=(17,), dataset_names=names[:1])
    stuff = Category(id=2, name="ground", isthing=False, color=(2, 2, 2), dataset_ids=(149,), dataset_names=names[1:])
    return CategoryTable(name="merged", categories=(thing, stuff))


def test_merged_tables_are_held_against_the_names_of_the_json(tmp_path):
    data = make_set(tmp_path)
    _, problems = collect(tmp_path, data, merged(("Cat", "road")))
    assert (problems.messages(), problems.warnings) == ([], [])
    _, problems = collect(tmp_path, data, merged(("dog", "road")))
    assert "calls category 17 'cat' (thing), but the table 'merged' has 'dog' (thing)" in problems.messages()[0][0]
    source, problems = collect(tmp_path, data, merged(()))
    assert problems.messages() == []
    report = check_source(source, **CHECK, problems=problems)
    assert report.ok
    (warning,) = [f.message for f in report.findings if "merges" in f.message]
    assert "'all' joins 17 'cat'; 'ground' joins 149 'road'" in warning


def test_images_that_the_json_does_not_list_are_a_warning(tmp_path):
    data = make_set(tmp_path)
    for names, told in (("more",), "more.jpg."), (("most", "much"), "more.jpg and 2 more."):
        for name in names:
            Image.new("RGB", (4, 2)).save(tmp_path / "val" / f"{name}.jpg")
        source, problems = collect(tmp_path, data)
        (warning,) = [f.message for f in check_source(source, **CHECK, problems=problems).findings]
        assert f"panoptic_val.json does not list: {told} They are not read." in warning


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_any_unicode_is_read(tmp_path, encoding):
    data = make_set(tmp_path)
    (tmp_path / "annotations" / "panoptic_val.json").write_text(json.dumps(data), encoding)
    assert len(CocoPanopticSource(tmp_path, "val", TABLE)) == 4


def test_real_annotations_have_no_problem(shared_folder):
    for table in ("coco", "coco27"):
        problems = Problems()
        root = shared_folder / "data" / "coco128_panoptic"
        for split in ("train", "dev"):
            CocoPanopticSource(root, split, CategoryTable.load(table), problems=problems)
        assert (problems.messages(), problems.warnings) == ([], [])


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize(("key", "number", "true"), [("height", 3, 2), ("width", 400, 4)])
def test_a_size_that_is_not_that_of_the_image_is_named(tmp_path, labeled, key, number, true):
    data = make_set(tmp_path)
    data["images"][1] |= {"height": 2, "width": 4} | {key: number}
    if not labeled:
        del data["annotations"]
    source, _ = collect(tmp_path, data)
    assert source[0].size == (2, 4)
    with pytest.raises(DatasetError, match=rf"image 2 has the `{key}` {number}, but .*2\.jpg has {true}\."):
        source[1]


@pytest.mark.parametrize("value", [None, "2", 2.5, 0, True])
def test_a_size_that_is_no_number_of_pixels_is_named(tmp_path, value):
    data = make_set(tmp_path)
    data["images"][1]["height"] = value
    ((message, image_id),) = collect(tmp_path, data)[1].messages()
    assert "images[1] (image 2) has the `height`" in message
    assert image_id == "2"
