"""Cell by cell, a map has the very values that the method gives it."""

import pytest
import torch

from panoptic_deeplab.postprocess.pixels import make_grid, resize
from panoptic_deeplab.postprocess.shortcut.cells import (
    Cells,
    count_pixels,
    expand,
    interpolate,
    interpolate_channel,
    is_pixel,
    make_cells,
    pixel_rows_and_columns,
    split_cells,
)

SIZES = [
    ((5, 7), (17, 25), (17, 25)),
    ((5, 7), (20, 28), (19, 5)),
    ((3, 4), (11, 13), (11, 13)),
    ((1, 1), (4, 5), (4, 5)),
    ((6, 2), (6, 9), (3, 9)),
    ((8, 9), (3, 4), (3, 4)),
    ((4, 3), (1, 1), (1, 1)),
]
every_size = pytest.mark.parametrize(("small", "size", "content"), SIZES)
both_conventions = pytest.mark.parametrize("align_corners", [False, True])


def all_cells(grid):
    """Every cell that has a pixel, in raster order."""
    return Cells(*(count_pixels(grid) > 0).nonzero(as_tuple=True))


def assemble(values, grid, cells, content):
    """Put the pixels of cells into place."""
    y, x = pixel_rows_and_columns(grid, cells)
    out = torch.full((*values.shape[:-2], *content), torch.nan)
    out[..., y, x] = values
    return out


@both_conventions
@every_size
def test_equals_the_method(small, size, content, align_corners):
    map_ = torch.randn(3, *small)
    grid = make_cells(small, size, content, align_corners=align_corners)
    cells = all_cells(grid)
    expected = resize(map_, make_grid(small, size, content, align_corners=align_corners, device=torch.device("cpu")))
    found = assemble(interpolate(map_, grid, cells), grid, cells, content)
    assert torch.equal(found, expected)

    channel = torch.randint(3, content)
    y, x = pixel_rows_and_columns(grid, cells)
    one = assemble(interpolate_channel(map_, channel[y, x], grid, cells), grid, cells, content)
    assert torch.equal(one, expected.gather(0, channel[None])[0])


@both_conventions
@every_size
def test_each_pixel_is_in_one_cell(small, size, content, align_corners):
    grid = make_cells(small, size, content, align_corners=align_corners)
    cells = all_cells(grid)
    y, x = pixel_rows_and_columns(grid, cells)
    counted = is_pixel(grid, cells)
    seen = torch.zeros(content, dtype=torch.int64)
    seen.index_put_((y[counted], x[counted]), torch.tensor(1), accumulate=True)
    assert (seen == 1).all()
    assert count_pixels(grid).sum() == content[0] * content[1]

    index = torch.arange(grid.size[0] * grid.size[1]).view(grid.size)
    expected = torch.zeros(content, dtype=torch.int64)
    expected[y, x] = index[cells.row, cells.column]
    assert torch.equal(expand(index, grid), expected)


@both_conventions
def test_a_value_does_not_depend_on_the_other_cells(align_corners):
    map_ = torch.randn(3, 9, 11)
    grid = make_cells((9, 11), (31, 45), (31, 37), align_corners=align_corners)
    whole = interpolate(map_, grid, all_cells(grid))
    for length in (1, 7, 50):
        parts = [interpolate(map_, grid, part) for part in split_cells(all_cells(grid), length)]
        assert torch.equal(torch.cat(parts, dim=-1), whole)


def test_constant_stays_exact():
    grid = make_cells((3, 3), (8, 10), (8, 10), align_corners=False)
    map_ = torch.full((1, 3, 3), 0.1)
    assert (interpolate(map_, grid, all_cells(grid)) == map_[0, 0, 0]).all()


def test_stride_four_gives_four_by_four_pixels():
    for align_corners, size in ((True, (33, 65)), (False, (32, 64))):
        map_size = (9, 17) if align_corners else (8, 16)
        grid = make_cells(map_size, size, size, align_corners=align_corners)
        assert grid.num_places == 16


def test_no_cells():
    grid = make_cells((3, 3), (9, 9), (9, 9), align_corners=True)
    none = Cells(*torch.zeros(2, 0, dtype=torch.int64))
    assert len(split_cells(none, 5)) == 1
    assert interpolate(torch.zeros(2, 3, 3), grid, none).shape == (2, 16, 0)
