"""From results to COCO records; pycocotools' own numbers are in tests/parity."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.metrics.instance_ap import InstanceAP

ROAD, SKY, CAR, PERSON = 0, 4, 7, 9


@pytest.fixture
def average_precision(categories) -> InstanceAP:
    return InstanceAP(categories)


def stripes(*ids: int, width: int = 10) -> np.ndarray:
    """Vertical stripes of 10 x `width` pixels."""
    return np.repeat(np.array(ids), width)[None].repeat(10, axis=0)


def test_perfect_predictions(average_precision, make_result, capsys) -> None:
    map_, classes = stripes(0, 1, 2, 3, 4), {1: CAR, 2: CAR, 3: PERSON, 4: ROAD}
    average_precision.update(
        make_result(map_, classes, scores={1: 0.9, 2: 0.2, 3: 0.5}), make_result(map_, classes), "a"
    )
    report = average_precision.compute()
    assert report.ap == report.ap50 == report.ap75 == report.ap_small == pytest.approx(1)
    assert report.ap_medium is None
    assert report.ap_large is None
    assert [(row.name, row.ap) for row in report.per_class] == [("car", pytest.approx(1)), ("person", pytest.approx(1))]
    assert json.loads(json.dumps(report.to_json()))["ap_large"] is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("false_score", "expected"), [(0.1, 1.0), (0.9, 0.5)])
def test_scores_rank_detections(average_precision, make_result, false_score: float, expected: float) -> None:
    truth = make_result(stripes(1, 0), {1: CAR})
    prediction = make_result(stripes(1, 2), {1: CAR, 2: CAR}, scores={1: 0.5, 2: false_score})
    average_precision.update(prediction, truth, "a")
    assert average_precision.compute().ap == pytest.approx(expected)


def test_detections_on_crowd_are_ignored(average_precision, make_result) -> None:
    truth = make_result(stripes(1, 2, 2), {1: CAR, 2: CAR}, crowd=(2,))
    prediction = make_result(stripes(1, 2, 3), {1: CAR, 2: CAR, 3: CAR}, scores={1: 0.5, 2: 0.9, 3: 0.8})
    average_precision.update(prediction, truth, "a")
    assert average_precision.compute().ap == pytest.approx(1)


def test_iou_thresholds(average_precision, make_result) -> None:
    """IoU 0.7 passes 0.5, 0.55, ..., 0.7 = half of the thresholds."""
    map_ = np.zeros((10, 10))
    map_[:7] = 1
    prediction = make_result(map_, {1: CAR}, scores={1: 1.0})
    average_precision.update(prediction, make_result(np.ones((10, 10)), {1: CAR}), "a")
    report = average_precision.compute()
    assert report.ap == pytest.approx(0.5)
    assert (report.ap50, report.ap75) == (pytest.approx(1), 0)


@pytest.mark.parametrize(("limit", "expected"), [(1, 51 / 101), (2, 1), (300, 1)])
def test_any_number_of_detections(categories, make_result, limit: int, expected: float) -> None:
    metric = InstanceAP(categories, max_detections=limit)
    map_, classes = stripes(1, 2), {1: CAR, 2: CAR}
    metric.update(make_result(map_, classes, scores={1: 0.9, 2: 0.8}), make_result(map_, classes), "a")
    report = metric.compute()
    assert report.ap == pytest.approx(expected)
    assert report.max_detections == limit


@pytest.mark.parametrize("count", [0, 1, 255, 256, 1000])
def test_any_number_of_objects_in_an_image(categories, make_result, count: int) -> None:
    map_ = np.zeros((40, 50), np.int32)
    map_.ravel()[: 2 * count] = np.repeat(np.arange(1, count + 1), 2)
    classes, scores = dict.fromkeys(range(1, count + 1), CAR), {n: n / (count + 1) for n in range(1, count + 1)}
    metric = InstanceAP(categories, max_detections=1000)
    metric.update(make_result(map_, classes, scores=scores), make_result(map_, classes), "a")
    report = metric.compute()
    assert report.ap == (pytest.approx(1) if count else None)
    assert [record["area"] for record in metric.records["a"].truth] == [2] * count


def test_nothing_to_measure(average_precision, make_result) -> None:
    assert average_precision.compute().ap is None
    stuff = make_result(stripes(1), {1: ROAD})
    average_precision.update(stuff, stuff, "a")
    report = average_precision.compute()
    assert report.ap is None
    assert [row.ap for row in report.per_class] == [None, None]


def test_nothing_found(average_precision, make_result) -> None:
    average_precision.update(make_result(stripes(0), {}), make_result(stripes(1), {1: CAR}), "a")
    assert average_precision.compute().ap == 0


def test_run_lengths_equal_pycocotools_encoding(average_precision, make_result) -> None:
    map_ = np.random.default_rng(0).integers(0, 4, (13, 9))
    map_[-1, -1] = 3  # a run that ends with the image
    map_[0, 0] = 1  # a run that begins with it
    result = make_result(map_, {3: CAR, 1: PERSON, 2: ROAD})
    average_precision.update(make_result(np.zeros((13, 9)), {}), result, "a")
    for segment_id, record in zip((3, 1), average_precision.records["a"].truth, strict=True):
        mask = np.asfortranarray(map_ == segment_id, np.uint8)
        expected = coco_mask.encode(mask)
        assert record["segmentation"] == {"size": expected["size"], "counts": expected["counts"].decode("ascii")}
        assert record["area"] == mask.sum()


def test_parts_join(categories, make_result) -> None:
    generator = np.random.default_rng(1)
    one, here, there = (InstanceAP(categories) for _ in range(3))
    for number in range(6):
        map_ = generator.integers(1, 6, (4, 4)).repeat(3, 0).repeat(3, 1)
        noisy = np.where(generator.random(map_.shape) < 0.1, 0, map_)
        classes = {i: (CAR, PERSON)[i % 2] for i in np.unique(map_).tolist()}
        prediction = make_result(noisy, classes, scores=dict.fromkeys(classes, 0.5))  # ties: the order matters
        for metric in (one, (here, there)[number % 2]):
            metric.update(prediction, make_result(map_, classes), f"image {number}")
    here.merge([here.counted(), there.counted()])
    assert 0 < one.compute().ap < 1
    assert here.compute() == one.compute()
    with pytest.raises(DatasetError, match="Image image 1 was evaluated twice"):
        here.merge([here.counted(), there.counted()])


def test_errors(average_precision, make_result) -> None:
    truth = make_result(stripes(1), {1: CAR})
    with pytest.raises(DatasetError, match=r"image a: segment 1 \(car\) has no score"):
        average_precision.update(truth, truth, "a")
    with pytest.raises(DatasetError, match="Image a: the prediction has"):
        average_precision.update(make_result(stripes(0, 0), {}), truth, "a")
    with pytest.raises(DatasetError, match="Prediction of image a: segment 1 has category_id 77"):
        average_precision.update(make_result(stripes(1), {1: 77}), truth, "a")
    nothing = make_result(stripes(0), {})
    average_precision.update(nothing, truth, "a")
    with pytest.raises(DatasetError, match="Image a was evaluated twice"):
        average_precision.update(nothing, truth, "a")
