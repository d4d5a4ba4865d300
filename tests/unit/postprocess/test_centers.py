"""Which pixels of a heatmap are centers."""

import pytest
import torch

from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.postprocess.centers import find_centers, find_peaks
from panoptic_deeplab.postprocess.shortcut.cells import make_cells
from panoptic_deeplab.postprocess.shortcut.peaks import centers_of_list


def found(heatmap, *, threshold=0.1, nms_kernel=7, top_k=200):
    """[(y, x, score)] of one image."""
    config = PostprocessConfig(center_threshold=threshold, nms_kernel=nms_kernel, top_k=top_k)
    centers = find_centers(heatmap, config)
    assert centers.points.shape == (top_k, 2)
    valid = centers.valid
    assert not valid[valid.sum() :].any()  # padding comes last
    assert torch.isinf(centers.points[~valid]).all()
    assert (centers.scores[~valid] == 0).all()
    size = (heatmap.shape[0], heatmap.shape[1])
    listed = centers_of_list(heatmap, make_cells(size, size, size, align_corners=True), config)
    for field, other in zip(centers, listed, strict=True):
        assert torch.equal(field, other)
    points, scores = centers.points[valid].tolist(), centers.scores[valid].tolist()
    return [(*point, round(score, 4)) for point, score in zip(points, scores, strict=True)]


def heatmap_with(*peaks, size=(30, 40)):
    heatmap = torch.zeros(size)
    for y, x, value in peaks:
        heatmap[y, x] = value
    return heatmap


def test_strongest_first():
    assert found(heatmap_with((5, 6, 0.5), (20, 30, 0.9))) == [(20, 30, 0.9), (5, 6, 0.5)]


def test_threshold_is_strict():
    assert found(heatmap_with((5, 6, 0.5), (20, 30, 0.25)), threshold=0.25) == [(5, 6, 0.5)]


def test_nothing_above_the_threshold():
    assert found(torch.full((9, 9), 0.05)) == []


@pytest.mark.parametrize(("distance", "count"), [(3, 1), (4, 2)])
def test_two_peaks_within_one_window_are_one_center(distance, count):
    assert len(found(heatmap_with((10, 10, 0.9), (10 - distance, 10 + distance, 0.8)))) == count


def test_plateau_is_one_center():
    heatmap = torch.zeros(30, 40)
    heatmap[10:22, 5:30] = 0.7  # much larger than the window
    assert found(heatmap) == [(10, 5, 0.7)]


def test_equal_peaks_in_one_window_keep_the_first_in_raster_order():
    assert found(heatmap_with((10, 12, 0.7), (12, 9, 0.7))) == [(10, 12, 0.7)]
    assert found(heatmap_with((10, 12, 0.7), (10, 9, 0.7))) == [(10, 9, 0.7)]


def test_negative_heatmap_at_the_border_is_no_smaller_than_outside():
    """Zero padding would hide a maximum that is negative."""
    heatmap = torch.full((8, 8), -5.0)
    heatmap[0, 0] = -1.0
    assert found(heatmap, threshold=-2.0) == [(0, 0, -1.0)]


@pytest.mark.parametrize("corner", [(0, 0), (0, 39), (29, 0), (29, 39)])
def test_corners(corner):
    assert found(heatmap_with((*corner, 0.6))) == [(*corner, 0.6)]


def test_equal_scores_at_rank_k_stay_in_raster_order():
    peaks = [(y, x, 0.5) for y in (2, 12, 22) for x in (3, 13, 23)]
    heatmap = heatmap_with(*peaks, (28, 35, 0.9))
    assert found(heatmap, top_k=4) == [(28, 35, 0.9), *peaks[:3]]


def test_more_centers_than_top_k_keeps_the_strongest():
    peaks = [(5 * i + 2, 10, 0.2 + 0.1 * i) for i in range(5)]
    assert [round(s, 1) for *_, s in found(heatmap_with(*peaks), top_k=2)] == [0.6, 0.5]


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (5, 1)])
def test_fewer_pixels_than_top_k(size):
    heatmap = torch.zeros(size)
    heatmap[-1, -1] = 1.0
    assert found(heatmap) == [(size[0] - 1, size[1] - 1, 1.0)]


def test_kernel_of_one_keeps_every_pixel_above_the_threshold():
    assert found(torch.tensor([[0.5, 0.5], [0.05, 0.6]]), nms_kernel=1) == [(1, 1, 0.6), (0, 0, 0.5), (0, 1, 0.5)]


def test_peaks_are_not_limited_in_number():
    heatmap = heatmap_with(*[(y, x, 0.5) for y in range(2, 30, 4) for x in range(2, 40, 4)])
    strength, place = find_peaks(heatmap, threshold=0.1, nms_kernel=7)
    kept = strength > -torch.inf
    assert place[kept].tolist() == [40 * y + x for y in range(2, 30, 4) for x in range(2, 40, 4)]
