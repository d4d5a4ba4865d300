"""Votes, stuff filter, numbering, boxes and scores, on label maps written by hand."""

import pytest
import torch

from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.merging import Rectangles, SlotSums, decide_segments, score_segments

THING_MASK = torch.tensor([False, True, True, False])  # classes 0 and 3 are stuff
NUM_CENTERS = 3


def count(slots, train_ids):
    """Sums over the pixels of a label map, added row by row."""
    slots, train_ids = torch.tensor(slots), torch.tensor(train_ids)
    sums = SlotSums(NUM_CENTERS, THING_MASK)
    x = torch.arange(slots.shape[1])
    for y in range(len(slots)):
        rows = torch.full_like(x, y)
        sums.add_pixels(slots[y], train_ids[y], rows, x)
    return sums


def decide(sums, *, stuff_area_limit=0, instance_area_limit=0):
    return decide_segments(sums, stuff_area_limit=stuff_area_limit, instance_area_limit=instance_area_limit)


def merge(slots, train_ids, **limits):
    return decide(count(slots, train_ids), **limits)


def make_centers(*scores):
    return Centers(
        points=torch.zeros(len(scores), 2),
        scores=torch.tensor(scores),
        valid=torch.ones(len(scores), dtype=torch.bool),
    )


def test_majority_decides_the_class_of_an_instance():
    table = merge([[0, 0, 0, 1, 1]], [[2, 2, 1, 1, 1]])
    assert table.train_ids[:2].tolist() == [2, 1]


def test_equal_votes_go_to_the_lower_train_id():
    assert merge([[0, 0, 0, 0]], [[2, 1, 2, 1]]).train_ids[0] == 1


def test_ids_count_instances_by_strength_then_stuff_by_train_id():
    #                 instance 2 is empty; class 3 comes first in the image
    table = merge([[6, 6, 1, 0, 3]], [[3, 3, 1, 1, 0]])
    assert table.segment_ids.tolist() == [1, 2, 0, 3, 0, 0, 4]
    assert table.areas.tolist() == [1, 1, 0, 1, 0, 0, 2]


def test_thing_pixels_without_center_are_void():
    table = merge([[4, 5, 5, 3]], [[1, 2, 2, 0]])
    assert table.segment_ids.tolist() == [0, 0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("limit", "kept"), [(0, [True, True]), (2, [True, True]), (3, [True, False]), (5, [False] * 2)]
)
def test_stuff_below_the_limit_is_void(limit, kept):
    table = merge([[3, 3, 3, 3], [6, 6, 0, 0]], [[0, 0, 0, 0], [3, 3, 1, 1]], stuff_area_limit=limit)
    assert (table.segment_ids[[3, 6]] > 0).tolist() == kept
    assert table.segment_ids[0] == 1  # instances have a limit of their own


@pytest.mark.parametrize(("limit", "kept"), [(0, [1, 2]), (3, [1, 2]), (4, [1, 0]), (5, [0, 0])])
def test_instances_below_the_limit_are_void(limit, kept):
    table = merge([[0, 0, 0, 0], [1, 1, 1, 3]], [[1, 1, 1, 1], [2, 2, 2, 0]], instance_area_limit=limit)
    assert table.segment_ids[[0, 1]].tolist() == kept
    assert table.segment_ids[3] == max(kept) + 1  # of stuff there is no such limit; ids leave no gap
    assert table.areas[:2].tolist() == [4, 3]


def test_area_of_stuff_is_that_of_all_its_components():
    table = merge([[3, 0, 3], [1, 1, 1], [3, 1, 3]], [[0, 1, 0], [1, 1, 1], [0, 1, 0]], stuff_area_limit=4)
    assert table.segment_ids[3] > 0
    assert table.areas[3] == 4


def test_boxes_are_x_y_width_height():
    table = merge([[3, 3, 3, 3], [3, 0, 3, 0], [3, 3, 0, 3]], [[0] * 4, [0, 1, 0, 1], [0, 0, 1, 0]])
    assert table.boxes[0].tolist() == [1, 1, 3, 2]
    assert table.boxes[3].tolist() == [0, 0, 4, 3]


def test_rectangles_count_like_their_pixels():
    """The last one stands for no pixel, since it repeats one."""
    slots, train_ids = [[3, 3, 0], [3, 3, 0]], [[0, 0, 1], [0, 0, 1]]
    rectangles = Rectangles(*(torch.tensor(values) for values in ([0, 0, 1], [1, 1, 1], [0, 2, 1], [1, 2, 1])))
    sums = SlotSums(NUM_CENTERS, THING_MASK)
    sums.add_rectangles(torch.tensor([3, 0, 3]), torch.tensor([0, 1, 2]), torch.tensor([4, 2, 0]), rectangles)
    for one, other in zip(decide(sums), merge(slots, train_ids), strict=True):
        assert torch.equal(one[[0, 3]], other[[0, 3]])


def test_scores():
    sums = count([[1, 1, 1, 3]], [[1, 1, 2, 0]])
    sums.add_probability(torch.tensor([1, 1, 1, 3]), torch.tensor([0.9, 0.6, 0.3, 0.55]))
    table = decide(sums)
    scores = score_segments(sums, table, make_centers(0.9, 0.8, 0.7))
    assert scores[1].item() == pytest.approx(0.8 * 0.6)  # mean over the whole mask
    assert scores[3].item() == pytest.approx(0.55)
    assert scores[[0, 2, 4, 5, 6]].tolist() == [0] * 5


def test_objectness_is_not_normalized():
    sums = count([[0]], [[1]])
    sums.add_probability(torch.tensor([0]), torch.tensor([1.0]))
    scores = score_segments(sums, decide(sums), make_centers(1.5, 0.0, 0.0))
    assert scores[0].item() == pytest.approx(1.5)


def test_many_equal_probabilities_do_not_lose_precision():
    """A float32 sum of so many would be off in the third digit."""
    sums = SlotSums(0, torch.tensor([False]))
    slots = torch.zeros(1_000_000, dtype=torch.int64)
    for _ in range(3):
        sums.add_probability(slots, torch.full((1_000_000,), 0.1))
    sums.votes[:] = 3_000_000
    scores = score_segments(sums, decide(sums), make_centers())
    assert scores.item() == pytest.approx(0.1, rel=1e-6)
