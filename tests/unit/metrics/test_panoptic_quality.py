"""The rules of PQ one by one; equality with panopticapi is in tests/parity."""

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality

ROAD, SKY, CAR, PERSON = 0, 4, 7, 9


def counts(quality: PanopticQuality, category_id: int) -> tuple[int, int, int]:
    row = next(row for row in quality.compute().per_class if row.category_id == category_id)
    return row.true_positives, row.false_positives, row.false_negatives


def row_map(*runs: tuple[int, int]) -> np.ndarray:
    """One image row from (segment id, pixels)."""
    return np.concatenate([np.full(length, segment) for segment, length in runs])[None]


@pytest.fixture
def quality(categories) -> PanopticQuality:
    return PanopticQuality(categories)


def test_matched_missed_and_false(quality, make_result) -> None:
    truth = make_result(row_map((1, 10), (2, 10), (3, 4)), {1: ROAD, 2: CAR, 3: CAR})
    prediction = make_result(row_map((5, 9), (6, 9), (7, 6)), {5: ROAD, 6: CAR, 7: PERSON})
    quality.update(prediction, truth, "a")
    assert counts(quality, ROAD) == (1, 0, 0)
    assert counts(quality, CAR) == (1, 0, 1)
    assert counts(quality, PERSON) == (0, 1, 0)
    report = quality.compute()
    road, sky, car, person = report.per_class
    assert road.pq == pytest.approx(9 / 10)
    assert car.sq == pytest.approx(8 / 11)
    assert car.rq == pytest.approx(2 / 3)
    assert car.pq == pytest.approx(8 / 11 * 2 / 3)
    assert (person.pq, person.sq, person.rq) == (0, 0, 0)
    assert (sky.pq, sky.sq, sky.rq) == (None, None, None)
    assert report.all_classes.num_classes == 3
    assert report.all_classes.pq == pytest.approx((road.pq + car.pq) / 3)
    assert report.things.num_classes == 2
    assert report.stuff.pq == road.pq
    assert report.not_counted == ("sky",)


def test_iou_of_one_half_is_no_match(quality, make_result) -> None:
    quality.update(make_result(row_map((1, 5), (0, 5)), {1: CAR}), make_result(row_map((1, 10)), {1: CAR}), "half")
    assert counts(quality, CAR) == (0, 1, 1)
    quality.update(make_result(row_map((1, 6), (0, 4)), {1: CAR}), make_result(row_map((1, 10)), {1: CAR}), "more")
    assert counts(quality, CAR) == (1, 1, 1)


def test_void_of_the_truth_leaves_the_union_void_of_the_prediction_stays(quality, make_result) -> None:
    whole = make_result(row_map((1, 10)), {1: CAR})
    part = make_result(row_map((1, 6), (0, 4)), {1: CAR})
    quality.update(whole, part, "void in truth")
    assert quality.compute().things.sq == 1
    quality.update(part, whole, "void in prediction")
    assert quality.compute().things.sq == pytest.approx((1 + 0.6) / 2)


@pytest.mark.parametrize(("void", "false_positives"), [(5, 1), (6, 0)])
def test_prediction_mostly_on_void_is_ignored(quality, make_result, void: int, false_positives: int) -> None:
    truth = make_result(row_map((0, void), (1, 10 - void)), {1: ROAD})
    quality.update(make_result(row_map((1, 10)), {1: CAR}), truth, "a")
    assert counts(quality, CAR) == (0, false_positives, 0)
    assert counts(quality, ROAD) == (0, 0, 1)


def test_crowd_is_neither_missed_nor_matched_nor_false(quality, make_result) -> None:
    truth = make_result(row_map((1, 10)), {1: CAR}, crowd=(1,))
    quality.update(make_result(row_map((1, 10)), {1: CAR}), truth, "on crowd")
    assert counts(quality, CAR) == (0, 0, 0)
    quality.update(make_result(row_map((1, 10)), {1: PERSON}), truth, "another class on crowd")
    assert counts(quality, PERSON) == (0, 1, 0)


def test_crowd_and_void_count_together(quality, make_result) -> None:
    truth = make_result(row_map((1, 3), (0, 3), (2, 4)), {1: CAR, 2: ROAD}, crowd=(1,))
    quality.update(make_result(row_map((1, 10)), {1: CAR}), truth, "a")
    assert counts(quality, CAR) == (0, 0, 0)


@pytest.mark.parametrize(("order", "false_positives"), [((1, 2), 1), ((2, 1), 0)])
def test_only_the_last_listed_crowd_of_a_class_is_remembered(
    quality, make_result, order: tuple[int, int], false_positives: int
) -> None:
    truth = make_result(row_map((1, 10), (2, 10)), dict.fromkeys(order, CAR), crowd=(1, 2))
    quality.update(make_result(row_map((1, 10), (0, 10)), {1: CAR}), truth, "a")
    assert counts(quality, CAR) == (0, false_positives, 0)


