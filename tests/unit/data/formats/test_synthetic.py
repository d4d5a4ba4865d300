"""Computed street scenes."""

import numpy as np
import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.results.ids import VOID_ID
from panoptic_deeplab.results.places import check_consistency


def test_a_scene_is_a_function_of_seed_and_index():
    source = SyntheticSource(3, seed=4)
    source[0]  # what was drawn before does not matter
    a, b = source[2], SyntheticSource(9, seed=4)[2]
    assert a.image_id == b.image_id == "scene_4_00002"
    assert (a.image == b.image).all()
    assert (a.panoptic_map == b.panoptic_map).all()
    assert a.segments_info == b.segments_info
    for other in (source[1], SyntheticSource(3, seed=5)[2]):
        assert (a.image != other.image).mean() > 0.5


@pytest.mark.parametrize("size", [(128, 256), (33, 65), (97, 64)])
def test_labels_are_consistent_at_any_size(size):
    source = SyntheticSource(6, seed=1, size=size)
    assert isinstance(source, PanopticSource)
    for sample in (source[i] for i in range(len(source))):
        assert sample.size == size == sample.panoptic_map.shape
        assert sample.image.dtype == np.uint8
        check_consistency(sample.panoptic_map, [s.id for s in sample.segments_info], where=sample.image_id)


def test_scenes_hold_everything_that_a_training_meets():
    source = SyntheticSource(40, seed=0, size=(64, 128))
    samples = [source[i] for i in range(len(source))]
    segments = [s for sample in samples for s in sample.segments_info]
    assert {s.name for s in segments} == {c.name for c in source.categories.categories}
    assert sum(s.iscrowd for s in segments) >= 3
    assert any((sample.panoptic_map == VOID_ID).any() for sample in samples)
    areas = [s.area for s in segments if s.isthing and not s.iscrowd]
    assert max(areas) > 20 * np.median(areas)
    assert all(1 <= sum(s.isthing for s in sample.segments_info) <= 40 for sample in samples)


def test_things_differ_from_what_surrounds_them():
    """The image shows the labels: shifting the map by some pixels makes classes less uniform in color."""
    sample = SyntheticSource(1, seed=2)[0]
    image = sample.image.astype(np.float64)

    def spread(panoptic_map: np.ndarray) -> float:
        return sum(
            image[panoptic_map == s.id].var(axis=0).sum() * (panoptic_map == s.id).sum() for s in sample.segments_info
        )

    exact = spread(sample.panoptic_map)
    for shift in (3, -3):
        for axis in (0, 1):
            assert spread(np.roll(sample.panoptic_map, shift, axis)) > 1.02 * exact


def test_a_merged_table_of_the_same_ids_is_taken():
    own = CategoryTable.load("synthetic").to_json()
    ground = {"id": 1, "name": "ground", "isthing": False, "color": [1, 1, 1], "dataset_ids": [1, 2, 3, 4, 5, 6]}
    rest = [{**row, "id": row["id"] - 5} for row in own["categories"][6:]]
    rest = [{**row, "dataset_ids": [row["id"] + 5]} for row in rest]
    table = CategoryTable.from_json({"name": "merged", "categories": [ground, *rest]})
    sample = SyntheticSource(1, categories=table)[0]
    assert sum(s.name == "ground" for s in sample.segments_info) == 1
    assert all(s.isthing for s in sample.segments_info if s.name != "ground")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 0}, "at least one image"),
        ({"num_images": 1, "size": (16, 256)}, "32x32"),
        ({"num_images": 1, "categories": CategoryTable.load("coco")}, "Got 'coco'"),
    ],
)
def test_what_cannot_be_drawn(arguments, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticSource(**arguments)


def test_index_out_of_range():
    with pytest.raises(IndexError):
        SyntheticSource(2)[2]
    assert SyntheticSource(2)[-1].image_id == SyntheticSource(2)[1].image_id
