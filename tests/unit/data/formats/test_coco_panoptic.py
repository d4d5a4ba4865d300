"""COCO panoptic JSON and PNG files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.formats.coco_panoptic import CocoPanopticSource
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import id_to_rgb
from panoptic_deeplab.results.places import check_consistency

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
    {"id": 300, "category_id": 17, "iscrowd": 0, "area": 3, "bbox": [0, 0, 2, 2]},
    {"id": 9, "category_id": 17, "iscrowd": 1, "area": 2, "bbox": [1, 1, 2, 1]},
    {"id": 70_000, "category_id": 149, "iscrowd": 0, "area": 2, "bbox": [3, 0, 1, 2]},
]


def write_set(root: Path, *, images: str = "val", labels: str = "annotations/panoptic_val") -> dict[str, Any]:
    """A set of one image; returns the contents of its JSON, to be changed and written again."""
    for folder in (images, labels, "annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 2), (50, 60, 70)).save(root / images / "street.jpg")
    Image.fromarray(id_to_rgb(LABEL)).save(root / labels / "street.png")
    data = {
        "images": [{"id": 5, "file_name": "street.jpg", "height": 2, "width": 4}],
        "annotations": [{"image_id": 5, "file_name": "street.png", "segments_info": SEGMENTS}],
        "categories": [{"id": 17, "name": "cat", "isthing": 1}, {"id": 149, "name": "road", "isthing": 0}],
    }
    write_json(root, data)
    return data


def write_json(root: Path, data: Any) -> None:
    (root / "annotations" / "panoptic_val.json").write_text(json.dumps(data))


@pytest.mark.parametrize("images", ["val", "images/val"])
@pytest.mark.parametrize("labels", ["annotations/panoptic_val", "panoptic_val"])
def test_both_places_of_images_and_labels(tmp_path, images, labels):
    write_set(tmp_path, images=images, labels=labels)
    source = CocoPanopticSource(tmp_path, "val", TABLE)
    assert isinstance(source, PanopticSource)
    assert (len(source), list(source.image_ids)) == (1, ["5"])
    sample = source[0]
    assert (sample.image_id, sample.size) == ("5", (2, 4))
    assert (sample.panoptic_map == LABEL).all()
    assert [(s.id, s.category_id, s.iscrowd, s.area, s.bbox) for s in sample.segments_info] == [
        (300, 17, False, 3, (0, 0, 2, 2)),
        (9, 17, True, 2, (1, 1, 2, 1)),
        (70_000, 149, False, 2, (3, 0, 1, 2)),
    ]


def test_truth_of_void_and_classes(tmp_path):
    write_set(tmp_path)
    truth = CocoPanopticSource(tmp_path, "val", TABLE)[0].truth(TABLE)
    assert truth.semantic_map.tolist() == [[0, 0, 255, 1], [0, 0, 0, 1]]


def test_a_list_of_images_without_labels_is_a_test_split(tmp_path):
    data = write_set(tmp_path, images="test2017")
    del data["annotations"]
    (tmp_path / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(data))
    sample = CocoPanopticSource(tmp_path, "test-dev2017", TABLE)[0]
    assert sample.panoptic_map is None
    assert sample.segments_info == []


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"panoptic_val.json does not exist"):
        CocoPanopticSource(tmp_path, "val", TABLE)
    write_set(tmp_path, images="elsewhere")
    with pytest.raises(DatasetError, match="no folder of images"):
        CocoPanopticSource(tmp_path, "val", TABLE)
    write_set(tmp_path)
    source = CocoPanopticSource(tmp_path, "val", TABLE)
    (tmp_path / "annotations" / "panoptic_val" / "street.png").unlink()
    with pytest.raises(DatasetError, match=r"street.png of image 5 does not exist.*zip"):
        source[0]
    (tmp_path / "annotations" / "panoptic_val").rmdir()
    with pytest.raises(DatasetError, match="no folder of label PNG"):
        CocoPanopticSource(tmp_path, "val", TABLE)


def test_image_and_label_must_have_one_size(tmp_path):
    write_set(tmp_path)
    Image.new("RGB", (5, 2)).save(tmp_path / "val" / "street.jpg")
    with pytest.raises(DatasetError, match=r"street.png has the size \(height, width\) \(2, 4\).*\(2, 5\)"):
        CocoPanopticSource(tmp_path, "val", TABLE)[0]


def test_unknown_category_names_image_id_and_table(tmp_path):
    data = write_set(tmp_path)
    data["annotations"][0]["segments_info"][0]["category_id"] = 3
    write_json(tmp_path, data)
    where = r"annotations\[0\].segments_info\[0\] \(image 5\)"
    with pytest.raises(DatasetError, match=rf"{where} has category id 3.*'farm'"):
        CocoPanopticSource(tmp_path, "val", TABLE)


def test_void_ids_of_the_table_become_void(tmp_path):
    data = write_set(tmp_path)
    data["annotations"][0]["segments_info"][0]["category_id"] = 200
    write_json(tmp_path, data)
    sample = CocoPanopticSource(tmp_path, "val", TABLE)[0]
    assert [s.id for s in sample.segments_info] == [9, 70_000]
    assert (sample.panoptic_map == np.where(LABEL == 300, 0, LABEL)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["categories"][0].update(name="dog"), "calls category 17 'dog'.*'cat'"),
        (lambda d: d["categories"][1].update(isthing=1), r"'road' \(thing\).*'road' \(stuff\)"),
        (lambda d: d["images"].append(d["images"][0]), "lists an image id twice"),
        (lambda d: d["annotations"].append(d["annotations"][0]), "two annotations for image 5"),
        (lambda d: d["annotations"][0].update(image_id=6), "annotation for image 6, which is not among"),
        (lambda d: d.pop("images"), "is no panoptic JSON"),
        (
            lambda d: d["annotations"][0].pop("segments_info"),
            r"\(image 5\) has no list `segments_info`",
        ),
    ],
)
def test_contradictions_in_the_json(tmp_path, change, message):
    data = write_set(tmp_path)
    change(data)
    write_json(tmp_path, data)
    with pytest.raises(DatasetError, match=message):
        CocoPanopticSource(tmp_path, "val", TABLE)


def test_broken_json_is_named(tmp_path):
    write_set(tmp_path)
    (tmp_path / "annotations" / "panoptic_val.json").write_text('{"images": [')
    with pytest.raises(DatasetError, match=r"panoptic_val.json is not valid JSON"):
        CocoPanopticSource(tmp_path, "val", TABLE)


def test_an_image_without_annotation_is_refused(tmp_path):
    data = write_set(tmp_path)
    data["images"].append({"id": 6, "file_name": "other.jpg"})
    write_json(tmp_path, data)
    with pytest.raises(DatasetError, match=r"image 6 is listed without an annotation"):
        CocoPanopticSource(tmp_path, "val", TABLE)


@pytest.mark.parametrize("table", ["coco", "coco27"])
def test_real_coco_images(shared_folder, table):
    categories = CategoryTable.load(table)
    source = CocoPanopticSource(shared_folder / "data" / "coco128_panoptic", "dev", categories)
    assert len(source) == 20
    for sample in (source[i] for i in range(len(source))):
        check_consistency(sample.panoptic_map, [s.id for s in sample.segments_info], where=sample.image_id)
        stuff = [s.category_id for s in sample.segments_info if not s.isthing]
        assert len(stuff) == len(set(stuff))
        for segment in sample.segments_info[:3]:
            assert segment.area == (sample.panoptic_map == segment.id).sum()


def test_merging_joins_no_things(shared_folder):
    root = shared_folder / "data" / "coco128_panoptic"
    plain = CocoPanopticSource(root, "train", CategoryTable.load("coco"))
    merged = CocoPanopticSource(root, "train", CategoryTable.load("coco27"))
    joined = 0
    for index in range(20):
        a, b = plain[index], merged[index]
        assert [s.id for s in a.segments_info if s.isthing] == [s.id for s in b.segments_info if s.isthing]
        assert ((a.panoptic_map == 0) == (b.panoptic_map == 0)).all()
        joined += len(a.segments_info) - len(b.segments_info)
    assert joined > 0
