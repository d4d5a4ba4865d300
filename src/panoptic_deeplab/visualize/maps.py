"""Pictures of the network's maps: center heatmap, offsets on a color wheel (Figure 4 of the paper), instances."""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from panoptic_deeplab.categories import IGNORE_INDEX
from panoptic_deeplab.images.read import ImageLike, read_image
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.visualize.colors import colorize, distinct_colors, paint_segments


def draw_heatmap(image: ImageLike, center_heatmap: Float[np.ndarray, "H W"]) -> Image.Image:
    """Center heatmap over a dark gray version of the image: bright spots are centers.

    Args:
        image: as for `read_image`, of the size of the heatmap.
        center_heatmap: about 1 at centers; values outside [0, 1] are clipped.
    """
    gray = read_image(image) @ np.array([0.299, 0.587, 0.114]) * 0.5
    # The root brings out weak maxima: a value of 0.1, the usual threshold, is clearly visible.
    strength = np.sqrt(np.clip(np.nan_to_num(center_heatmap), 0, 1))
    opacity = strength[..., None]
    blended = gray[..., None] * (1 - opacity) + colorize(strength) * opacity
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def draw_offset(
    offset: Float[np.ndarray, "2 H W"], *, mask: Bool[np.ndarray, "H W"] | None = None, max_length: float | None = None
) -> Image.Image:
    """Offsets on the color wheel of Baker et al. (A Database and Evaluation Methodology for Optical Flow, 2011).

    The hue is the direction from the pixel to its center, the saturation the distance (its root, so that small
    instances are not lost beside large ones); no offset is white. So each instance shows the whole wheel around its
    center: red left of it, where the way leads to the right, and cyan right of it.

    Args:
        offset: `(dy, dx)` in pixels.
        mask: pixels to paint, the others are white; predictions have arbitrary offsets outside of `thing_pixels`.
        max_length: length with full saturation, as longer ones have; give it to compare pictures. None = exceeded by
            1 % of the offsets that are not 0.
    """
    dy, dx = np.asarray(offset, np.float64)
    if mask is not None:
        dy, dx = np.where(mask, dy, 0), np.where(mask, dx, 0)
    length = np.hypot(dy, dx)
    if max_length is None:
        max_length = float(np.quantile(length[length > 0], 0.99)) if length.any() else 1.0
    saturation = np.sqrt(np.minimum(length / max(max_length, 1e-6), 1))[..., None]
    wheel = color_wheel()
    # Opposite directions are half a turn apart; right (dx > 0) is the wheel's start, red, and down comes next.
    turn = np.arctan2(dy, dx) / (2 * np.pi) % 1 * len(wheel)
    first = np.floor(turn).astype(np.int64) % len(wheel)
    fraction = (turn - np.floor(turn))[..., None]
    pure = wheel[first] * (1 - fraction) + wheel[(first + 1) % len(wheel)] * fraction
    return Image.fromarray(np.rint(255 - saturation * (255 - pure)).astype(np.uint8))


def thing_pixels(result: PanopticResult) -> Bool[np.ndarray, "H W"]:
    """Where offsets mean something: where the argmax says thing, or the merged map where a result has no argmax."""
    train_ids = result.train_id_map() if result.semantic_map is None else result.semantic_map
    is_thing = np.zeros(IGNORE_INDEX + 1, bool)
    is_thing[: len(result.categories)] = result.categories.thing_mask
    mask: Bool[np.ndarray, "H W"] = is_thing[train_ids]
    return mask


def color_wheel() -> Float[np.ndarray, "55 3"]:
    """The 55 hues of Baker et al.: red to yellow in 15 steps, to green in 6, cyan 4, blue 11, magenta 13, red 6.

    The unequal steps make the hues *look* about equally far apart.
    """
    corners = np.array(
        [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 0)], np.float64
    )
    positions = np.cumsum([0, 15, 6, 4, 11, 13, 6])
    steps = np.arange(55)
    return np.stack([np.interp(steps, positions, corners[:, channel]) for channel in range(3)], axis=1)


def draw_offset_legend(side: int = 128) -> Image.Image:
    """The wheel itself, as seen around a center in the middle of a square picture."""
    radius = (side - 1) / 2
    y, x = np.mgrid[:side, :side].astype(np.float64)
    offset = np.stack([radius - y, radius - x])
    return draw_offset(offset, mask=np.hypot(*offset) <= radius, max_length=radius)


def offset_key() -> tuple[str, Image.Image]:
    """What the colors of offsets mean, for the foot of a page: words, and the wheel that they explain."""
    return (
        "offsets: where a pixel lies around its center; stronger = farther from it",
        draw_offset_legend(40),
    )


def draw_instances(result: PanopticResult) -> Image.Image:
    """The things alone, on black, in a color each that says nothing about the class."""
    things = [segment.isthing for segment in result.segments_info]
    colors = np.zeros((len(things), 3), np.uint8)
    colors[things] = distinct_colors(sum(things))
    painted: UInt8[np.ndarray, "H W 3"] = paint_segments(result, colors)
    return Image.fromarray(painted)
