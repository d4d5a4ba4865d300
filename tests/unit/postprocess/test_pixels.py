"""Maps are resized as by `maps.upsample`; classes and probabilities are those of the resized scores."""

import pytest
import torch

from panoptic_deeplab.maps import RawMaps, upsample, upsample_offset
from panoptic_deeplab.postprocess import pixels
from panoptic_deeplab.postprocess.pixels import (
    class_probability,
    classify_pixels,
    make_grid,
    maps_of_image,
    pixel_positions,
    resize,
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


def grid_of(small, size, content, *, align_corners):
    return make_grid(small, size, content, align_corners=align_corners, device=torch.device("cpu"))


@both_conventions
@every_size
def test_resized_as_by_upsample(small, size, content, align_corners):
    map_ = torch.randn(3, *small)
    grid = grid_of(small, size, content, align_corners=align_corners)
    assert grid.size == content
    expected = upsample(map_[None], size, align_corners=align_corners)[0, :, : content[0], : content[1]]
    torch.testing.assert_close(resize(map_, grid), expected, rtol=0, atol=2e-6)


@both_conventions
@every_size
def test_a_value_does_not_depend_on_the_other_rows(small, size, content, align_corners):
    map_ = torch.randn(3, *small)
    grid = grid_of(small, size, content, align_corners=align_corners)
    whole = resize(map_, grid)
    for step in (1, 3):
        parts = [resize(map_, grid, slice(row, row + step)) for row in range(0, content[0], step)]
        assert torch.equal(torch.cat(parts, dim=1), whole)


def test_constant_stays_exact():
    grid = grid_of((3, 3), (8, 10), (8, 10), align_corners=False)
    map_ = torch.full((1, 3, 3), 0.1)
    assert (resize(map_, grid) == map_[0, 0, 0]).all()


@both_conventions
def test_offsets_get_the_unit_of_the_input(align_corners):
    raw_maps = RawMaps(torch.randn(2, 4, 5, 7), torch.randn(2, 1, 5, 7), torch.randn(2, 2, 5, 7))
    size = (16, 29)
    maps = maps_of_image(raw_maps, 1, size, align_corners=align_corners)
    grid = grid_of((5, 7), size, size, align_corners=align_corners)
    expected = upsample_offset(raw_maps.offset, size, align_corners=align_corners)[1]
    torch.testing.assert_close(resize(maps.offset, grid), expected, rtol=0, atol=2e-5)
    assert torch.equal(maps.heatmap, raw_maps.center_heatmap[1, 0])
    assert torch.equal(maps.logits, raw_maps.semantic_logits[1])


@pytest.mark.parametrize("block_elements", [1, 500, 10**7])
def test_class_and_probability_of_resized_scores(monkeypatch, block_elements):
    monkeypatch.setattr(pixels, "_BLOCK_ELEMENTS", block_elements)
    logits = (2 * torch.randn(5, 6, 7)).round()  # whole numbers: ties are common
    grid = grid_of((6, 7), (21, 25), (20, 25), align_corners=True)
    scores = resize(logits, grid)
    classes = classify_pixels(logits, grid)
    assert torch.equal(classes.train_ids.long(), scores.argmax(dim=0))
    assert torch.equal(classes.largest, scores.amax(dim=0))
    chosen = torch.randint(5, (20, 25))
    expected = scores.softmax(dim=0).gather(0, chosen[None])[0]
    torch.testing.assert_close(class_probability(chosen, classes, logits, grid), expected)


def test_of_equal_scores_the_lower_train_id():
    grid = grid_of((3, 3), (9, 9), (9, 9), align_corners=True)
    logits = torch.zeros(4, 3, 3)
    logits[0] = -1
    assert (classify_pixels(logits, grid).train_ids == 1).all()


def test_positions_are_y_and_x():
    y, x = pixel_positions(grid_of((3, 3), (9, 9), (4, 6), align_corners=True))
    assert (y[3, 5], x[3, 5]) == (3, 5)
    assert y.shape == x.shape == (4, 6)
