"""Votes, stuff filter, numbering, boxes and scores, on label maps written by hand."""

import pytest
import torch

from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.merging import SlotSums, decide_segments

THING_MASK = torch.tensor([False, True, True, False])  # classes 0 and 3 are stuff
NUM_CENTERS = 3


def merge(slots, train_ids, *, probability=None, center_scores=(0.9, 0.8, 0.7), stuff_area_limit=0):
    slots, train_ids = torch.tensor(slots), torch.tensor(train_ids)
    if probability is None:
        probability = torch.nn.functional.one_hot(train_ids, 4).movedim(-1, 0).float()
    sums = SlotSums(NUM_CENTERS, THING_MASK)
    for row in range(len(slots)):
        rows = slice(row, row + 1)
        sums.add(slots[rows], train_ids[rows], probability[:, rows], first_row=row)
    scores = torch.tensor(center_scores)
    centers = Centers(points=torch.zeros(3, 2), scores=scores, valid=torch.ones(3, dtype=torch.bool))
    return decide_segments(sums, centers, stuff_area_limit=stuff_area_limit)


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
    assert table.segment_ids[0] == 1  # instances have no limit


def test_area_of_stuff_is_that_of_all_its_components():
    table = merge([[3, 0, 3], [1, 1, 1], [3, 1, 3]], [[0, 1, 0], [1, 1, 1], [0, 1, 0]], stuff_area_limit=4)
    assert table.segment_ids[3] > 0
    assert table.areas[3] == 4


def test_boxes_are_x_y_width_height():
    table = merge([[3, 3, 3, 3], [3, 0, 3, 0], [3, 3, 0, 3]], [[0] * 4, [0, 1, 0, 1], [0, 0, 1, 0]])
    assert table.boxes[0].tolist() == [1, 1, 3, 2]
    assert table.boxes[3].tolist() == [0, 0, 4, 3]


def test_scores():
    probability = torch.zeros(4, 1, 4)
    probability[1, 0, :3] = torch.tensor([0.9, 0.6, 0.3])
    probability[2, 0, 2] = 0.7
    probability[0, 0, 3] = 0.55
    table = merge([[1, 1, 1, 3]], [[1, 1, 2, 0]], probability=probability)
    assert table.scores[1].item() == pytest.approx(0.8 * 0.6)  # mean over the whole mask, of the voted class
    assert table.scores[3].item() == pytest.approx(0.55)
    assert table.scores[[0, 2, 4, 5, 6]].tolist() == [0] * 5


def test_objectness_is_not_normalized():
    assert merge([[0]], [[1]], center_scores=(1.5, 0.0, 0.0)).scores[0].item() == pytest.approx(1.5)


def test_many_equal_probabilities_do_not_lose_precision():
    """A float32 sum of so many would be off in the third digit."""
    sums = SlotSums(0, torch.tensor([False]))
    block = torch.zeros(1000, 1000, dtype=torch.int64)
    for row in range(0, 3000, 1000):
        sums.add(block, block, torch.full((1, 1000, 1000), 0.1), first_row=row)
    empty = Centers(points=torch.zeros(0, 2), scores=torch.zeros(0), valid=torch.zeros(0, dtype=torch.bool))
    assert decide_segments(sums, empty, stuff_area_limit=0).scores.item() == pytest.approx(0.1, rel=1e-6)
