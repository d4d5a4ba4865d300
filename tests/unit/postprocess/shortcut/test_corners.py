"""Which cells their corners decide."""

import pytest
import torch

from panoptic_deeplab.postprocess.centers import Centers
from panoptic_deeplab.postprocess.shortcut.cells import CellGrid, make_cells
from panoptic_deeplab.postprocess.shortcut.corners import CellLabels, decided_runs, label_cells, undecided_cells

THING_MASK = torch.tensor([False, True])


def label(logits, *, offset=None, points=(), align_corners=True) -> tuple[CellLabels, CellGrid]:
    """Cells of a map at a quarter of the input's resolution."""
    logits = torch.as_tensor(logits).float()
    height, width = logits.shape[1:]
    size = (4 * height - 3, 4 * width - 3) if align_corners else (4 * height, 4 * width)
    grid = make_cells((height, width), size, size, align_corners=align_corners)
    centers = Centers(
        points=torch.tensor(points).float().view(-1, 2),
        scores=torch.ones(len(points)),
        valid=torch.ones(len(points), dtype=torch.bool),
    )
    offset = torch.zeros(2, height, width) if offset is None else offset
    return label_cells(logits, offset, grid, centers, thing_mask=THING_MASK), grid


def two_classes(first, *, height=3, width=5):
    """Class 0 leads in the columns before `first`, class 1 in the rest, both by 2."""
    logits = torch.zeros(2, height, width)
    logits[0, :, :first] = 2
    logits[1, :, first:] = 2
    return logits


@pytest.mark.parametrize("align_corners", [False, True])
def test_cells_between_two_classes_are_undecided(align_corners):
    labels, _ = label(two_classes(2), align_corners=align_corners)
    cells = undecided_cells(labels)
    assert set(cells.column.tolist()) == {2}  # between samples 1 and 2
    assert (labels.train_ids[:, :2] == 0).all()
    assert (labels.train_ids[:, 3:] == 1).all()


def test_a_tie_is_undecided():
    labels, _ = label(torch.zeros(2, 3, 5))
    assert labels.is_decided[1:-1, 1:-1].sum() == 0


def test_a_lead_smaller_than_rounding_is_undecided():
    logits = torch.full((2, 3, 5), 1000.0)
    logits[0] += 1e-3
    assert not label(logits)[0].is_decided[1:-1, 1:-1].any()
    logits[0] += 1
    assert label(logits)[0].is_decided.all()


def test_scores_too_far_apart_for_exponentials_are_undecided():
    assert label(two_classes(5) * 30)[0].is_decided.all()
    assert not label(two_classes(5) * 50)[0].is_decided[1:-1, 1:-1].any()


def test_things_between_two_centers_are_undecided():
    labels, _ = label(two_classes(0, width=9), points=[(4, 0), (4, 32)])
    # pixel 16 is as near to one as to the other; samples 4 lie there
    assert set(undecided_cells(labels).column.tolist()) == {4, 5}
    assert (labels.slots[1:-1, 1:4] == 0).all()
    assert (labels.slots[1:-1, 6:-1] == 1).all()


def test_stuff_needs_no_center():
    labels, _ = label(two_classes(9, width=9), points=[(4, 0), (4, 32)])
    assert labels.is_decided.all()
    assert (labels.slots == 2).all()


def test_without_a_center_things_are_decided_too():
    labels, _ = label(two_classes(2))
    assert set(undecided_cells(labels).column.tolist()) == {2}
    assert (labels.slots == labels.train_ids).all()


@pytest.mark.parametrize("align_corners", [False, True])
def test_runs_cover_the_pixels_of_decided_cells(align_corners):
    logits = torch.nn.functional.avg_pool2d(torch.randn(2, 20, 30), 5, stride=1, padding=2)
    labels, grid = label(logits, align_corners=align_corners)
    height, width = len(grid.rows.cell), len(grid.columns.cell)
    expected = torch.where(labels.is_decided, labels.slots, -1)[grid.rows.cell][:, grid.columns.cell]
    found = torch.full((height, width), -1)
    runs = decided_runs(labels, grid)
    assert torch.equal(runs.slots, runs.train_ids.int())  # no centers
    for index in range(len(runs.slots)):
        top, bottom, left, right = (int(side[index]) for side in runs.rectangles)
        assert (found[top : bottom + 1, left : right + 1] == -1).all()
        assert runs.num_pixels[index] == (bottom - top + 1) * (right - left + 1)
        found[top : bottom + 1, left : right + 1] = runs.slots[index]
    assert torch.equal(found, expected.long())
    assert 0 < (found >= 0).sum() < height * width
