"""Counted numbers against sorted ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from panoptic_deeplab.data.levels import Levels

_FINITE = st.floats(-1e6, 1e6, width=32)


@given(
    images=st.lists(
        st.one_of(
            arrays(np.uint8, (3, 4, 3)),
            arrays(np.uint16, (3, 4, 3)),
            arrays(np.int32, (3, 4, 3), elements=st.integers(-(10**6), 10**6)),
            arrays(np.float32, (3, 4, 3), elements=_FINITE),
        ),
        min_size=1,
        max_size=4,
    ),
    percentiles=st.sampled_from([(0.0, 100.0), (10.0, 80.0), (0.1, 99.9)]),
)
def test_levels_are_those_of_all_numbers_sorted(images, percentiles):
    levels = Levels(percentiles)
    for image in images:
        levels.add(image)
    ranks = np.sort(np.concatenate([image.astype(np.float64).ravel() for image in images]))
    expected = [ranks[int(p / 100 * (ranks.size - 1))] for p in percentiles]
    found = levels.of_set()
    if found is None:
        assert expected[0] == pytest.approx(expected[1], rel=2e-3, abs=1e-30)
    else:
        assert found == pytest.approx(expected, rel=2e-3, abs=1e-30)


def test_whole_numbers_are_exact():
    levels = Levels((0, 100))
    levels.add(np.array([[[102, 3911, 500]]], np.uint16))
    assert levels.of_set() == (102, 3911)


def test_one_number_has_no_range():
    levels = Levels((0, 100))
    assert levels.of_set() is None
    levels.add(np.full((2, 2, 3), 7, np.uint8))
    assert levels.of_set() is None
    assert levels.differ_by() == 1


@pytest.mark.parametrize(
    ("image", "fits"),
    [
        (np.full((2, 2, 3), 9, np.uint8), True),
        (np.full((2, 2, 3), 4095, np.uint16), False),
        (np.full((2, 2, 3), 40000, np.uint16), True),
        (np.zeros((2, 2, 3), np.uint16), True),
        (np.full((2, 2, 3), 0.5, np.float32), True),
        (np.full((2, 2, 3), 1.5, np.float32), False),
        (np.full((2, 2, 3), 9, np.int32), False),
    ],
)
def test_what_makes_use_of_its_type(image, fits):
    levels = Levels((0, 100))
    levels.add(image)
    assert levels.fit_type is fits


def test_contrasts_of_images_differ():
    levels = Levels((0, 100))
    for factor in (1, 1, 4, 4):
        levels.add(np.arange(12, dtype=np.uint16).reshape(2, 2, 3) * factor)
    assert levels.differ_by() == pytest.approx(4)
