"""mIoU against numbers worked out by hand, and its rules for void."""

import json

import numpy as np
import pytest

from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.metrics.semantic_iou import SemanticIoU

VOID = 255


@pytest.fixture
def semantic(categories) -> SemanticIoU:
    return SemanticIoU(categories)


@pytest.fixture
def update(semantic, make_result):
    def add(predicted: list, true: list, image_id: str = "a") -> None:
        predicted, true = np.array([predicted], np.uint8), np.array([true], np.uint8)
        void = np.zeros_like(true, np.int32)
        truth = make_result(void, {}, semantic_map=true)
        semantic.update(make_result(np.zeros_like(predicted), {}, semantic_map=predicted), truth, image_id)

    return add


def test_ious_by_hand(semantic, update) -> None:
    update([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1])
    report = semantic.compute()
    assert [row.iou for row in report.per_class] == [2 / 3, 2 / 4, 0, None]
    assert report.miou == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert report.num_classes == 3
    assert report.pixel_accuracy == pytest.approx(4 / 6)
    assert report.per_class[2].name == "car"
    assert json.loads(json.dumps(report.to_json()))["per_class"][3]["iou"] is None


def test_pixels_add_up_over_images(semantic, update) -> None:
    update([0, 0], [0, 0])
    update([1, 1, 0, 0], [0, 0, 0, 0])
    assert semantic.compute().per_class[0].iou == pytest.approx(4 / 6)


def test_void_of_the_truth_counts_nowhere(semantic, update) -> None:
    update([0, 0, 3, 3], [0, 0, VOID, VOID])
    report = semantic.compute()
    assert [row.iou for row in report.per_class] == [1, None, None, None]
    assert report.pixel_accuracy == 1


def test_predicted_void_is_a_miss_and_nobodys_false_positive(semantic, update) -> None:
    update([0, VOID, 1, VOID], [0, 0, 1, VOID])
    report = semantic.compute()
    assert [row.iou for row in report.per_class] == [1 / 2, 1, None, None]
    assert report.pixel_accuracy == pytest.approx(2 / 3)


def test_nothing_labeled(semantic, update) -> None:
    update([0, 1], [VOID, VOID])
    report = semantic.compute()
    assert (report.miou, report.num_classes, report.pixel_accuracy) == (None, 0, None)


def test_without_semantic_map_the_merged_map_counts(semantic, make_result) -> None:
    truth = make_result([[1, 1, 2, 0]], {1: 7, 2: 4})
    semantic.update(make_result([[5, 0, 6, 6]], {5: 7, 6: 4}), truth, "a")
    assert [row.iou for row in semantic.compute().per_class] == [None, 1, 1 / 2, None]


def test_semantic_map_wins_over_the_merged_map(semantic, make_result) -> None:
    truth = make_result([[1, 1]], {1: 7})
    prediction = make_result([[0, 0]], {}, semantic_map=np.array([[2, 2]], np.uint8))
    semantic.update(prediction, truth, "a")
    assert semantic.compute().miou == 1


def test_parts_sum_up(categories, semantic, update) -> None:
    update([0, 1], [0, 0])
    semantic.merge(3 * [semantic.counted()])
    assert semantic.confusion.sum() == 6
    assert semantic.compute().per_class[0].iou == 1 / 2


def test_errors_name_the_image(update) -> None:
    with pytest.raises(DatasetError, match=r"Image b: the prediction has .* \(1, 2\), the truth \(1, 3\)"):
        update([0, 0], [0, 0, 0], "b")
    with pytest.raises(DatasetError, match=r"prediction of image c has train ids \[4, 254\]"):
        update([4, 254, VOID], [0, 0, 0], "c")
    with pytest.raises(DatasetError, match=r"truth of image d has train ids \[9\]"):
        update([0, 0], [9, VOID], "d")
