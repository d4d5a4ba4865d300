"""Probabilities of decided cells: how likely their segment's class is, summed over the pixels of the cell.

The softmax at full resolution is what post-processing computes most: C exponentials a pixel. In a cell where one class
leads at all corners, scores minus those of that class are bilinear, so

    exp(score at row j, column i) = E * Qy^j * Qx^i * Qxy^(i j)

with four exponentials a class and cell instead of 16 (stride 4); the rest are products. No score exceeds the leading
one, so no exponential exceeds 1; `corners.py` leaves cells undecided whose scores lie too far apart for this.

Dimension letters: `C` classes, `h w` samples of the map, `Y X` cells.
"""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from panoptic_deeplab.postprocess.cells import CellGrid
from panoptic_deeplab.postprocess.corners import CellLabels

_BAND_ELEMENTS = 2**18
"""Cells x classes worked on at once: what stays in the cache of a CPU."""


def probability_in_cells(
    train_ids: Int64[Tensor, "Y X"], labels: CellLabels, logits: Float32[Tensor, "C h w"], grid: CellGrid
) -> Float32[Tensor, "Y X"]:
    """Sum of the softmax probability of one class over the pixels of each cell.

    Args:
        train_ids: the class, for each cell.
        labels: of the cells.
        logits: class scores.
        grid: the cells of the map.

    Returns:
        Meaningless in undecided cells.
    """
    num_classes, (num_rows, num_columns) = len(logits), grid.size
    band_rows = max(1, _BAND_ELEMENTS // (num_classes * num_columns))
    is_wanted = labels.is_decided.any(dim=1).tolist()
    bands = []
    for top in range(0, num_rows, band_rows):
        rows = slice(top, min(top + band_rows, num_rows))
        if any(is_wanted[rows]):
            bands.append(_probability_in_band(train_ids[rows], labels, logits, grid, rows))
        else:
            bands.append(torch.zeros(train_ids[rows].shape))
    return torch.cat(bands)


def _probability_in_band(
    train_ids: Int64[Tensor, "y X"], labels: CellLabels, logits: Float32[Tensor, "C h w"], grid: CellGrid, rows: slice
) -> Float32[Tensor, "y X"]:
    vertical, horizontal = grid.rows, grid.columns
    samples = _samples_around(logits, rows) - _samples_around(labels.largest[None], rows)
    # the leading class of a cell has zeros at its corners
    down = samples.diff(dim=1)
    first = _moved(samples[:, :-1], down, vertical.fraction[rows, :1])  # in the first row of pixels
    right, both = first.diff(dim=2), down.diff(dim=2)
    first_column = horizontal.fraction[:, 0]
    start, down = _moved(first[..., :-1], right, first_column), _moved(down[..., :-1], both, first_column)
    logarithms = [start, right * horizontal.step, down * vertical.step, both * (horizontal.step * vertical.step)]

    chosen = [logarithm.gather(0, train_ids[None])[0] for logarithm in logarithms]
    j, i = (torch.arange(float(axis.fraction.shape[1]))[:, None, None] for axis in (vertical, horizontal))
    j = j[:, None]
    is_pixel = (j < vertical.num_pixels[rows, None]) & (i < horizontal.num_pixels)
    score = (chosen[0] + j * chosen[2]) + i * (chosen[1] + j * chosen[3])
    total = _over_places(*(logarithm.exp_() for logarithm in logarithms), places=(len(j), len(i)))
    return torch.where(is_pixel, score.exp_() / total, 0.0).sum(dim=(0, 1))


def _moved(value: Tensor, slope: Tensor, distance: Tensor) -> Tensor:
    return value + slope * distance if distance.any() else value


def _over_places(
    value: Float32[Tensor, "C y X"],
    factor_right: Float32[Tensor, "C y X"],
    factor_down: Float32[Tensor, "C y X"],
    factor_both: Float32[Tensor, "C y X"],
    *,
    places: tuple[int, int],
) -> Float32[Tensor, "j i y X"]:
    """Sums over the classes at each place of the cells. Works in place."""
    totals = torch.empty(*places, *value.shape[1:])
    moving = torch.empty_like(value)
    for j in range(places[0]):
        if j > 0:
            value *= factor_down
            factor_right *= factor_both
        torch.sum(value, dim=0, out=totals[j, 0])
        for i in range(1, places[1]):
            torch.mul(moving if i > 1 else value, factor_right, out=moving)
            torch.sum(moving, dim=0, out=totals[j, i])
    return totals


def _samples_around(map_: Float32[Tensor, "n h w"], rows: slice) -> Float32[Tensor, "n p q"]:
    """Samples at the corners of some rows of cells, with those thought beyond the border."""
    height = map_.shape[1]
    inner = map_[:, max(rows.start - 1, 0) : min(rows.stop, height)]
    above = [inner[:, :1]] if rows.start == 0 else []
    below = [inner[:, -1:]] if rows.stop == height + 1 else []
    padded = torch.cat([*above, inner, *below], dim=1)
    return torch.cat([padded[..., :1], padded, padded[..., -1:]], dim=2)
