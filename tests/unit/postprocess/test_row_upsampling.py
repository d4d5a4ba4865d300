"""Upsampling row by row is upsampling."""

import pytest
import torch

from panoptic_deeplab.maps import upsample
from panoptic_deeplab.postprocess.row_upsampling import upsample_rows

SIZES = [
    ((5, 7), (17, 25)),
    ((5, 7), (20, 28)),
    ((3, 4), (11, 13)),
    ((1, 1), (4, 5)),
    ((6, 2), (6, 9)),
    ((8, 9), (3, 4)),
]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("small", "size"), SIZES)
def test_equals_interpolate(small, size, align_corners):
    map_ = torch.randn(3, *small, dtype=torch.float64)
    expected = upsample(map_[None], size, align_corners=align_corners)[0]
    rows = upsample_rows(map_, range(size[0]), size=size, width=size[1], align_corners=align_corners)
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-6)  # fractions are float32


@pytest.mark.parametrize("align_corners", [False, True])
def test_rows_do_not_depend_on_the_block(align_corners):
    map_ = torch.randn(3, 9, 11)
    arguments = {"size": (31, 45), "width": 37, "align_corners": align_corners}
    whole = upsample_rows(map_, range(31), **arguments)
    assert whole.shape == (3, 31, 37)
    for first, last in [(0, 1), (7, 20), (30, 31)]:
        assert torch.equal(upsample_rows(map_, range(first, last), **arguments), whole[:, first:last])


def test_constant_stays_exact():
    map_ = torch.full((1, 3, 3), 0.1)
    assert (upsample_rows(map_, range(8), size=(8, 10), width=10, align_corners=False) == map_[0, 0, 0]).all()
