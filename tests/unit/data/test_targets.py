"""Targets: each rule by itself, and the whole against an obvious implementation."""

import math

import numpy as np
import pytest
import torch

from panoptic_deeplab.categories import IGNORE_INDEX, Category, CategoryTable
from panoptic_deeplab.config import TargetConfig
from panoptic_deeplab.data.targets import make_targets
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID
from panoptic_deeplab.results.panoptic_result import Segment

SKY, CAR, PERSON = 0, 1, 2
CATEGORIES = CategoryTable(
    name="three",
    categories=(
        Category(id=7, name="sky", isthing=False, color=(0, 0, 255)),
        Category(id=11, name="car", isthing=True, color=(255, 0, 0)),
        Category(id=3, name="person", isthing=True, color=(0, 255, 0)),
    ),
)
CONFIG = TargetConfig()


def segment(segment_id: int, train_id: int, *, iscrowd: bool = False) -> Segment:
    category = CATEGORIES[train_id]
    return Segment(
        id=segment_id,
        category_id=category.id,
        name=category.name,
        isthing=category.isthing,
        area=1,
        bbox=(0, 0, 1, 1),
        iscrowd=iscrowd,
    )


def square(top: int, left: int, side: int, *, size: tuple[int, int] = (80, 90), segment_id: int = 5) -> np.ndarray:
    panoptic_map = np.zeros(size, np.int32)
    panoptic_map[top : top + side, left : left + side] = segment_id
    return panoptic_map


def test_a_thing_gets_heatmap_offset_and_weights() -> None:
    panoptic_map = square(40, 10, 5)
    targets = make_targets(panoptic_map, [segment(5, CAR)], categories=CATEGORIES, config=CONFIG)
    inside = torch.from_numpy(panoptic_map == 5)
    assert targets.semantic.dtype == torch.uint8
    assert (targets.semantic[inside] == CAR).all()
    assert (targets.semantic[~inside] == IGNORE_INDEX).all()
    assert targets.center_heatmap.argmax() == 42 * 90 + 12
    assert targets.center_heatmap[42, 12] == 1
    assert targets.center_heatmap[42, 20].item() == pytest.approx(math.exp(-(8**2) / (2 * 8**2)))
    assert targets.offset[:, 40, 14].tolist() == [2, -2]
    assert torch.equal(targets.center_weight, inside.float())
    assert torch.equal(targets.offset_weight, inside.float())
    assert torch.equal(targets.semantic_weight, 3 * inside.float())


def test_gaussian_is_cut_at_half_its_side() -> None:
    heatmap = make_targets(square(0, 0, 1), [segment(5, CAR)], categories=CATEGORIES, config=CONFIG).center_heatmap
    assert heatmap[25, 25] > 0  # side 6 sigma + 3 = 51, so 25 pixels to each side
    assert (heatmap[26:] == 0).all()
    assert (heatmap[:, 26:] == 0).all()


def test_gaussians_of_neighbors_are_joined_by_maximum() -> None:
    both = square(10, 10, 1) + square(10, 16, 1, segment_id=6)
    segments = [segment(5, CAR), segment(6, PERSON)]
    heatmap = make_targets(both, segments, categories=CATEGORIES, config=CONFIG).center_heatmap
    assert heatmap[10, 10] == heatmap[10, 16] == 1
    assert heatmap[10, 12].item() == pytest.approx(math.exp(-(2**2) / 128))


def test_peak_is_rounded_and_offset_is_exact() -> None:
    panoptic_map = np.zeros((9, 11), np.int32)
    panoptic_map[[2, 3, 5], [4, 4, 6]] = 5  # mean (y, x) = (10 / 3, 14 / 3)
    targets = make_targets(panoptic_map, [segment(5, CAR)], categories=CATEGORIES, config=CONFIG)
    assert divmod(int(targets.center_heatmap.argmax()), 11) == (3, 5)
    assert targets.center_heatmap[3, 5] == 1
    for y, x in ((2, 4), (3, 4), (5, 6)):
        assert targets.offset[:, y, x].tolist() == pytest.approx([10 / 3 - y, 14 / 3 - x], abs=1e-6)


@pytest.mark.parametrize(("start", "peak"), [(0, 0), (1, 2), (2, 2), (3, 4)])
def test_halves_are_rounded_to_even(start: int, peak: int) -> None:
    """The mean of `start` and `start + 1`, which a flip of an odd-sized image maps to another half."""
    for axis in (0, 1):
        panoptic_map = np.zeros((9, 9), np.int32)
        panoptic_map[(slice(start, start + 2), 6) if axis == 0 else (6, slice(start, start + 2))] = 5
        heatmap = make_targets(panoptic_map, [segment(5, CAR)], categories=CATEGORIES, config=CONFIG).center_heatmap
        assert divmod(int(heatmap.argmax()), 9) == ((peak, 6) if axis == 0 else (6, peak))


