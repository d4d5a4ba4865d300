"""The only place that knows how segment ids are stored in files and integers.

Two encodings meet here:

- a *segment id* (`panoptic_map`): 0 is void, every other id names one segment of one image, below 2**24;
- its *RGB* form in COCO panoptic PNG files: `id = R + 256 G + 65536 B`.
"""

import numpy as np
from jaxtyping import Int, Integer, UInt8

VOID_ID = 0
"""Segment id of a pixel that belongs to no segment."""

MAX_SEGMENT_ID = 2**24 - 1
"""Largest id that fits in three 8-bit channels, and that float32 (used by image resizing) still represents exactly."""


def rgb_to_id(rgb: UInt8[np.ndarray, "H W 3"]) -> Int[np.ndarray, "H W"]:
    """Decode a COCO panoptic PNG to int32 segment ids.

    >>> int(rgb_to_id(np.array([[[1, 2, 3]]], np.uint8))[0, 0]) == 1 + 2 * 256 + 3 * 65536
    True
    """
    wide = rgb.astype(np.int32)  # uint8 would overflow
    ids: Int[np.ndarray, "H W"] = wide[..., 0] + 256 * wide[..., 1] + 65536 * wide[..., 2]
    return ids


def id_to_rgb(panoptic_map: Integer[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Encode segment ids as the three channels of a COCO panoptic PNG.

    Raises:
        ValueError: an id is negative or above `MAX_SEGMENT_ID`.
    """
    if panoptic_map.size and (panoptic_map.min() < 0 or panoptic_map.max() > MAX_SEGMENT_ID):
        raise ValueError(
            f"Segment ids must be between 0 and {MAX_SEGMENT_ID} to fit in RGB."
            f" Got {panoptic_map.min()} to {panoptic_map.max()} instead; renumber the segments."
        )
    return np.stack([panoptic_map & 255, panoptic_map >> 8 & 255, panoptic_map >> 16 & 255], axis=-1).astype(np.uint8)


def color_to_id(color: tuple[int, int, int]) -> int:
    """`rgb_to_id` of one color."""
    return color[0] + 256 * color[1] + 65536 * color[2]


def id_to_color(segment_id: int) -> tuple[int, int, int]:
    """`id_to_rgb` of one id.

    >>> id_to_color(color_to_id((1, 2, 3)))
    (1, 2, 3)
    """
    return segment_id & 255, segment_id >> 8 & 255, segment_id >> 16
