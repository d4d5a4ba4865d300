"""`../shared/data/facades`, as an annotation tool exported it: read as it lies there, and converted and read again."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.coco_instances import CocoInstancesSource
from panoptic_deeplab.data.formats.coco_panoptic import CocoPanopticSource
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.data.sample import Sample

coco_mask = pytest.importorskip("pycocotools.mask")


class FirstImages:
    """The beginning of a source."""

    def __init__(self, source: CocoInstancesSource, count: int) -> None:
        self.source, self.count, self.categories = source, count, source.categories
        self.image_ids = source.image_ids[:count]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return self.source[index]


def facades(shared_folder: Path, split: str, problems: Problems | None = None) -> CocoInstancesSource:
    root = shared_folder / "data" / "facades"
    if not root.is_dir():
        pytest.skip(f"{root} is absent")
    return CocoInstancesSource(root, split, CategoryTable.load("facades"), problems=problems)


def check_conversion(source: CocoInstancesSource, split: str, count: int, folder: Path) -> None:
    """Write the first images in COCO panoptic format; they read back equal, segment by segment."""
    write_coco_panoptic(FirstImages(source, count), folder, split)
    again = CocoPanopticSource(folder, split, CategoryTable.load(folder / "categories.json"))
    assert list(again.image_ids) == list(source.image_ids[:count])
    for index in range(count):
        original, converted = source[index], again[index]
        np.testing.assert_array_equal(converted.panoptic_map, original.panoptic_map)
        np.testing.assert_array_equal(converted.image, original.image)
        assert converted.segments_info == original.segments_info


def test_the_set_is_read_as_it_lies_there(shared_folder: Path) -> None:
    problems = Problems()
    assert len(facades(shared_folder, "valid", problems)) == 58
    problems.raise_any()
    assert "several categories named 'facade': 0 (0 annotations), 3 (62 annotations)" in problems.warnings[0]


def test_maps_are_those_of_polygons_drawn_on_the_whole_image(shared_folder: Path) -> None:
    source = facades(shared_folder, "valid")
    for index in (0, 17):
        masks = []
        for annotation in source.index.annotations[index]:
            assert isinstance(annotation.segmentation, list)
            parts = [part.ravel().tolist() for part in annotation.segmentation]
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                masks.append(coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, 1024, 1024))) > 0)
        classes = np.full((1024, 1024), -1)
        drawn = zip(masks, source.index.annotations[index], strict=True)
        for mask, annotation in sorted(drawn, key=lambda pair: -int(pair[0].sum())):
            classes[mask] = annotation.dataset_id
        sample = source[index]
        assert sample.panoptic_map is not None
        category_of = {0: -1, **{s.id: s.category_id for s in sample.segments_info}}
        np.testing.assert_array_equal(np.vectorize(category_of.__getitem__)(sample.panoptic_map), classes)


def test_converted_maps_are_equal(shared_folder: Path, tmp_path: Path) -> None:
    check_conversion(facades(shared_folder, "valid"), "valid", 4, tmp_path)


@pytest.mark.slow
def test_converted_maps_are_equal_in_every_image(shared_folder: Path, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        source = facades(shared_folder, split)
        check_conversion(source, split, len(source), tmp_path)
