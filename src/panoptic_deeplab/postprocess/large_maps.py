"""The method over maps that are larger than memory: bands of rows, one after another, with the whole image's answer.

    1. centers       peaks of the heatmap; a band sees `nms_kernel - 1` more rows on both sides, which decide them
    2. labels        class and nearest center of each pixel; areas, boxes, votes and borders are counted over the whole
                     image
    3. scores        the probability of the class that the votes gave

The operators are those of `pipeline.py`, so classes, areas and boxes are equal to its own to the last bit. What differs
is `top_k`: it counts for each square of `area` pixels, since a slide has any number of objects. And the nearest center
is looked for among those around the point only, farther away until none that was not looked at can be nearer.

Memory: about 100 bytes for each of the `_BAND_PIXELS` of a band (its rows, at least one), and 8 x C + 50 for each
center; nothing grows with the height of the image.

Dimension letters: `C` classes, `K` centers, `S = K + C` slots, `h w` the maps, `H W` the image in the network's input,
`R` rows of a band, `N` points.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64
from torch import Tensor

from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import Size, offset_scale
from panoptic_deeplab.postprocess.borders import Borders, add_borders, list_borders, slots_of_listed_wholes
from panoptic_deeplab.postprocess.centers import Centers, no_centers, peak_strength
from panoptic_deeplab.postprocess.grouping import group_pixels, squared_distance
from panoptic_deeplab.postprocess.merging import Rectangles, SegmentTable, SlotSums, decide_segments, score_segments
from panoptic_deeplab.postprocess.pixels import (
    Axis,
    Grid,
    class_probability,
    classify_pixels,
    look_up,
    make_grid,
    pixel_positions,
    resize,
)
from panoptic_deeplab.results.run_lengths import find_runs
from panoptic_deeplab.results.stored import Stored

_BAND_PIXELS = 2**20
"""Pixels that are worked on at once."""

_GROUP_PIXELS = 2**14
"""Pixels whose nearest centers are looked for together: they lie close together, so few centers come into question."""

_FIRST_REACH = 16.0
"""Pixels around where a group of pixels points to, in which their centers are looked for first."""


@dataclass(frozen=True, kw_only=True)
class StoredMaps:
    """The network's maps of one image, wherever they are."""

    maps: Stored
    """float32 `(C + 3, h, w)`: class scores, heatmap, and offsets `(dy, dx)` in pixels of the map; `(C, h, w)` of a
    semantic-only model."""
    num_classes: int
    input_size: Size
    """Size of the network's input, in pixels, padding included."""
    content_size: Size
    """`(H, W)`, size of its top-left part that is image."""
    align_corners: bool
    """Convention of the model's resizing."""

    @property
    def map_size(self) -> Size:
        """`(h, w)`."""
        return self.maps.shape[1], self.maps.shape[2]

    @property
    def has_instances(self) -> bool:
        """Whether there are heatmap and offsets."""
        return self.maps.shape[0] > self.num_classes

    def grid(self) -> Grid:
        """Where the pixels lie among the samples."""
        sizes = self.map_size, self.input_size, self.content_size
        return make_grid(*sizes, align_corners=self.align_corners, device=torch.device("cpu"))