def test_crowd_flags_of_a_prediction_do_not_matter(quality, make_result) -> None:
    truth = make_result(row_map((1, 10)), {1: CAR})
    quality.update(make_result(row_map((1, 10)), {1: CAR}, crowd=(1,)), truth, "a")
    assert counts(quality, CAR) == (1, 0, 0)


def test_void_is_never_a_segment_of_class_id_0(quality, make_result) -> None:
    truth = make_result(row_map((0, 10), (1, 10)), {1: CAR})
    quality.update(make_result(row_map((0, 10), (1, 10)), {1: CAR}), truth, "a")
    assert counts(quality, ROAD) == (0, 0, 0)
    assert quality.compute().all_classes.pq == 1


def test_all_void_images_and_empty_groups(quality, make_result) -> None:
    void = make_result(np.zeros((3, 4)), {})
    quality.update(void, void, "both")
    report = quality.compute()
    for group in (report.all_classes, report.things, report.stuff):
        assert (group.pq, group.sq, group.rq, group.num_classes) == (None, None, None, 0)
    quality.update(void, make_result(np.ones((3, 4)), {1: SKY}), "missed")
    report = quality.compute()
    assert (report.stuff.pq, report.things.pq, report.all_classes.pq) == (0, None, 0)
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["things"]["pq"] is None


maps = arrays(np.int32, (6, 7), elements=st.integers(0, 5))


@given(maps, st.permutations(range(1, 6)), st.permutations([ROAD, SKY, CAR, PERSON, CAR]))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_perfect_prediction_has_pq_1_whatever_its_ids_and_order(categories, make_result, map_, order, classes):
    listed = {i: classes[i - 1] for i in range(1, 6) if (map_ == i).any()}
    scattered = np.array([0, 16_000_000, 3, 70_000, 12, 999])
    renamed = {int(scattered[i]): listed[i] for i in order if i in listed}
    quality = PanopticQuality(categories)
    quality.update(make_result(scattered[map_], renamed), make_result(map_, listed), "a")
    report = quality.compute()
    assert report.all_classes.pq == (1 if listed else None)
    assert report.all_classes.num_classes == len(set(listed.values()))
    assert sum(row.true_positives for row in report.per_class) == len(listed)


def test_counting_and_sorting_of_pairs_agree(categories, make_result) -> None:
    """More pairs than pixels: the sparse way. The same segments in a larger image: the dense way."""
    ids = np.arange(1, 301).reshape(15, 20)
    classes = {i: (CAR, PERSON)[i % 2] for i in range(1, 301)}
    shifted = {i: (PERSON, CAR)[i % 2] for i in range(1, 301)}
    states = []
    for margin in (0, 290):
        truth, prediction = np.pad(ids, ((0, margin), (0, margin))), np.pad(np.roll(ids, 1), ((0, margin), (0, margin)))
        quality = PanopticQuality(categories)
        quality.update(make_result(prediction, shifted), make_result(truth, classes), "a")
        states.append(quality.state)
    assert torch.equal(states[0], states[1])
    assert states[0][:, 1].sum() == 300


def test_parts_sum_up(categories, make_result) -> None:
    truth, wrong = make_result(np.ones((2, 2)), {1: CAR}), make_result(np.ones((2, 2)), {1: PERSON})
    one, here, there = (PanopticQuality(categories) for _ in range(3))
    for shares, prediction in (((one, here), truth), ((one, there), wrong)):
        for share in shares:
            share.update(prediction, truth, "a")
    here.merge([here.counted(), there.counted()])
    assert here.compute() == one.compute()


def test_sizes_must_agree(quality, make_result) -> None:
    with pytest.raises(DatasetError, match=r"Image street_7: the prediction has .* \(4, 5\), the truth \(4, 6\)"):
        quality.update(make_result(np.ones((4, 5)), {1: CAR}), make_result(np.ones((4, 6)), {1: CAR}), "street_7")


@pytest.mark.parametrize(
    ("map_", "classes", "message"),
    [
        ([[1, 3]], {1: CAR}, r"has id 3 at \(y=0, x=1\), but segments_info lists no such segment"),
        ([[1, 1]], {1: CAR, 2: CAR}, "lists id 2, but no pixel"),
        ([[0, 1]], {1: CAR, 0: ROAD}, "lists id 0"),
        ([[-1, 1]], {1: CAR}, "has segment ids from -1 to 1"),
        ([[1, 1]], {1: 5}, "category_id 5"),
    ],
)
@pytest.mark.parametrize("who", ["Prediction", "Truth"])
def test_contradictions_name_image_and_side(quality, make_result, map_, classes, message: str, who: str) -> None:
    good, bad = make_result([[1, 1]], {1: CAR}), make_result(map_, classes)
    pair = (bad, good) if who == "Prediction" else (good, bad)
    with pytest.raises(DatasetError, match=rf"{who} of image street_7.*{message}"):
        quality.update(*pair, "street_7")