def test_stuff_is_supervised_but_has_no_instance() -> None:
    targets = make_targets(square(0, 0, 9), [segment(5, SKY)], categories=CATEGORIES, config=CONFIG)
    assert (targets.semantic[:9, :9] == SKY).all()
    assert (targets.semantic_weight[:9, :9] == 1).all()
    assert (targets.center_weight[:9, :9] == 1).all()
    assert not targets.center_heatmap.any()
    assert not targets.offset_weight.any()
    assert not targets.offset.any()


@pytest.mark.parametrize(("side", "weight"), [(63, 3.0), (64, 1.0)])
def test_small_means_strictly_below_the_limit(side: int, weight: float) -> None:
    targets = make_targets(square(5, 5, side), [segment(5, CAR)], categories=CATEGORIES, config=CONFIG)
    assert targets.semantic_weight.max() == weight


def test_only_the_visible_part_counts() -> None:
    whole = square(0, 0, 64)
    segments = [segment(5, CAR), segment(6, PERSON)]  # 6 was cut away
    targets = make_targets(whole[:, 1:], segments, categories=CATEGORIES, config=CONFIG)
    assert targets.semantic_weight.max() == 3
    assert targets.offset[:, 0, 0].tolist() == [31.5, 31]


@pytest.mark.parametrize("ignored", [True, False])
def test_crowd_draws_no_gaussian_and_has_no_instance_loss(ignored: bool) -> None:
    panoptic_map = square(20, 20, 6) + square(60, 60, 5, segment_id=9)
    targets = make_targets(
        panoptic_map,
        [segment(5, CAR, iscrowd=True), segment(9, CAR)],
        categories=CATEGORIES,
        config=TargetConfig(ignore_crowd_in_semantic=ignored),
    )
    alone = make_targets(
        np.where(panoptic_map == 9, 9, 0), [segment(9, CAR)], categories=CATEGORIES, config=TargetConfig()
    )
    crowd = torch.from_numpy(panoptic_map == 5)
    assert torch.equal(targets.center_heatmap, alone.center_heatmap)
    assert torch.equal(targets.offset, alone.offset)
    assert torch.equal(targets.offset_weight, alone.offset_weight)
    assert torch.equal(targets.center_weight, alone.center_weight)
    assert (targets.semantic[crowd] == (IGNORE_INDEX if ignored else CAR)).all()
    assert (targets.semantic_weight[crowd] == (0 if ignored else 1)).all()


def test_nothing_but_void_is_supervised_nowhere() -> None:
    targets = make_targets(np.zeros((4, 6), np.int32), [], categories=CATEGORIES, config=CONFIG)
    assert (targets.semantic == IGNORE_INDEX).all()
    assert targets.offset.shape == (2, 4, 6)
    for name in ("center_heatmap", "offset", "semantic_weight", "center_weight", "offset_weight"):
        assert not getattr(targets, name).any()


def test_tensor_and_array_give_the_same() -> None:
    panoptic_map = square(3, 3, 7, segment_id=MAX_SEGMENT_ID)
    segments = [segment(MAX_SEGMENT_ID, PERSON)]
    from_array = make_targets(panoptic_map, segments, categories=CATEGORIES, config=CONFIG)
    from_tensor = make_targets(torch.from_numpy(panoptic_map), segments, categories=CATEGORIES, config=CONFIG)
    assert from_array.offset_weight.sum() == 49
    assert all(torch.equal(a, b) for a, b in zip(from_array, from_tensor, strict=True))


def test_an_unlisted_id_is_an_error_with_its_place() -> None:
    with pytest.raises(DatasetError, match=r"id 5 at \(y=2, x=3\)"):
        make_targets(square(2, 3, 1), [segment(4, CAR)], categories=CATEGORIES, config=CONFIG)


@pytest.mark.parametrize("bad_id", [-1, MAX_SEGMENT_ID + 1])
def test_an_id_out_of_range_is_an_error(bad_id: int) -> None:
    with pytest.raises(DatasetError, match="renumber"):
        make_targets(square(2, 3, 1, segment_id=bad_id), [], categories=CATEGORIES, config=CONFIG)


def test_an_unknown_category_is_an_error() -> None:
    stranger = Segment(id=5, category_id=99, name="yeti", isthing=True, area=1, bbox=(0, 0, 1, 1))
    with pytest.raises(DatasetError, match="category_id 99"):
        make_targets(square(2, 3, 1), [stranger], categories=CATEGORIES, config=CONFIG)
