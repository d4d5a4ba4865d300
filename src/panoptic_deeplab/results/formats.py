"""`PanopticResult` in the formats of COCO, and on disk.

| function | form |
|---|---|
| `to_coco_panoptic` | annotation + RGB PNG of the COCO panoptic format (panopticapi) |
| `to_coco_instances` | COCO detection records with RLE masks (pycocotools) |
| `to_rles` | masks of some segments (COCO run lengths) |
| `to_rle` | one mask |
| `save_result`, `load_result` | one image: PNG + JSON, read back without loss |

Everything but arrays is plain Python, so `json.dumps` takes it. A result that contradicts itself
(`PanopticResult.check`) is refused with a `DatasetError` rather than written.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import DatasetError, ImageError, require
from panoptic_deeplab.files import file_name, make_folder, path_below, path_inside, read_json, user_path, write_json
from panoptic_deeplab.images.read import opened
from panoptic_deeplab.images.write import save_picture
from panoptic_deeplab.results.ids import id_to_rgb, rgb_to_id
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

_FORMAT_VERSION = 1


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


def save_result(result: PanopticResult, folder: str | Path, stem: str) -> Path:
    """Write one result: `<stem>.json`, `<stem>.png` and, where it has a semantic map, `<stem>_semantic.png`.

    Each file is there whole or not at all, the JSON last. The PNG is that of the COCO panoptic format
    (`id = R + 256 G + 65536 B`), the semantic one holds train ids.

    Args:
        result: truth or prediction.
        folder: made where it does not exist.
        stem: file name without suffix; may contain subfolders, but does not lead out of `folder`.

    Returns:
        Path of the JSON, for `load_result`.

    Raises:
        DatasetError: the result contradicts itself, or the stem can be no file in the folder.
        OutputError: a file cannot be written.
    """
    path = path_below(user_path(folder), stem, where="The stem of a result", error=DatasetError)
    path = path.with_name(f"{path.name}.json")
    name = path.name.removesuffix(".json")  # not `path.stem` of a path with further dots
    annotation, rgb = to_coco_panoptic(result, stem, f"{name}.png")
    for row, segment in zip(annotation["segments_info"], result.segments_info, strict=True):
        row.update(name=segment.name, isthing=bool(segment.isthing))
    height, width = result.size
    data = {
        "format_version": _FORMAT_VERSION,
        "size": [int(height), int(width)],
        "file_name": annotation["file_name"],
        "semantic_file_name": None if result.semantic_map is None else f"{name}_semantic.png",
        "segments_info": annotation["segments_info"],
        "categories": result.categories.to_json(),
    }
    make_folder(path.parent)
    save_picture(Image.fromarray(rgb), path.with_name(data["file_name"]))
    if result.semantic_map is not None:
        save_picture(Image.fromarray(result.semantic_map), path.with_name(data["semantic_file_name"]))
    write_json(path, data, indent=1)
    return path


def load_result(path: str | Path) -> PanopticResult:
    """Read what `save_result` wrote.

    Args:
        path: the JSON file.

    Raises:
        DatasetError: a file is missing or corrupt, or map and segments contradict each other.
    """
    path = user_path(path)
    data = read_json(path, what="JSON of a result", error=DatasetError)
    try:
        version, (height, width), rows = data["format_version"], data["size"], list(data["segments_info"])
        png, semantic_png = data["file_name"], data["semantic_file_name"]
        size = _whole("size", height), _whole("size", width)
        categories = CategoryTable.from_json(data["categories"], where=str(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{path} is not the JSON of a result ({type(error).__name__}: {error}). Expected a file of `save_result`."
        ) from error
    if version != _FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format version {version}, this package reads {_FORMAT_VERSION}. Update the package."
        )
    result = PanopticResult(
        panoptic_map=rgb_to_id(_read_png(path, png, mode="RGB", size=size)).astype(np.int32),
        segments_info=[
            _segment(row, where=f"{path}: entry {number} of segments_info") for number, row in enumerate(rows)
        ],
        categories=categories,
        semantic_map=None if semantic_png is None else _read_png(path, semantic_png, mode="L", size=size),
    )
    result.check(where=str(path))
    return result


def _segment(row: Any, *, where: str) -> Segment:
    """What a row of JSON says, as it is: 1.9 is no id, and null is no area."""
    try:
        x, y, width, height = (_whole("bbox", value) for value in row["bbox"])
        if not isinstance(row["name"], str):
            raise TypeError(f"`name` must be text, got {row['name']!r}")
        return Segment(
            id=_whole("id", row["id"]),
            category_id=_whole("category_id", row["category_id"]),
            name=row["name"],
            isthing=_truth("isthing", row["isthing"]),
            area=_whole("area", row["area"]),
            bbox=(x, y, width, height),
            iscrowd=_truth("iscrowd", row["iscrowd"]),
            score=_number("score", row),
            objectness_score=_number("objectness_score", row),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DatasetError(
            f"{where} is not a segment ({type(error).__name__}: {error}). Expected a row of `save_result`."
        ) from error


def _whole(key: str, value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"`{key}` must hold whole numbers, got {value!r}")
    return value


def _number(key: str, row: dict[str, Any]) -> float | None:
    value = row.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise TypeError(f"`{key}` must be a number or null, got {value!r}")
    return None if value is None else float(value)


def _truth(key: str, value: Any) -> bool:
    if type(value) not in (bool, int) or value not in (0, 1):
        raise TypeError(f"`{key}` must be true or false, got {value!r}")
    return bool(value)


def _read_png(json_path: Path, name: Any, *, mode: str, size: tuple[int, int]) -> np.ndarray:
    plain = file_name(name, where=str(json_path), error=DatasetError)
    path = path_inside(json_path.parent, plain, where=str(json_path), error=DatasetError)
    try:
        with opened(path) as image:
            found_mode, values = image.mode, np.array(image)
    except ImageError as error:
        raise DatasetError(f"{json_path.name} names a picture that cannot be read: {error}") from error
    if found_mode != mode or values.shape[:2] != size:
        raise DatasetError(
            f"{path} is a {found_mode} image of {values.shape[0]} x {values.shape[1]} pixels (height x width)."
            f" Expected mode {mode} and {size[0]} x {size[1]}, as {json_path.name} says."
        )
    return values
