"""One `PanopticResult` on disk: a PNG and a JSON file, read back without loss.

The PNG is that of the COCO panoptic format (`coco.py`); what the JSON says beside it is the table of segments. A result
that contradicts itself (`PanopticResult.check`) is refused with a `DatasetError` rather than written.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import DatasetError, ImageError
from panoptic_deeplab.files import file_name, make_folder, path_below, path_inside, read_json, user_path, write_json
from panoptic_deeplab.images.read import opened
from panoptic_deeplab.images.write import save_picture
from panoptic_deeplab.results.coco import to_coco_panoptic
from panoptic_deeplab.results.ids import rgb_to_id
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

_FORMAT_VERSION = 1


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
