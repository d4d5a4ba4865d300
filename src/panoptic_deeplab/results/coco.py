"""`PanopticResult` in the formats of COCO.

| function | form |
|---|---|
| `to_coco_panoptic` | annotation + RGB PNG of the COCO panoptic format (panopticapi) |
| `to_coco_instances` | COCO detection records with RLE masks (pycocotools) |
| `to_rles` | masks of some segments (COCO run lengths) |
| `to_rle` | one mask |

Everything but arrays is plain Python, so `json.dumps` takes it. A result that contradicts itself
(`PanopticResult.check`) is refused with a `DatasetError` rather than written.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from panoptic_deeplab.errors import DatasetError, require
from panoptic_deeplab.results.ids import id_to_rgb
from panoptic_deeplab.results.panoptic_result import PanopticResult


def to_coco_panoptic(
    result: PanopticResult, image_id: int | str, file_name: str, *, png_ids: Sequence[int] | None = None
) -> tuple[dict[str, Any], UInt8[np.ndarray, "H W 3"]]:
    """One entry of `annotations` in a COCO panoptic JSON, and the PNG that belongs to it.

    Args:
        result: truth or prediction.
        image_id: `images[].id` of the JSON; COCO's own tools want an int.
        file_name: name of the PNG.
        png_ids: ids to write in the place of those of `segments_info`, in its order: 1, 2, 3 look black, and those of
            `visualize.colors.visible_ids` look like the overlay. Each row then has ours as `segment_id`.

    Returns:
        The entry with `image_id`, `file_name` and `segments_info`, which has a row for each segment with `id`,
        `category_id`, `area`, `bbox`, `iscrowd` and, where there are any, `segment_id`, `score` and `objectness_score`;
        and the RGB array to save as that PNG. Void has id 0 and no row.
    """
    result.check()
    rows = []
    ids = [segment.id for segment in result.segments_info] if png_ids is None else png_ids
    for png_id, segment in zip(ids, result.segments_info, strict=True):
        row: dict[str, Any] = {
            "id": int(png_id),
            "category_id": int(segment.category_id),
            "area": int(segment.area),
            "bbox": [int(v) for v in segment.bbox],
            "iscrowd": int(segment.iscrowd),
        }
        if png_ids is not None:
            row["segment_id"] = int(segment.id)
        if segment.score is not None:
            row["score"] = float(segment.score)
        if segment.objectness_score is not None:
            row["objectness_score"] = float(segment.objectness_score)
        rows.append(row)
    annotation = {"image_id": image_id, "file_name": file_name, "segments_info": rows}
    if png_ids is None:
        return annotation, id_to_rgb(result.panoptic_map)
    return annotation, id_to_rgb(np.array([0, *png_ids], np.int32).take(result.segment_index()))


def to_coco_instances(
    result: PanopticResult, image_id: int | str, *, png_ids: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """COCO detection records of the things, best score first.

    Args:
        result: a prediction. A thing without a score (truth) gets 1; crowd regions are no detections. The score is
            `Segment.ranking_score`, by which AP ranks.
        image_id: `images[].id` of the annotation file.
        png_ids: those of `to_coco_panoptic`; each record then has its own as `id`, and ours as `segment_id`.

    Returns:
        `[{"image_id", "category_id", "segmentation": RLE, "bbox": [x, y, width, height], "score"}]`.
    """
    result.check()
    instances = [segment for segment in result.instances() if not segment.iscrowd]
    rles = to_rles(result.panoptic_map, [segment.id for segment in instances])
    records = [
        {
            "image_id": image_id,
            "category_id": int(segment.category_id),
            "segmentation": rle,
            "bbox": [int(v) for v in segment.bbox],
            "score": 1.0 if segment.ranking_score is None else float(segment.ranking_score),
        }
        for segment, rle in zip(instances, rles, strict=True)
    ]
    if png_ids is not None:
        png_id_of = dict(zip((segment.id for segment in result.segments_info), png_ids, strict=True))
        for record, segment in zip(records, instances, strict=True):
            record |= {"id": int(png_id_of[segment.id]), "segment_id": int(segment.id)}
    return records


def to_rle(mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """Compressed run-length encoding of COCO: `{"size": [height, width], "counts": str}`.

    Raises:
        DatasetError: the mask is no array of booleans `(H, W)`.
        MissingDependencyError: pycocotools is not installed.
    """
    check_array(mask, np.bool_, "A mask", "booleans")
    return to_rles(mask.astype(np.uint8), [1])[0]


def to_rles(panoptic_map: Integer[np.ndarray, "H W"], segment_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Compressed run-length encodings of COCO, all from one pass over the map.

    Args:
        panoptic_map: segment ids.
        segment_ids: which ones; an id without a pixel gives an empty mask.

    Returns:
        `{"size": [height, width], "counts": str}` for each id.

    Raises:
        DatasetError: the map is no array of integers `(H, W)`.
        MissingDependencyError: pycocotools is not installed.
    """
    check_array(panoptic_map, np.integer, "A panoptic map", "integers")
    coco_mask = require("pycocotools.mask", extra="eval", purpose="Run-length encoding")
    height, width = panoptic_map.shape
    pixels = panoptic_map.T.ravel()  # COCO's runs go down the columns
    begins = np.flatnonzero(np.append(pixels.size > 0, pixels[1:] != pixels[:-1]))
    ends = np.append(begins[1:], pixels.size)
    by_id = np.argsort(pixels[begins], kind="stable")
    sorted_ids = pixels[begins][by_id]
    rles = []
    for segment_id in segment_ids:
        runs = by_id[np.searchsorted(sorted_ids, segment_id, "left") : np.searchsorted(sorted_ids, segment_id, "right")]
        borders = np.stack([begins[runs], ends[runs]], axis=1).ravel()
        counts = np.diff(borders, prepend=0, append=pixels.size)  # outside, inside, outside, ...
        if counts[-1] == 0:
            counts = counts[:-1]
        plain = {"size": [height, width], "counts": counts.tolist()}
        encoded = coco_mask.frPyObjects(plain, height, width)
        rles.append({"size": plain["size"], "counts": encoded["counts"].decode("ascii")})
    return rles


def check_array(array: Any, kind: Any, what: str, numbers: str) -> None:
    """Refuse what is no mask or map, which another library would answer with a crash.

    Raises:
        DatasetError: it is no array `(H, W)` of the kind.
    """
    if not isinstance(array, np.ndarray) or array.ndim != 2 or not np.issubdtype(array.dtype, kind):
        raise DatasetError(
            f"{what} must be an array of {numbers} with the shape (H, W). Got {type(array).__name__}"
            f" {getattr(array, 'dtype', '')} {tuple(getattr(array, 'shape', ()))} instead."
        )
