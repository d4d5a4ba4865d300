"""Which neighbors become one instance, on label maps written by hand and on random ones."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.postprocess.borders import add_borders, list_borders, slots_of_listed_wholes
from panoptic_deeplab.postprocess.joining import border_lengths, slots_of_wholes
from panoptic_deeplab.postprocess.merging import SlotSums

naive = SimpleNamespace(**runpy.run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "naive.py")))


def join(slots, voted, fraction, *, num_slots=None):
    """Slot of each slot after joining, by both ways."""
    slots, voted = torch.tensor(slots, dtype=torch.int32), torch.tensor(voted)
    num_slots = len(voted) + 1 if num_slots is None else num_slots
    into = slots_of_wholes(border_lengths(slots, num_slots), voted, fraction=fraction)
    listed = slots_of_listed_wholes(list_borders(slots.numpy(), len(voted)), voted, num_slots, fraction=fraction)
    assert torch.equal(into, listed)
    return into.tolist()


CUT = [
    [3, 3, 3, 3, 3, 3],
    [3, 0, 0, 1, 1, 3],
    [3, 0, 0, 1, 1, 3],
    [3, 3, 3, 3, 3, 2],
]
"""A bar of 4 x 2, cut in the middle: border 2, outlines 8; instance 2 in the corner has an outline of 2."""


@pytest.mark.parametrize(("fraction", "whole"), [(0.001, 0), (0.25, 0), (0.2501, 1), (1.0, 1)])
def test_the_border_as_a_part_of_the_outline(fraction: float, whole: int) -> None:
    assert join(CUT, [1, 1, 1], fraction) == [0, whole, 2, 3]


def test_the_shorter_outline_counts() -> None:
    #       outline of 0: 2 + 4 + 2; of 1, in a corner: 2
    slots = [[2, 0, 0, 0, 1], [2, 2, 2, 2, 2]]
    assert join(slots, [1, 1], 0.5) == [0, 0, 2]
    assert join(slots, [1, 1], 0.51) == [0, 1, 2]


def test_the_edge_of_the_image_is_no_outline() -> None:
    assert join([[0, 0, 1, 1]], [1, 1], 1.0) == [0, 0, 2]


def test_classes_must_be_equal() -> None:
    assert join(CUT, [1, 2, 1], 0.001) == [0, 1, 2, 3]


def test_corners_and_gaps_are_no_border() -> None:
    assert join([[0, 2, 2], [2, 1, 1]], [1, 1], 0.001) == [0, 1, 2]
    assert join([[0, 0, 2, 1, 1]], [1, 1], 0.001) == [0, 1, 2]


def test_what_is_joined_to_the_same_is_joined() -> None:
    """Also in an order in which the strongest comes last; and ids are those of the strongest."""
    assert join([[3, 1, 2, 0, 4]], [1, 1, 1, 1], 0.5) == [0, 0, 0, 0, 4]
    chain = np.random.default_rng(0).permutation(200)[None].tolist()
    assert join(chain, [1] * 200, 0.5) == [0] * 200 + [200]


def test_there_is_one_pass() -> None:
    """2 has a border of 1 with each of 0 and 1, of an outline of 4; with both together it would be a half."""
    slots = [[3, 0, 1, 3]] * 3 + [[3, 2, 2, 3]]
    assert join(slots, [1, 1, 1], 0.4) == [0, 0, 2, 3]
    assert join(slots, [1, 1, 1], 0.25) == [0, 0, 0, 3]


def test_stuff_is_never_joined() -> None:
    assert join([[0, 1, 2]], [0], 0.001, num_slots=3) == [0, 1, 2]


def test_no_instance() -> None:
    borders = list_borders(np.zeros((2, 2), np.int32), 0)
    assert slots_of_listed_wholes(borders, torch.zeros(0, dtype=torch.int64), 2, fraction=0.5).tolist() == [0, 1]


@settings(max_examples=60, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 9),
    st.sampled_from([1e-3, 0.1, 0.25, 0.3, 0.5, 1.0]),
)
def test_equals_loops_over_pixels(seed: int, height: int, width: int, num_centers: int, fraction: float) -> None:
    """In one piece and in bands of rows."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, num_centers + 1, (height, width)).repeat(2, axis=0).repeat(3, axis=1)
    slots = np.where(generator.random(coarse.shape) < 0.1, num_centers, coarse).astype(np.int32)
    voted = generator.integers(0, 2, num_centers)
    into = np.array(join(slots.tolist(), voted.tolist(), fraction))
    assert np.array_equal(into[slots], naive.join_instances(slots, voted, fraction))
    starts = sorted({0, *generator.integers(0, len(slots), 3).tolist()})
    borders = add_borders(
        list_borders(slots[max(first - 1, 0) : last], num_centers, skipped=min(first, 1))
        for first, last in zip(starts, [*starts[1:], len(slots)], strict=True)
    )
    for column, expected in zip(borders, list_borders(slots, num_centers), strict=True):
        assert np.array_equal(column, expected)


def test_sums_of_a_whole_are_those_of_all_its_pixels() -> None:
    thing_mask = torch.tensor([False, True, True])
    slots, train_ids = torch.tensor([[0, 0, 1, 4], [0, 2, 1, 3]]), torch.tensor([[1, 1, 1, 1], [2, 1, 2, 0]])
    y, x = torch.meshgrid(torch.arange(2), torch.arange(4), indexing="ij")
    apart, together = SlotSums(3, thing_mask), SlotSums(3, thing_mask)
    apart.add_pixels(slots, train_ids, y, x)
    into = torch.tensor([0, 0, 2, 3, 4, 5])
    together.add_pixels(into[slots], train_ids, y, x)
    apart.join(into)
    for name in ("votes", "low", "high"):
        assert torch.equal(getattr(apart, name), getattr(together, name))


@pytest.mark.parametrize("value", [0.0, -0.1, 1.01, float("nan")])
def test_a_fraction_that_is_none(value: float) -> None:
    with pytest.raises(ConfigError, match=r"`postprocess.join_border_fraction` must be above 0 and at most 1, or null"):
        PostprocessConfig(join_border_fraction=value)
