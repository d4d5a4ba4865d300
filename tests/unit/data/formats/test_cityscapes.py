"""Cityscapes: instanceIds files and the generated panoptic JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.cityscapes import CityscapesSource
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import id_to_rgb

TABLE = CategoryTable.load("cityscapes")
ROAD, SKY, PERSON, CAR, CARAVAN, EGO_VEHICLE = 7, 23, 24, 26, 29, 1
INSTANCE_IDS = np.array(
    [
        [SKY, SKY, PERSON, 24001, 0],
        [ROAD, 26000, 26001, CARAVAN * 1000, EGO_VEHICLE],
    ],
    np.int32,
)
NAME = "aachen_000000_000019"


def write_image(root: Path, split: str, name: str = NAME, *, labels: bool = True) -> None:
    city = name.partition("_")[0]
    for top, tail, picture in (
        ("leftImg8bit", "leftImg8bit", Image.new("RGB", (5, 2), (9, 9, 9))),
        ("gtFine", "gtFine_instanceIds", Image.fromarray(INSTANCE_IDS.astype(np.uint16))),
    ):
        if labels or top == "leftImg8bit":
            (root / top / split / city).mkdir(parents=True, exist_ok=True)
            picture.save(root / top / split / city / f"{name}_{tail}.png")


def write_json(root: Path, split: str, name: str = NAME) -> None:
    """What createPanopticImgs.py makes of `INSTANCE_IDS`."""
    used = {23: 0, 24: 1, 24001: 0, 7: 0, 26000: 0, 26001: 0}
    segments = [{"id": i, "category_id": i // 1000 or i, "iscrowd": crowd} for i, crowd in used.items()]
    folder = root / "gtFine" / f"cityscapes_panoptic_{split}"
    folder.mkdir(parents=True)
    label = np.where(np.isin(INSTANCE_IDS, list(used)), INSTANCE_IDS, 0)
    Image.fromarray(id_to_rgb(label)).save(folder / f"{name}_gtFine_panoptic.png")
    data = {
        "images": [{"id": name, "file_name": f"{name}_gtFine_leftImg8bit.png", "width": 5, "height": 2}],
        "annotations": [
            {"image_id": name, "file_name": f"{name}_gtFine_panoptic.png", "segments_info": segments},
        ],
        "categories": [{"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in TABLE.categories],
    }
    folder.with_suffix(".json").write_text(json.dumps(data))


def facts(sample) -> list[tuple]:
    return sorted((s.id, s.category_id, s.name, s.isthing, s.iscrowd, s.area, s.bbox) for s in sample.segments_info)


def test_instance_ids_are_read_directly(tmp_path):
    write_image(tmp_path, "val")
    source = CityscapesSource(tmp_path, "val", TABLE)
    sample = source[0]
    assert list(source.image_ids) == [sample.image_id] == [NAME]
    assert sample.panoptic_map.tolist() == [[23, 23, 24, 24001, 0], [7, 26000, 26001, 0, 0]]
    assert facts(sample) == [
        (7, 7, "road", False, False, 1, (0, 1, 1, 1)),
        (23, 23, "sky", False, False, 2, (0, 0, 2, 1)),
        (24, 24, "person", True, True, 1, (2, 0, 1, 1)),
        (24001, 24, "person", True, False, 1, (3, 0, 1, 1)),
        (26000, 26, "car", True, False, 1, (1, 1, 1, 1)),
        (26001, 26, "car", True, False, 1, (2, 1, 1, 1)),
    ]


def test_both_kinds_of_labels_give_equal_samples(tmp_path):
    write_image(tmp_path, "val")
    write_json(tmp_path, "val")
    direct = CityscapesSource(tmp_path, "val", TABLE)[0]
    (tmp_path / "gtFine" / "val").rename(tmp_path / "hidden")
    generated = CityscapesSource(tmp_path, "val", TABLE)[0]
    assert (direct.panoptic_map == generated.panoptic_map).all()
    assert facts(direct) == facts(generated)


def test_instance_ids_are_preferred_to_the_json(tmp_path):
    write_image(tmp_path, "val", labels=False)
    with pytest.raises(DatasetError, match=r"no labels of split 'val'.*gtFine_trainvaltest"):
        CityscapesSource(tmp_path, "val", TABLE)
    write_json(tmp_path, "val")
    assert len(CityscapesSource(tmp_path, "val", TABLE)[0].segments_info) == 6
    (tmp_path / "gtFine" / "cityscapes_panoptic_val.json").write_text("broken")
    with pytest.raises(DatasetError, match="is not valid JSON"):
        CityscapesSource(tmp_path, "val", TABLE)
    write_image(tmp_path, "val")
    assert len(CityscapesSource(tmp_path, "val", TABLE)[0].segments_info) == 6


def test_trainval_is_both(tmp_path):
    write_image(tmp_path, "train", "ulm_000001_000019")
    write_image(tmp_path, "train")
    write_image(tmp_path, "val", "bonn_000000_000019")
    source = CityscapesSource(tmp_path, "trainval", TABLE)
    assert list(source.image_ids) == [NAME, "ulm_000001_000019", "bonn_000000_000019"]
    assert [source[i].image_id for i in range(3)] == list(source.image_ids)


@pytest.mark.parametrize("labels", [True, False])
def test_test_split_has_no_labels_even_with_the_dummy_files(tmp_path, labels):
    write_image(tmp_path, "test", labels=labels)
    sample = CityscapesSource(tmp_path, "test", TABLE)[0]
    assert sample.panoptic_map is None
    assert sample.segments_info == []
    assert sample.size == (2, 5)


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no images.*leftImg8bit"):
        CityscapesSource(tmp_path, "val", TABLE)
    write_image(tmp_path, "val")
    write_image(tmp_path, "val", "bonn_000000_000019", labels=False)
    with pytest.raises(DatasetError, match=r"bonn_000000_000019_leftImg8bit.png is there, but its label is not"):
        CityscapesSource(tmp_path, "val", TABLE)
    problems = Problems()
    assert len(CityscapesSource(tmp_path, "val", TABLE, problems=problems)) == 2
    assert problems.image_ids == {"bonn_000000_000019"}


def test_a_json_that_misses_images_is_refused(tmp_path):
    write_image(tmp_path, "val", labels=False)
    write_image(tmp_path, "val", "bonn_000000_000019", labels=False)
    write_json(tmp_path, "val")
    with pytest.raises(DatasetError, match=r"does not list 1 of the images.*bonn"):
        CityscapesSource(tmp_path, "val", TABLE)


def test_an_id_that_cityscapes_does_not_have(tmp_path):
    write_image(tmp_path, "val")
    path = tmp_path / "gtFine" / "val" / "aachen" / f"{NAME}_gtFine_instanceIds.png"
    Image.fromarray(np.full((2, 5), 40, np.uint16)).save(path)
    with pytest.raises(DatasetError, match=r"instanceIds.png: segment 40 has category id 40"):
        CityscapesSource(tmp_path, "val", TABLE)[0]
