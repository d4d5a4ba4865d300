"""A result at another size: from what the network saw back to the original image."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64, Integer

from panoptic_deeplab.encoding import VOID_ID
from panoptic_deeplab.maps import Size
from panoptic_deeplab.results import PanopticResult


def resize_result(result: PanopticResult, size: Size) -> PanopticResult:
    """Resize the maps of a result by nearest neighbour, and describe the segments anew.

    Ids stay as they are. A segment that loses all its pixels in a smaller map is left out of `segments_info`, so map
    and list agree.

    Args:
        result: any result.
        size: the new `(height, width)`; the result itself is returned when it has that size already.

    Returns:
        A result of `size`, with `area` and `bbox` in its pixels.
    """
    if result.size == size:
        return result
    # The centre of new pixel i lies at (i + 0.5) * old / new - 0.5 of the old pixels, as in the image's own resize.
    rows = ((2 * np.arange(size[0]) + 1) * result.size[0]) // (2 * size[0])
    columns = ((2 * np.arange(size[1]) + 1) * result.size[1]) // (2 * size[1])
    panoptic_map = result.panoptic_map[rows[:, None], columns]
    semantic_map = None if result.semantic_map is None else result.semantic_map[rows[:, None], columns]
    areas, boxes = measure_segments(panoptic_map, np.array([s.id for s in result.segments_info], np.int64))
    segments = [
        replace(segment, area=int(area), bbox=(int(box[0]), int(box[1]), int(box[2]), int(box[3])))
        for segment, area, box in zip(result.segments_info, areas, boxes, strict=True)
        if area > 0
    ]
    return replace(result, panoptic_map=panoptic_map, segments_info=segments, semantic_map=semantic_map)


def measure_segments(
    panoptic_map: Integer[np.ndarray, "H W"], ids: Integer[np.ndarray, " N"]
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, "N 4"]]:
    """Area and bounding box of each id, from counts of pixels in (id, row) and (id, column).

    Args:
        panoptic_map: segment ids; every non-zero value is in `ids`.
        ids: non-zero, in any order.

    Returns:
        Areas in pixels, and `(x, y, width, height)`; zeros for an id without a pixel.
    """
    height, width = panoptic_map.shape
    count = len(ids)
    order = np.argsort(ids)
    inside = panoptic_map != VOID_ID
    y, x = np.nonzero(inside)
    index = order[np.searchsorted(ids[order], panoptic_map[inside])] if count else np.zeros(0, np.int64)
    in_rows = np.bincount(index * height + y, minlength=count * height).reshape(count, height)
    in_columns = np.bincount(index * width + x, minlength=count * width).reshape(count, width)
    left, box_width = _extent(in_columns)
    top, box_height = _extent(in_rows)
    areas: Int64[np.ndarray, " N"] = in_rows.sum(1)
    return areas, np.stack([left, top, box_width, box_height], axis=1)


def _extent(counts: Int64[np.ndarray, "N L"]) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """First position with a pixel, and the length up to the last; zeros where there is none."""
    some = counts > 0
    first = some.argmax(1)
    last = counts.shape[1] - 1 - some[:, ::-1].argmax(1)
    return first, np.where(some.any(1), last - first + 1, 0)
