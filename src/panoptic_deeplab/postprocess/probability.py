"""Probabilities of decided cells: how likely their segment's class is, summed over the pixels of the cell.

The softmax at full resolution is what post-processing computes most: C exponentials a pixel. In a cell where one class
leads at all corners, scores minus those of that class are bilinear, so

    exp(score at row j, column i) = E * Qy^j * Qx^i * Qxy^(i j)

with four exponentials a class and cell instead of 16 (stride 4); the rest are products. No score exceeds the leading
one, so no exponential exceeds 1; `corners.py` leaves cells undecided whose scores lie too far apart for this.

Dimension letters: `C` classes, `h w` samples of the map, `p q` samples around cells, `Y X` cells, `j i` places in a
cell.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from panoptic_deeplab.postprocess.bands import for_each_band
from panoptic_deeplab.postprocess.cells import CellGrid
from panoptic_deeplab.postprocess.corners import CellLabels


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
        0 in undecided cells.
    """
    scores, largest, is_decided, classes = (t.numpy() for t in (logits, labels.largest, labels.is_decided, train_ids))
    steps = np.float32(grid.rows.step), np.float32(grid.columns.step)
    first_y, first_x = grid.rows.fraction[:, :1].numpy(), grid.columns.fraction[:, 0].numpy()
    is_row, is_column = (
        np.arange(axis.fraction.shape[1])[:, None] < axis.num_pixels.numpy() for axis in (grid.rows, grid.columns)
    )
    probability = np.zeros(classes.shape, np.float32)

    def add_up(rows: slice) -> None:
        if not is_decided[rows].any():
            return
        samples = _samples_around(scores, rows)
        samples -= _samples_around(largest[None], rows)  # the leading class of a cell has zeros at its corners
        with np.errstate(all="ignore"):  # undecided cells hold anything
            logarithms = _at_first_pixels(samples, first_y[rows], first_x, steps)
            parts = _exponentials(logarithms, classes[rows], (len(is_row), len(is_column)))
            parts /= _sums_of_exponentials(logarithms, parts)
            np.copyto(parts, 0, where=~(is_row[:, None, rows, None] & is_column[:, None]))
            np.copyto(probability[rows], parts.sum(axis=(0, 1)), where=is_decided[rows])

    for_each_band(add_up, num_rows=len(classes), elements_a_row=len(scores) * classes.shape[1])
    return torch.from_numpy(probability)


class _Bilinear(NamedTuple):
    """Scores inside of cells: start + i * right + j * down + i * j * both at place (j, i)."""

    start: Float32[np.ndarray, "C y X"]
    right: Float32[np.ndarray, "C y X"]
    down: Float32[np.ndarray, "C y X"]
    both: Float32[np.ndarray, "C y X"]


def _at_first_pixels(
    samples: Float32[np.ndarray, "C p q"],
    first_y: Float32[np.ndarray, "y 1"],
    first_x: Float32[np.ndarray, " X"],
    steps: tuple[np.float32, np.float32],
) -> _Bilinear:
    """From the corners of cells: `first_y` and `first_x` are the fractions of the pixel in place (0, 0)."""
    upper, down = samples[:, :-1], np.diff(samples, axis=1)
    upper = upper + down * first_y if first_y.any() else upper
    start, right = upper[..., :-1], np.diff(upper, axis=2)
    down, both = down[..., :-1], np.diff(down, axis=2)
    if first_x.any():
        start, down = start + right * first_x, down + both * first_x
    right *= steps[1]
    both *= steps[0] * steps[1]
    return _Bilinear(start=start.copy(), right=right, down=down * steps[0], both=both)


def _exponentials(
    logarithms: _Bilinear, classes: Int64[np.ndarray, "y X"], places: tuple[int, int]
) -> Float32[np.ndarray, "j i y X"]:
    """Of one class for each cell, at all places."""
    start, right, down, both = (np.take_along_axis(part, classes[None], axis=0)[0] for part in logarithms)
    j = np.arange(places[0], dtype=np.float32)[:, None, None, None]
    i = np.arange(places[1], dtype=np.float32)[:, None, None]
    score: Float32[np.ndarray, "j i y X"] = (start + j * down) + i * (right + j * both)
    np.exp(score, out=score)
    return score


def _sums_of_exponentials(
    logarithms: _Bilinear, like: Float32[np.ndarray, "j i y X"]
) -> Float32[np.ndarray, "j i y X"]:
    """Over all classes, at all places; `logarithms` are used up."""
    start, right, down, both = (np.exp(part, out=part) for part in logarithms)
    sums, moving = np.empty_like(like), np.empty_like(start)
    for j in range(len(like)):
        if j > 0:
            start *= down
            right *= both
        start.sum(axis=0, out=sums[j, 0])
        for i in range(1, like.shape[1]):
            np.multiply(moving if i > 1 else start, right, out=moving)
            moving.sum(axis=0, out=sums[j, i])
    return sums


def _samples_around(map_: Float32[np.ndarray, "n h w"], rows: slice) -> Float32[np.ndarray, "n p q"]:
    """Samples at the corners of some rows of cells, with those thought beyond the border."""
    channels, height, width = map_.shape
    first, last = max(rows.start - 1, 0), min(rows.stop, height)
    samples = np.empty((channels, rows.stop - rows.start + 1, width + 2), np.float32)
    above = first - (rows.start - 1)
    samples[:, above : above + last - first, 1:-1] = map_[:, first:last]
    samples[:, :above, 1:-1] = map_[:, first : first + 1]
    samples[:, above + last - first :, 1:-1] = map_[:, last - 1 : last]
    samples[..., 0], samples[..., -1] = samples[..., 1], samples[..., -2]
    return samples
