"""Results in the forms of other programs, taken by the programs themselves where they are Python."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.errors import DatasetError, MissingDependencyError
from panoptic_deeplab.results.conversions import to_geojson, to_labels, to_polygons, to_supervision, to_transformers
from panoptic_deeplab.results.panoptic_result import PanopticResult

CATEGORIES = CategoryTable(
    name="test",
    categories=(
        Category(id=7, name="road", isthing=False, color=(128, 64, 128)),
        Category(id=26, name="car", isthing=True, color=(0, 0, 142)),
    ),
)


@pytest.fixture
def result():
    panoptic_map = np.zeros((6, 8), np.int32)
    panoptic_map[3:] = 40
    panoptic_map[1:4, 1:4] = 2
    panoptic_map[2, 2] = 0  # a hole
    panoptic_map[0, 7] = 2  # a second part
    panoptic_map[2:5, 5:8] = 30
    return PanopticResult.from_maps(panoptic_map, {2: 26, 30: 26, 40: 7}, CATEGORIES, scores={2: 0.25, 30: 0.5})


def test_labels_hold_the_ids_of_things_and_stuff(result):
    labels = to_labels(result)
    assert labels.dtype == np.uint16
    assert (labels == result.panoptic_map).all()
    assert set(np.unique(to_labels(result, things_only=True))) == {0, 2, 30}


def test_ids_beyond_16_bits_take_32(result):
    ids = np.where(result.panoptic_map == 30, 70_000, result.panoptic_map)
    large = PanopticResult.from_maps(ids, {2: 26, 70_000: 26, 40: 7}, CATEGORIES)
    assert to_labels(large).dtype == np.int32
    assert (to_labels(large) == ids).all()


def test_labels_are_read_by_scikit_image(result):
    from skimage.measure import regionprops

    areas = {region.label: region.area for region in regionprops(to_labels(result))}
    assert areas == {segment.id: segment.area for segment in result.segments_info}


def test_polygons_keep_holes_and_parts(result):
    first, second = sorted(to_polygons(result.panoptic_map == 2), key=len)
    assert first == [[[7, 0], [8, 0], [8, 1], [7, 1], [7, 0]]]
    assert [sorted(set(map(tuple, ring))) for ring in second] == [
        [(1, 1), (1, 4), (4, 1), (4, 4)],
        [(2, 2), (2, 3), (3, 2), (3, 3)],
    ]


def test_geojson_has_a_feature_for_each_segment(result):
    document = json.loads(json.dumps(to_geojson(result)))
    assert document["type"] == "FeatureCollection"
    car, other, road = document["features"]
    assert (car["type"], car["geometry"]["type"], other["geometry"]["type"]) == ("Feature", "MultiPolygon", "Polygon")
    assert car["properties"] == {
        "id": 2,
        "category_id": 26,
        "name": "car",
        "isthing": True,
        "iscrowd": False,
        "score": 0.25,
        "area": 9,
        "objectType": "detection",
        "classification": {"name": "car", "color": [0, 0, 142]},
    }
    assert (road["properties"]["objectType"], road["properties"]["score"]) == ("annotation", None)
    assert len(to_geojson(result, things_only=True)["features"]) == 2
    empty = PanopticResult.from_maps(np.zeros((2, 2), np.int32), {}, CATEGORIES)
    assert to_geojson(empty) == {"type": "FeatureCollection", "features": []}


def test_transformers_form_is_that_of_its_own_processor(result):
    from transformers.models.mask2former.image_processing_mask2former import compute_segments

    ids = [segment.id for segment in result.segments_info]
    masks = torch.stack([torch.tensor(result.panoptic_map == id_).float() for id_ in ids])
    scores, labels = torch.tensor([0.25, 0.5, 0.75]), torch.tensor([1, 1, 0])
    segmentation, rows = compute_segments(masks, scores, labels, 0.1, 0.1, label_ids_to_fuse={0})
    converted = to_transformers(result)
    assert type(converted["segmentation"]) is type(segmentation)
    assert converted["segmentation"].dtype == segmentation.dtype
    assert converted["segmentation"].shape == segmentation.shape
    for row, segment_id, expected in zip(converted["segments_info"], ids, rows, strict=True):
        assert {key: type(value) for key, value in row.items()} == {k: type(v) for k, v in expected.items()}
        assert (row["label_id"], row["was_fused"]) == (expected["label_id"], expected["was_fused"])
        assert (segmentation[converted["segmentation"] == segment_id] == expected["id"]).all()


def test_a_tensor_of_transformers_is_a_copy(result):
    to_transformers(result)["segmentation"].zero_()
    assert result.panoptic_map.any()


@pytest.mark.parametrize("compact", [False, True])
def test_supervision_takes_our_result_as_it_takes_that_of_transformers(result, compact):
    import supervision

    id2label = dict(enumerate(category.name for category in result.categories))
    theirs = supervision.Detections.from_transformers(to_transformers(result), id2label=id2label)
    ours = to_supervision(result, compact=compact)
    np.testing.assert_array_equal(ours.xyxy, theirs.xyxy)
    np.testing.assert_array_equal(np.asarray(ours.mask), theirs.mask)
    np.testing.assert_array_equal(ours.class_id, theirs.class_id)
    np.testing.assert_array_equal(ours.data["class_name"], theirs.data["class_name"])
    np.testing.assert_array_equal(ours.confidence[:2], [0.25, 0.5])
    assert ours.data["segment_id"].tolist() == [2, 30, 40]
    assert len(ours[ours.data["isthing"]]) == 2
    assert ours.area.tolist() == [9, 9, 15]


def test_supervision_draws_our_result(result):
    import supervision

    drawn = supervision.MaskAnnotator().annotate(np.zeros((6, 8, 3), np.uint8), to_supervision(result))
    assert drawn[1, 1].any()
    assert not drawn[0, 0].any()


@pytest.mark.parametrize("compact", [False, True])
def test_nothing_found_is_no_detection(compact):
    empty = PanopticResult.from_maps(np.zeros((2, 3), np.int32), {}, CATEGORIES)
    assert len(to_supervision(empty, compact=compact)) == 0
    assert to_transformers(empty)["segments_info"] == []
    assert not to_labels(empty).any()


def test_supervision_is_asked_for_by_name(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match=r"panoptic-deeplab\[supervision\]"):
        to_supervision(result)


def test_a_result_that_contradicts_itself_is_refused(result):
    wrong = replace(result, segments_info=[replace(result.segments_info[0], area=1), *result.segments_info[1:]])
    for convert in (to_labels, to_geojson, to_transformers, to_supervision):
        with pytest.raises(DatasetError, match=r"segment 2 \(car\) has 1 pixels, but the map has 9"):
            convert(wrong)
