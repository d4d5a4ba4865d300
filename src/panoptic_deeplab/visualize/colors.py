"""Colors: classes, instances, a perceptual scale for values, and what to write in black or white."""

import colorsys
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from panoptic_deeplab.results.ids import MAX_SEGMENT_ID, color_to_id
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

Color = tuple[int, int, int]

_DARKEST = 64
"""Least channel of a color that has to be seen beside the black of void."""

_PALETTE_SIZE = 40
"""Colors of instances before they come again."""

_NEIGHBORS = 10
"""Instances whose colors the next one avoids."""

_TO_CONES = np.array(
    [
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    ]
)
_TO_OKLAB = np.array(
    [
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    ]
)
"""B. Ottosson, "A perceptual color space for image processing", 2020."""

# Dark violet over red to light yellow: lightness rises evenly, so the scale survives gray printing.
_SCALE = np.array(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ],
    np.float64,
)


def segment_colors(result: PanopticResult) -> UInt8[np.ndarray, "N 3"]:
    """A color for each segment, in the order of `segments_info`; the same in every call.

    Stuff and crowds have the color of their class. Instances of a class share a palette of well-separated colors that
    begins with about the color of the class: the first ones have one each, and later ones the color that differs most
    from those of the nearest instances.
    """
    train_ids = result.categories.train_id_by_category_id
    colors = np.zeros((len(result.segments_info), 3), np.uint8)
    members: dict[int, list[int]] = {}
    for index, segment in enumerate(result.segments_info):
        colors[index] = result.categories[train_ids[segment.category_id]].color
        if segment.isthing and not segment.iscrowd:
            members.setdefault(segment.category_id, []).append(index)
    for category_id, indices in members.items():
        palette = instance_palette(result.categories[train_ids[category_id]].color)
        boxes = np.array([result.segments_info[index].bbox for index in indices], np.float64)
        colors[indices] = palette.colors[_spread(boxes[:, :2] + boxes[:, 2:] / 2, palette.distances)]
    return colors


def class_colors(result: PanopticResult) -> UInt8[np.ndarray, "N 3"]:
    """The color of its class for each segment, in the order of `segments_info`; of things, bright enough to be seen.

    It does not depend on what else there is, so that it stays from frame to frame of a video.
    """
    train_ids = result.categories.train_id_by_category_id
    colors = np.zeros((len(result.segments_info), 3), np.uint8)
    for index, segment in enumerate(result.segments_info):
        color = result.categories[train_ids[segment.category_id]].color
        is_instance = segment.isthing and not segment.iscrowd
        colors[index] = np.rint(255 * np.array(_raised(color))).astype(np.uint8) if is_instance else color
    return colors


def _spread(centers: Float[np.ndarray, "N 2"], distances: Float[np.ndarray, "P P"]) -> list[int]:
    """Which color of a palette each instance gets: new ones as long as there are, then the one that differs most."""
    chosen: list[int] = []
    for number in range(len(centers)):
        before = ((centers[:number] - centers[number]) ** 2).sum(1)
        nearest = np.argpartition(before, _NEIGHBORS)[:_NEIGHBORS] if number > _NEIGHBORS else np.arange(number)
        difference = distances[[chosen[other] for other in nearest]].min(0, initial=np.inf)
        if number < len(distances):
            difference[chosen] = -1
        chosen.append(int(difference.argmax()))
    return chosen


class Palette(NamedTuple):
    """Colors that look different."""

    colors: UInt8[np.ndarray, "P 3"]
    places: Float[np.ndarray, "P 3"]
    """Where they lie in Oklab."""
    distances: Float[np.ndarray, "P P"]
    """How far they lie from one another there."""


@lru_cache(maxsize=300)
def instance_palette(base: Color) -> Palette:
    """The colors of the instances of a class whose color is `base`: about that one first."""
    grid = [
        colorsys.hsv_to_rgb(hue / 36, saturation, value)
        for saturation, value in ((1, 1), (0.55, 1), (1, 0.7), (0.6, 0.75))
        for hue in range(36)
    ]
    candidates = np.array([_raised(base), *grid])
    places = _oklab(candidates)
    taken = [0]
    far = np.linalg.norm(places - places[0], axis=1)
    while len(taken) < _PALETTE_SIZE:
        taken.append(int(far.argmax()))
        far = np.minimum(far, np.linalg.norm(places - places[taken[-1]], axis=1))
    chosen = places[taken]
    distances = np.linalg.norm(chosen[:, None] - chosen, axis=2)
    return Palette(np.rint(255 * candidates[taken]).astype(np.uint8), chosen, distances)


def visible_ids(result: PanopticResult) -> list[int]:
    """Ids for a COCO panoptic PNG whose colors are about those of `segment_colors`, in the order of `segments_info`.

    Each id is there once and none is near black; segments of one color differ in the low bits of the channels.
    """
    ids: list[int] = []
    used: set[int] = set()
    seen: Counter[tuple[int, ...]] = Counter()
    for color in np.maximum(segment_colors(result), _DARKEST).tolist():
        rank = seen[tuple(color)]
        seen[tuple(color)] += 1
        red, green, blue = (channel ^ (rank >> shift & 15) for channel, shift in zip(color, (0, 4, 8), strict=True))
        id_ = color_to_id((red, green, blue))
        while id_ in used:
            id_ = id_ + 1 if id_ < MAX_SEGMENT_ID else 1
        used.add(id_)
        ids.append(id_)
    return ids


def distinct_colors(number: int) -> UInt8[np.ndarray, "N 3"]:
    """Bright colors, each far from those before it; the first ones do not change with `number`, and all come again."""
    colors = instance_palette((255, 90, 90)).colors
    return colors[np.arange(number) % len(colors)]


def paint_segments(
    result: PanopticResult, colors: UInt8[np.ndarray, "N 3"], *, void: Color = (0, 0, 0)
) -> UInt8[np.ndarray, "H W 3"]:
    """The panoptic map with each id replaced by its color."""
    table = np.concatenate([np.array([void], np.uint8), colors])
    painted: UInt8[np.ndarray, "H W 3"] = table[result.segment_index()]
    return painted


def colorize(values: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Values in [0, 1] (others are clipped) on a scale from black over red to light yellow."""
    positions = np.linspace(0, 1, len(_SCALE))
    levels = np.stack([np.interp(np.linspace(0, 1, 256), positions, _SCALE[:, c]) for c in range(3)], axis=1)
    painted: UInt8[np.ndarray, "H W 3"] = np.rint(levels).astype(np.uint8)[
        np.rint(np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8)
    ]
    return painted


def readable_on(color: Color) -> Color:
    """Black or white, whichever reads better on `color` (by its luma)."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def describe(segment: Segment) -> str:
    """Name and score, or the mark of a crowd: `car 0.93`, `person (crowd)`."""
    if segment.iscrowd:
        return f"{segment.name} (crowd)"
    return segment.name if segment.score is None else f"{segment.name} {segment.score:.2f}"


def _raised(base: Color) -> tuple[float, float, float]:
    """A class color as instances have it, in [0, 1]: dark and gray ones would not be seen on an image."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in base))
    return colorsys.hsv_to_rgb(hue, max(saturation, 0.6), max(value, 0.75))


def _oklab(colors: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
    """sRGB in [0, 1] to Ottosson's Oklab, where distances are about those that people see."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    cones: Float[np.ndarray, "P 3"] = np.cbrt(linear @ _TO_CONES.T) @ _TO_OKLAB.T
    return cones
