"""Probabilities of decided cells: how likely their segment's class is, summed over the pixels of the cell.

The softmax at full resolution is what post-processing computes most: C exponentials a pixel. In a cell where one class
leads at all corners, scores minus those of that class are bilinear, so

    exp(score at row j, column i) = E * Qy^j * Qx^i * Qxy^(i j)

with four exponentials a class and cell instead of 16 (stride 4); the rest are products. No score exceeds the leading
one, so no exponential exceeds 1; `corners.py` leaves cells undecided whose scores lie too far apart for this.

Dimension letters: `C` classes, `h w` samples of the map, `p q` samples around cells, `Y X` cells, `y` rows of cells in
a band, `n = y q` cells of a band in one line, in which the last of each row is none.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from panoptic_deeplab.postprocess.shortcut.bands import for_each_band
from panoptic_deeplab.postprocess.shortcut.cells import CellGrid
from panoptic_deeplab.postprocess.shortcut.corners import CellLabels


def probability_in_cells(
    train_ids: Int64[Tensor, "Y X"], labels: CellLabels, logits: Float32[Tensor, "C h w"], grid: CellGrid
) -> Float32[Tensor, "Y X"]:
    """Sum of the softmax probability of the class `train_ids` over the pixels of each cell; 0 in undecided cells."""
    scores, largest, is_decided, classes = (t.numpy() for t in (logits, labels.largest, labels.is_decided, train_ids))
    is_led = (labels.is_decided & (train_ids != labels.train_ids)).numpy()  # by a class that its segment has not got
    is_row, is_column = (
        np.arange(axis.fraction.shape[1])[:, None] < axis.num_pixels.numpy() for axis in (grid.rows, grid.columns)
    )
    probability = np.zeros(classes.shape, np.float32)

    def add_up(rows: slice) -> None:
        if not is_decided[rows].any():
            return
        samples = _samples_around(scores, largest, rows)
        total = np.empty((rows.stop - rows.start, samples.shape[2]), np.float32)
        share, summed = total[:, :-1], np.zeros(classes[rows].shape, np.float32)
        led_y, led_x = np.nonzero(is_led[rows])
        led = classes[rows][led_y, led_x], led_y * samples.shape[2] + led_x
        with np.errstate(all="ignore"):  # undecided cells, and places that are no pixel, hold anything
            for j, i, exponentials in _exponentials(samples, grid, rows):
                np.add.reduce(exponentials, axis=0, out=total.reshape(-1))
                np.divide(1, share, out=share)
                share[led_y, led_x] *= exponentials[led]
                np.add(summed, share, out=summed, where=is_row[j, rows, None] & is_column[i])
        np.copyto(probability[rows], summed, where=is_decided[rows])

    for_each_band(add_up, num_rows=len(classes), elements_a_row=len(scores) * classes.shape[1])
    return torch.from_numpy(probability)


def _exponentials(
    samples: Float32[np.ndarray, "C p q"], grid: CellGrid, rows: slice
) -> Iterator[tuple[int, int, Float32[np.ndarray, "C n"]]]:
    """Exponentials of the scores in place (j, i) of all cells, for each j and i. The next overwrite the array.

    In a cell, the score is start + i * right + j * down + i * j * both. The samples are used up.
    """
    channels, _, q = samples.shape
    line = samples.reshape(channels, -1)  # row after row: one long operation is faster than many short ones
    right = np.zeros_like(line)
    np.subtract(line[:, 1:], line[:, :-1], out=right[:, :-1])
    first_y, first_x = grid.rows.fraction[rows, 0].numpy(), grid.columns.fraction[:, 0].numpy()  # of place (0, 0)
    if first_x.any():
        samples += right.reshape(samples.shape) * np.append(first_x, np.float32(0))
    down, both = line[:, q:] - line[:, :-q], right[:, q:] - right[:, :-q]
    start, right = line[:, :-q], right[:, :-q]
    if first_y.any():
        start, right = (part + growth * first_y.repeat(q) for part, growth in ((start, down), (right, both)))
    steps = np.float32(grid.rows.step), np.float32(grid.columns.step)
    start, right, down, both = (
        np.exp(part) for part in (start, right * steps[1], down * steps[0], both * (steps[0] * steps[1]))
    )
    moving = np.empty_like(start)
    for j in range(grid.rows.fraction.shape[1]):
        if j > 0:
            start *= down
            right *= both
        yield j, 0, start
        for i in range(1, grid.columns.fraction.shape[1]):
            np.multiply(moving if i > 1 else start, right, out=moving)
            yield j, i, moving


def _samples_around(
    scores: Float32[np.ndarray, "C h w"], largest: Float32[np.ndarray, "h w"], rows: slice
) -> Float32[np.ndarray, "C p q"]:
    """Scores at the corners of some rows of cells, with those thought beyond the border, minus the largest one of the
    sample: the leading class of a cell has zeros at its corners."""
    channels, height, width = scores.shape
    first, last = max(rows.start - 1, 0), min(rows.stop, height)
    samples = np.empty((channels, rows.stop - rows.start + 1, width + 2), np.float32)
    above = first - (rows.start - 1)
    below = above + last - first
    np.subtract(scores[:, first:last], largest[first:last], out=samples[:, above:below, 1:-1])
    samples[:, :above] = samples[:, above : above + 1]
    samples[:, below:] = samples[:, below - 1 : below]
    samples[..., 0], samples[..., -1] = samples[..., 1], samples[..., -2]
    return samples
