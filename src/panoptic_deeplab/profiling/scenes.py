"""Drawn scenes with known content: what a network would say of them, and their labels.

Speed depends on what is in an image, and an untrained network sees nothing. These scenes have the given number of
instances and share of thing pixels, and are the same for the same seed.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.maps import RawMaps, Size
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

_SIGMA = 8.0
"""Width of the heatmap's peaks, in pixels of the input."""
_LEAD = 8.0
"""By how much the score of the right class exceeds the mean of the others, in standard deviations of the noise."""
_OFFSET_NOISE = 0.5
"""Standard deviation of the offsets, in pixels of the map."""


def make_categories(num_classes: int, num_things: int) -> CategoryTable:
    """A table of so many classes; the things are the last ones, as in Cityscapes."""
    first = num_classes - num_things
    rows = [
        {"id": i + 1, "name": f"class {i}", "isthing": i >= first, "color": [0, i % 256, 0]} for i in range(num_classes)
    ]
    return CategoryTable.from_json({"name": f"{num_classes} classes", "categories": rows}, where="here")


def draw_raw_maps(
    map_size: Size,
    *,
    stride: float = 4.0,
    thing_mask: Bool[np.ndarray, " C"],
    num_centers: int = 120,
    thing_share: float = 0.4,
    seed: int = 0,
) -> RawMaps:
    """What a sure network says of a scene: a band of instances, side by side, between bands of stuff.

    Args:
        map_size: `(height, width)` at the decoder's stride.
        stride: pixels of the network input from one sample to the next.
        thing_mask: which classes are things.
        num_centers: instances, each with one peak in the heatmap; fewer if the band has no room for so many.
        thing_share: part of the image that the band takes, 0 to 1. Without thing classes there is none.
        seed: seed of the scene.

    Returns:
        Maps of one image: class scores and offsets with noise, a heatmap without.
    """
    rng = np.random.default_rng(seed)
    height, width = map_size
    things, stuff = np.flatnonzero(thing_mask), np.flatnonzero(~thing_mask)
    band_height = round(thing_share * height) if len(things) else 0
    band_height = band_height if len(stuff) else height
    top = (height - band_height) // 2
    y, x = np.indices(map_size)

    train_ids = stuff[y * 10 // height % len(stuff)] if len(stuff) else np.zeros(map_size, np.int64)
    heatmap = np.zeros(map_size, np.float32)
    offset = np.zeros((2, *map_size), np.float32)
    if band_height and num_centers:
        points = top * np.array([1, 0]) + _scattered_points((band_height, width), num_centers, rng)
        nearest, squared = _nearest_points(points, map_size)
        heatmap = np.exp(-squared * stride**2 / (2 * _SIGMA**2)).astype(np.float32)
        offset = np.stack([points[nearest, 0] - y, points[nearest, 1] - x]).astype(np.float32)
        in_band = (y >= top) & (y < top + band_height)
        train_ids = np.where(in_band, rng.choice(things, len(points))[nearest], train_ids)

    logits = rng.standard_normal((len(thing_mask), *map_size), np.float32)
    np.put_along_axis(logits, train_ids[None], np.float32(_LEAD), axis=0)
    offset += _OFFSET_NOISE * rng.standard_normal(offset.shape, np.float32)
    return RawMaps(*(torch.from_numpy(map_)[None] for map_ in (logits, heatmap[None], offset)))


class DrawnMaps(nn.Module):
    """A network whose answer is thrown away for that of a scene: all of its work, and something to post-process.

    Args:
        network: `images -> RawMaps`.
        thing_mask: which classes are things.
    """

    def __init__(self, network: nn.Module, thing_mask: Bool[np.ndarray, " C"]) -> None:
        super().__init__()
        self.network = network
        self._thing_mask = thing_mask
        self._drawn: dict[tuple[int, ...], RawMaps] = {}

    def forward(self, images: Tensor) -> RawMaps:
        """Run the network; answer with the maps of the scene, in the size and memory format of the network's."""
        raw_maps: RawMaps = self.network(images)
        if raw_maps.semantic_logits.requires_grad:  # folding looks for the way from the images to the answer
            return raw_maps
        answer: RawMaps = self._answer(raw_maps)
        return answer

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the drawing is no part of the network
    def _answer(self, raw_maps: RawMaps) -> RawMaps:
        shape = tuple(raw_maps.semantic_logits.shape)
        if shape not in self._drawn:
            drawn = draw_raw_maps((shape[2], shape[3]), thing_mask=self._thing_mask)
            self._drawn[shape] = _fill(raw_maps, drawn)
        return self._drawn[shape]


def draw_labels(size: Size, categories: CategoryTable, *, num_instances: int, seed: int = 0) -> PanopticResult:
    """The label of a scene: bands of stuff, and ellipses of many sizes that hide one another, some of them wholly."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.indices(size)
    stuff = [category for category in categories.categories if not category.isthing]
    things = [category for category in categories.categories if category.isthing]
    panoptic_map = (1 + y * len(stuff) // height).astype(np.int32)
    owner = dict(enumerate(stuff, start=1))
    for segment_id in range(1001, 1001 + num_instances):
        center_y, center_x = rng.uniform(0, height), rng.uniform(0, width)
        radius_y, radius_x = rng.uniform(10, 100, 2)
        inside = ((y - center_y) / radius_y) ** 2 + ((x - center_x) / radius_x) ** 2 <= 1
        panoptic_map[inside] = segment_id
        owner[segment_id] = things[int(rng.integers(len(things)))]
    ids, areas = np.unique(panoptic_map, return_counts=True)
    segments = [
        Segment.of(owner[segment_id], segment_id, area, (0, 0, width, height))
        for segment_id, area in zip(ids.tolist(), areas.tolist(), strict=True)
    ]
    return PanopticResult(panoptic_map=panoptic_map, segments_info=segments, categories=categories)


def shifted(truth: PanopticResult, pixels: int) -> PanopticResult:
    """A prediction that is everywhere some pixels too far to the right."""
    return replace(truth, panoptic_map=np.roll(truth.panoptic_map, pixels, axis=1))


def _fill(like: RawMaps, drawn: RawMaps) -> RawMaps:
    """The drawn maps, in shape, device, type and memory format of others; what those lack is left out."""

    def fill(real: Tensor, values: Tensor | None) -> Tensor:
        assert values is not None
        return torch.empty_like(real).copy_(values.expand(real.shape))

    return RawMaps(
        semantic_logits=fill(like.semantic_logits, drawn.semantic_logits),
        center_heatmap=None if like.center_heatmap is None else fill(like.center_heatmap, drawn.center_heatmap),
        offset=None if like.offset is None else fill(like.offset, drawn.offset),
    )


def _scattered_points(size: Size, count: int, rng: np.random.Generator) -> Int64[np.ndarray, "N 2"]:
    """Up to `count` points, one in each of some equal rectangles and away from the border of it."""
    rows = max(1, min(size[0] // 6, round((count * size[0] / size[1]) ** 0.5)))
    columns = max(1, min(size[1] // 6, -(-count // rows)))
    chosen = rng.permutation(rows * columns)[:count]
    rectangle = np.stack([chosen // columns, chosen % columns], axis=1)
    place = rectangle + rng.uniform(0.3, 0.7, rectangle.shape)
    points: Int64[np.ndarray, "N 2"] = (place * (size[0] / rows, size[1] / columns)).astype(np.int64)
    return points


def _nearest_points(
    points: Int64[np.ndarray, "N 2"], size: Size
) -> tuple[Int64[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Index of the nearest point to each pixel, and its squared distance."""
    y, x = np.arange(size[0], dtype=np.float32)[:, None], np.arange(size[1], dtype=np.float32)
    nearest = np.zeros(size, np.int64)
    smallest = np.full(size, np.inf, np.float32)
    for index, (point_y, point_x) in enumerate(points.astype(np.float32)):
        squared = (y - point_y) ** 2 + (x - point_x) ** 2
        closer = squared < smallest
        nearest[closer] = index
        smallest[closer] = squared[closer]
    return nearest, smallest
