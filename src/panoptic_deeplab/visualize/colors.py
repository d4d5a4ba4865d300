"""Colors: classes, instances, a perceptual scale for values, and what to write in black or white."""

import colorsys
from collections import Counter

import numpy as np
from jaxtyping import Float, UInt8

from panoptic_deeplab.results.ids import MAX_SEGMENT_ID
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

Color = tuple[int, int, int]

_DARKEST = 64
"""Least channel of a color that has to be seen beside the black of void."""

_GOLDEN_RATIO = 0.618033988749895

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

    Stuff has the color of its class. The first instance of a thing class has about the color of the class, each
    further one a hue that is far from those before it (steps of the golden ratio around the circle).
    """
    train_ids = result.categories.train_id_by_category_id
    seen: dict[int, int] = {}
    colors = np.zeros((len(result.segments_info), 3), np.uint8)
    for index, segment in enumerate(result.segments_info):
        base = result.categories[train_ids[segment.category_id]].color
        if segment.isthing and not segment.iscrowd:
            rank = seen.get(segment.category_id, 0)
            seen[segment.category_id] = rank + 1
            colors[index] = _instance_color(base, rank)
        else:
            colors[index] = base
    return colors


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
        id_ = red + 256 * green + 65536 * blue
        while id_ in used:
            id_ = id_ + 1 if id_ < MAX_SEGMENT_ID else 1
        used.add(id_)
        ids.append(id_)
    return ids


def distinct_colors(number: int) -> UInt8[np.ndarray, "N 3"]:
    """Bright colors, each with a hue far from those before it; the first ones do not change with `number`."""
    return np.array([_instance_color((255, 90, 90), rank) for rank in range(number)], np.uint8).reshape(-1, 3)


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


def _instance_color(base: Color, rank: int) -> Color:
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in base))
    # Dark or gray class colors would make all hues look alike; every third instance is lighter.
    saturation, value = max(saturation, 0.6), max(value, 0.75)
    if rank % 3 == 2:
        saturation, value = saturation * 0.6, 1.0
    red, green, blue = colorsys.hsv_to_rgb((hue + rank * _GOLDEN_RATIO) % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