@torch.inference_mode()
def segment_in_bands(
    maps: StoredMaps,
    *,
    thing_mask: Bool[Tensor, " C"],
    config: PostprocessConfig,
    area: int,
    slots: Stored,
    train_ids: Stored,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[SegmentTable, Float32[Tensor, " S"]]:
    """Post-process one image of any size.

    Args:
        maps: finite.
        thing_mask: which classes are things.
        config: thresholds; `top_k` counts for each square of `area` pixels.
        area: side of that square, in pixels of the network's input, from the upper left corner on.
        slots: int32 `(H, W)`, is filled with the slot of each pixel: a row of the table.
        train_ids: uint8 `(H, W)`, is filled with the argmax.
        on_rows: is told how many of how many rows are done.

    Returns:
        One row for each of K centers and each class, and its score, as `PanopticTensors` has them.
    """
    grid = maps.grid()
    height = grid.size[0]
    centers = find_centers_in_bands(maps, grid, config, area=area)
    on_rows(height, 3 * height)
    num_centers = len(centers.valid)
    index = _CenterIndex(centers)
    sums = SlotSums(num_centers, thing_mask)
    borders: list[Borders] = []
    for rows in bands(grid.size):
        scores, part = _samples(maps, grid, rows, 0, maps.num_classes)
        classes = classify_pixels(scores, part)
        of_pixels = num_centers + classes.train_ids.to(torch.int32)
        if num_centers:
            instances = index.nearest(_targets(maps, grid, rows), look_up(thing_mask, classes.train_ids))
            of_pixels = torch.where(instances < num_centers, instances, of_pixels)
        slots[rows] = of_pixels.numpy()
        train_ids[rows] = classes.train_ids.numpy()
        _count(sums, of_pixels, classes.train_ids, first_row=rows.start)
        if config.join_border_fraction is not None:
            above = min(rows.start, 1)
            borders.append(list_borders(slots[rows.start - above : rows.stop], num_centers, skipped=above))
        on_rows(height + rows.stop, 3 * height)

    into = None
    if config.join_border_fraction is not None:
        into = slots_of_listed_wholes(
            add_borders(borders), sums.vote(), len(sums.votes), fraction=config.join_border_fraction
        )
        sums.join(into)
    table = decide_segments(
        sums, stuff_area_limit=config.stuff_area_limit, instance_area_limit=config.instance_area_limit
    )
    for rows in bands(grid.size):
        scores, part = _samples(maps, grid, rows, 0, maps.num_classes)
        of_pixels = torch.from_numpy(slots[rows])
        if into is not None:
            of_pixels = look_up(into, of_pixels).to(torch.int32)
            slots[rows] = of_pixels.numpy()
        voted = look_up(table.train_ids, of_pixels)
        sums.add_probability(of_pixels, class_probability(voted, classify_pixels(scores, part), scores, part))
        on_rows(2 * height + rows.stop, 3 * height)
    return table, score_segments(sums, table, centers)


@torch.inference_mode()
def find_centers_in_bands(maps: StoredMaps, grid: Grid, config: PostprocessConfig, *, area: int) -> Centers:
    """Find the `top_k` strongest peaks of each square of `area` pixels; all together, the strongest first.

    Equal ones are in raster order, as in `find_centers`, which this equals for an image of one such square.
    """
    if not maps.has_instances:
        return no_centers(torch.device("cpu"))
    height, width = grid.size
    halo = config.nms_kernel - 1
    found = bytearray()  # a list of small tensors among the large ones of each band would leave memory in pieces
    for rows in bands(grid.size, at_least=4 * halo):
        wide = slice(max(rows.start - halo, 0), min(rows.stop + halo, height))
        heatmap, part = _samples(maps, grid, wide, maps.num_classes, maps.num_classes + 1)
        peaks = peak_strength(
            resize(heatmap, part)[0], threshold=config.center_threshold, nms_kernel=config.nms_kernel
        )[rows.start - wide.start : rows.stop - wide.start]
        y, x = (peaks > -torch.inf).nonzero(as_tuple=True)
        found += torch.stack([peaks[y, x], (y + rows.start).float(), x.float()], dim=1).numpy().tobytes()
    strength, *places = torch.from_numpy(np.frombuffer(found, np.float32).reshape(-1, 3).T.copy())
    best, order = strength.sort(descending=True, stable=True)
    point = torch.stack(places, dim=1)[order].to(torch.int64)
    squares = point[:, 0] // area * -(-width // area) + point[:, 1] // area
    kept = _rank_in_group(squares) < config.top_k
    return Centers(point[kept].to(torch.float32), best[kept], torch.ones(int(kept.sum()), dtype=torch.bool))


def bands(size: Size, *, at_least: int = 1) -> Iterator[slice]:
    """The rows of an image, as many at once as are worked on together.

    Args:
        size: `(height, width)`.
        at_least: rows of a band, however wide the image is.
    """
    height, width = size
    step = max(at_least, _BAND_PIXELS // max(width, 1), 1)
    for first in range(0, height, step):
        yield slice(first, min(first + step, height))


def _rank_in_group(groups: Int64[Tensor, " N"]) -> Int64[Tensor, " N"]:
    """How many of the same group come before each."""
    by_group, order = groups.sort(stable=True)
    starts = torch.searchsorted(by_group, by_group, side="left")
    rank = torch.empty_like(groups)
    rank[order] = torch.arange(len(groups)) - starts
    return rank


def _samples(maps: StoredMaps, grid: Grid, rows: slice, first: int, last: int) -> tuple[Float32[Tensor, "c r w"], Grid]:
    """Some channels of the samples around some rows of pixels, and where the pixels lie among these."""
    top, bottom = grid.first_samples[rows][[0, -1]].tolist()
    samples = torch.from_numpy(np.ascontiguousarray(maps.maps[first:last, top : bottom + 2]))
    axis = Axis(grid.rows.before[rows] - top, grid.rows.fraction[rows])
    return samples, Grid(axis, grid.columns, grid.first_samples[rows] - top)


def _targets(maps: StoredMaps, grid: Grid, rows: slice) -> Float32[Tensor, "2 R W"]:
    """Where each pixel of some rows points, in pixels of the image."""
    offset, part = _samples(maps, grid, rows, maps.num_classes + 1, maps.num_classes + 3)
    scale = offset_scale(maps.map_size, maps.input_size, align_corners=maps.align_corners)
    offset = torch.stack([plane * s for plane, s in zip(offset, scale, strict=True)])
    y, x = pixel_positions(part)
    return torch.stack([y + rows.start, x]) + resize(offset, part)


def _count(sums: SlotSums, slots: Int32[Tensor, "R W"], train_ids: Tensor, *, first_row: int) -> None:
    """Add the pixels of a band to the sums, run by run."""
    runs = find_runs(slots.numpy(), train_ids.numpy())
    y, x = np.divmod(runs.starts, runs.size[1])
    top, left, lengths = (torch.from_numpy(array) for array in (y + first_row, x, runs.lengths))
    slots_of_runs, ids_of_runs = (torch.from_numpy(runs.of(map_.numpy())) for map_ in (slots, train_ids))
    sums.add_rectangles(
        slots_of_runs, ids_of_runs, lengths, Rectangles(top=top, bottom=top, left=left, right=left + lengths - 1)
    )


class _CenterIndex:
    """The nearest of any number of centers, exactly as `group_pixels` finds it."""

    def __init__(self, centers: Centers) -> None:
        self._centers = centers
        self._rows, self._order = centers.points[:, 0].sort(stable=True)

    def nearest(self, target: Float32[Tensor, "2 R W"], is_thing: Bool[Tensor, "R W"]) -> Int32[Tensor, "R W"]:
        """Index of the center nearest to each target of a thing; K elsewhere."""
        index = torch.full_like(is_thing, len(self._centers.valid), dtype=torch.int32)
        step = max(1, _GROUP_PIXELS // len(is_thing))
        for column in range(0, is_thing.shape[1], step):
            columns = slice(column, column + step)
            mask = is_thing[:, columns]
            if mask.any():
                index[:, columns][mask] = self._of_points(target[:, :, columns][:, mask])
        return index

    def _of_points(self, target: Float32[Tensor, "2 N"]) -> Int32[Tensor, " N"]:
        found = torch.empty(target.shape[1], dtype=torch.int32)
        left = torch.arange(len(found))
        reach = _FIRST_REACH
        while len(left):
            points = target[:, left]
            near = self._inside(points.amin(dim=1) - reach, points.amax(dim=1) + reach)
            if len(near):
                candidates = Centers(*(column[near] for column in self._centers))
                nearest = group_pixels(points, torch.ones_like(left, dtype=torch.bool), candidates)
                # a center that was not looked at is farther away than `reach`, by more than rounding
                distance = squared_distance(points, candidates.points[nearest].T.clone())
                is_sure = distance <= (0.99 * reach) ** 2 if len(near) < len(self._order) else distance >= 0
                found[left[is_sure]] = near[nearest[is_sure]].to(torch.int32)
                left = left[~is_sure]
            reach *= 4
        return found

    def _inside(self, low: Float32[Tensor, " 2"], high: Float32[Tensor, " 2"]) -> Int64[Tensor, " N"]:
        """Indices of the centers in a rectangle, rising, so that of equal ones the first is taken."""
        first, last = torch.searchsorted(self._rows, low[:1]), torch.searchsorted(self._rows, high[:1], side="right")
        candidates = self._order[int(first) : int(last)]
        x = self._centers.points[candidates, 1]
        return candidates[(x >= low[1]) & (x <= high[1])].sort()[0]
