"""Run lengths of COCO: what is none, and what does not fill a mask (what is read is in `tests/property`)."""

import numpy as np
import pytest

from panoptic_deeplab.data.formats.common.coco_rle import counts_fault, mask_of_counts, rle_counts


def test_runs_go_from_the_top_down_and_begin_with_zeros() -> None:
    expected = [[False, False, True], [False, True, False]]
    for counts in ([3, 2, 1], "321", b"321"):
        np.testing.assert_array_equal(mask_of_counts(rle_counts(counts), (2, 3)), expected)


@pytest.mark.parametrize("counts", [None, 7, [1, "2"], [1, -2], [1.0], "a\x00", "~~~", "ok\x7f", "P", "PPPPPPPP1"])
def test_run_lengths_that_are_none(counts: object) -> None:
    with pytest.raises(ValueError, match=r"has (the )?run lengths"):
        rle_counts(counts)


def test_run_lengths_must_fill_the_mask() -> None:
    assert "has run lengths of 5 pixels in all" in str(counts_fault(rle_counts([2, 3]), (2, 3)))
    assert counts_fault(rle_counts([2, 3, 1]), (2, 3)) is None
    assert counts_fault(np.array([7, -1]), (2, 3)) is not None
