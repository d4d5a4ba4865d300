"""`PanopticResult` as other programs and libraries take it; nothing here knows a file.

| function | for |
|---|---|
| `to_labels` | napari, QuPath, ImageJ, CellProfiler, scikit-image |
| `to_geojson` | QuPath, GIS |
| `to_polygons` | one mask as rings |
| `to_transformers` | what takes the panoptic results of Hugging Face transformers |
| `to_supervision` | supervision's annotators, trackers and zones |

A result that contradicts itself (`PanopticResult.check`) is refused with a `DatasetError`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Int32, UInt16

from panoptic_deeplab.errors import require
from panoptic_deeplab.images.place_on_earth import PlaceOnEarth, on_earth
from panoptic_deeplab.results.coco import check_array, to_rles
from panoptic_deeplab.results.outlines import Polygon, outlines
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

if TYPE_CHECKING:
    import supervision

_LARGEST_IN_16_BITS = 2**16 - 1


def to_labels(
    result: PanopticResult, *, things_only: bool = False
) -> UInt16[np.ndarray, "H W"] | Int32[np.ndarray, "H W"]:
    """The id of each pixel's segment, 0 = void: the `id` of `to_table` and `to_geojson`.

    Args:
        result: truth or prediction.
        things_only: stuff becomes 0 too.

    Returns:
        uint16, which a PNG holds; int32 where an id is above 65,535.

    Raises:
        DatasetError: the result contradicts itself.
    """
    result.check()
    ids = np.array([0, *(s.id if s.isthing or not things_only else 0 for s in result.segments_info)], np.int32)
    if ids.max() <= _LARGEST_IN_16_BITS:
        return ids.astype(np.uint16).take(result.segment_index())
    return ids.take(result.segment_index())


def to_polygons(mask: Bool[np.ndarray, "H W"]) -> list[Polygon]:
    """Outlines of a mask along the edges of its pixels; all parts and holes are kept, and the area is that of the mask.

    Pixel `(y, x)` is the square from `(x, y)` to `(x + 1, y + 1)`. Pixels that touch at a corner only are two parts.

    Returns:
        A list of parts. Each is a list of rings, first the one around it, then those around its holes; a ring is a list
        of corners `[x, y]` that ends where it begins. These are the `coordinates` of a MultiPolygon in GeoJSON.

    Raises:
        DatasetError: the mask is no array of booleans `(H, W)`.

    Example:
        >>> to_polygons(np.array([[False, True, True]]))
        [[[[1, 0], [3, 0], [3, 1], [1, 1], [1, 0]]]]
    """
    check_array(mask, np.bool_, "A mask", "booleans")
    return outlines(mask.astype(np.uint8)).get(1, [])


def to_geojson(
    result: PanopticResult, *, things_only: bool = False, place: PlaceOnEarth | None = None
) -> dict[str, Any]:
    """A GeoJSON FeatureCollection with a feature for each segment.

    Coordinates are pixels, x to the right and y *down* from the upper left corner of the image, as QuPath wants them;
    with a place they are longitude and latitude, as RFC 7946 and a GIS want them. Polygons run along pixel edges as
    those of `to_polygons`.

    Args:
        result: truth or prediction.
        things_only: leave stuff out.
        place: where on the earth the image lies.

    Returns:
        Plain Python. The properties of a feature are `id, category_id, name, isthing, iscrowd, score, area`, and for
        QuPath `objectType` (`detection` for things, `annotation` for stuff) and `classification` with the color of the
        class.

    Raises:
        DatasetError: the result contradicts itself.
    """
    result.check()
    polygons = outlines(result.panoptic_map)
    features = []
    for segment in result.segments_info:
        if things_only and not segment.isthing:
            continue
        parts = polygons[segment.id]
        geometry: dict[str, Any] = {"type": "MultiPolygon", "coordinates": parts}
        if len(parts) == 1:
            geometry = {"type": "Polygon", "coordinates": parts[0]}
        features.append({"type": "Feature", "geometry": geometry, "properties": _properties(segment, result)})
        if place is not None:
            on_earth(features[-1], place)
    return {"type": "FeatureCollection", "features": features}


def _properties(segment: Segment, result: PanopticResult) -> dict[str, Any]:
    train_id = result.categories.train_id_by_category_id[segment.category_id]
    return {
        "id": int(segment.id),
        "category_id": int(segment.category_id),
        "name": segment.name,
        "isthing": bool(segment.isthing),
        "iscrowd": bool(segment.iscrowd),
        "score": None if segment.score is None else float(segment.score),
        "area": int(segment.area),
        "objectType": "detection" if segment.isthing else "annotation",
        "classification": {"name": segment.name, "color": [int(v) for v in result.categories[train_id].color]},
    }


def to_transformers(result: PanopticResult) -> dict[str, Any]:
    """The form of Hugging Face transformers' `post_process_panoptic_segmentation`.

    Returns:
        `{"segmentation": int32 tensor (H, W), 0 = void, "segments_info": [{"id", "label_id", "was_fused", "score"}]}`.
        `label_id` is the train id, the key of `id2label`: `dict(enumerate(c.name for c in result.categories))`;
        `was_fused` is true for stuff, whose pixels all count as one segment; a segment without a score (truth) gets 1.

    Raises:
        DatasetError: the result contradicts itself.
    """
    result.check()
    train_ids = result.categories.train_id_by_category_id
    return {
        "segmentation": torch.tensor(result.panoptic_map, dtype=torch.int32),
        "segments_info": [
            {
                "id": int(segment.id),
                "label_id": int(train_ids[segment.category_id]),
                "was_fused": not segment.isthing,
                "score": 1.0 if segment.score is None else float(segment.score),
            }
            for segment in result.segments_info
        ],
    }


def to_supervision(
    result: PanopticResult, *, things_only: bool = False, compact: bool = False
) -> "supervision.Detections":
    """supervision's `Detections`: masks, boxes, scores, and train ids as `class_id`.

    Args:
        result: truth or prediction; a segment without a score (truth) gets 1.
        things_only: leave stuff out.
        compact: keep the masks as run lengths (supervision's `CompactMask`), for images with many segments: the usual
            array takes N x H x W bytes.

    Returns:
        One detection for each segment, in the order of `segments_info`; boxes are `(x, y)` of the first and of the last
        column and row, as supervision takes them from masks. `data` has `class_name`, and our own `segment_id`,
        `category_id` and `isthing`.

    Raises:
        DatasetError: the result contradicts itself.
        MissingDependencyError: supervision is not installed, or pycocotools for compact masks.
    """
    module = require("supervision", extra="supervision", purpose="Conversion to supervision")
    result.check()
    segments = [s for s in result.segments_info if s.isthing or not things_only]
    ids = [int(s.id) for s in segments]
    boxes = np.array([s.bbox for s in segments], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2] - 1
    masks: Any
    if compact:
        masks = module.CompactMask.from_coco_rle(to_rles(result.panoptic_map, ids), boxes, result.size)
    else:
        masks = result.panoptic_map == np.array(ids, np.int32)[:, None, None]
    train_ids = result.categories.train_id_by_category_id
    detections: supervision.Detections = module.Detections(
        xyxy=boxes,
        mask=masks,
        confidence=np.array([1.0 if s.score is None else s.score for s in segments], np.float64),
        class_id=np.array([train_ids[s.category_id] for s in segments], np.int64),
        data={
            "class_name": np.array([s.name for s in segments], np.str_),
            "segment_id": np.array(ids, np.int64),
            "category_id": np.array([s.category_id for s in segments], np.int64),
            "isthing": np.array([s.isthing for s in segments], np.bool_),
        },
    )
    return detections
