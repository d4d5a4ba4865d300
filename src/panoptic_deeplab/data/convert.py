"""From any source to COCO panoptic files."""

import shutil
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from panoptic_deeplab import files
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.sample import PanopticSource, Sample, image_ids
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import id_to_rgb
from panoptic_deeplab.results.panoptic_result import Segment

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}
"""Suffixes of files that are copied."""

_LONGEST_SUFFIX = ".jpeg"
"""A suffix that is at least as long as that of any file that is written."""


def write_coco_panoptic(
    source: PanopticSource,
    root: str | Path,
    split: str,
    *,
    jpeg_quality: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a labeled source in COCO panoptic format, as `CocoPanopticSource(root, split, table)` reads it.

    Files: `{split}/`, `annotations/panoptic_{split}/`, `annotations/panoptic_{split}.json` and `categories.json`, the
    table to read the set with. (The written ids are those of `source.categories`; where that table is merged they are
    no longer the data set's.) The panoptic JSON comes last, so that an interrupted conversion leaves no split that
    looks complete.

    Args:
        source: what to write.
        root: folder, made where absent.
        split: name of the split in the paths.
        jpeg_quality: None copies JPEG and PNG files byte for byte (if all programs read them alike: 8-bit RGB or gray),
            and files of more bits or channels, and writes other images as PNG, exactly; a number (95) writes all as
            JPEG.
        progress: called with (images done, images to do).

    Returns:
        The panoptic JSON.

    Raises:
        DatasetError: the split or another table exists already, an id cannot name a file or two ids would name the
            same one, an image has no labels or does not fit into JPEG, or a file of the source is wrong.
        OutputError: a file cannot be written.
    """
    root, split = files.user_path(root), files.file_name(split, where="The name of the split", error=DatasetError)
    annotations = root / "annotations"
    json_path = annotations / f"panoptic_{split}.json"
    if json_path.exists():
        raise DatasetError(f"{json_path} exists already. Choose another folder or split name, or remove it first.")
    _check_names(image_ids(source))
    table, table_path = unmerged(source.categories), root / "categories.json"
    if table_path.exists() and CategoryTable.load(table_path).categories != table.categories:
        raise DatasetError(
            f"{table_path} has other classes than {table.name!r}, and another split needs it as it is. Choose another"
            " folder."
        )
    image_folder = files.make_folder(root / split)
    label_folder = files.make_folder(annotations / f"panoptic_{split}")

    images: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    for index in range(len(source)):
        sample = source[index]
        if sample.panoptic_map is None:
            raise DatasetError(f"Image {sample.image_id} has no labels. Expected a labeled split to convert.")
        file_name, label_name = _write_image(sample, image_folder, jpeg_quality), f"{sample.image_id}.png"
        with files.written_whole(label_folder / label_name) as path:
            Image.fromarray(id_to_rgb(sample.panoptic_map)).save(path)
        image_id, (height, width) = _json_id(sample.image_id), sample.size
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        segments = [_segment_record(segment) for segment in sample.segments_info]
        records.append({"image_id": image_id, "file_name": label_name, "segments_info": segments})
        if progress is not None:
            progress(index + 1, len(source))

    categories = [
        {"id": c.id, "name": c.name, "isthing": int(c.isthing), "color": list(c.color)} for c in table.categories
    ]
    files.write_json(table_path, table.to_json(), indent=1)
    files.write_json(json_path, {"images": images, "annotations": records, "categories": categories})
    return json_path


def unmerged(table: CategoryTable) -> CategoryTable:
    """The same classes as a table whose files carry `Category.id` itself."""
    categories = tuple(replace(category, dataset_ids=(), dataset_names=()) for category in table.categories)
    return CategoryTable(name=table.name, categories=categories)


def _check_names(names: Sequence[str]) -> None:
    """See that image ids can name files that do not overwrite each other, on any file system."""
    taken: dict[str, str] = {}
    for image_id in names:
        files.file_name(image_id, where=f"The id of image {image_id!r}", error=DatasetError, suffix=_LONGEST_SUFFIX)
        # Some file systems take letters of other case, other spellings of one letter and dots at the end for the same.
        key = unicodedata.normalize("NFC", image_id).casefold().rstrip(". ")
        if key in taken:
            raise DatasetError(
                f"The image ids {taken[key]!r} and {image_id!r} would name the same file. Expected ids that differ in"
                " more than upper and lower case; rename one."
            )
        taken[key] = image_id


def _write_image(sample: Sample, folder: Path, jpeg_quality: int | None) -> str:
    """Write or copy the image; its file name."""
    suffix = ".png" if jpeg_quality is None else ".jpg"
    if _holds_more(sample) and (sample.image_path is None or jpeg_quality is not None):
        raise DatasetError(
            f"Image {sample.image_id} holds more than 8 bits a color, or channels that are no colors, which JPEG would"
            " change. Leave `jpeg_quality` out, so that the file `image_path` is copied."
        )
    copied = None if sample.image_path is None or jpeg_quality is not None else _suffix_to_copy(sample)
    name = sample.image_id + (copied or suffix)
    with files.written_whole(folder / name) as path:
        if copied:
            shutil.copyfile(sample.image_path, path)  # type: ignore[arg-type]  # it has one
        else:
            quality = {} if jpeg_quality is None else {"quality": jpeg_quality, "subsampling": 0}
            Image.fromarray(sample.image).save(path, **quality)  # type: ignore[arg-type]
    return name


def _holds_more(sample: Sample) -> bool:
    """Whether RGB of 8 bits would not hold all of an image, but for transparency."""
    return sample.deep_image is not None and (sample.has_channels or sample.deep_image.dtype != np.uint8)


def _suffix_to_copy(sample: Sample) -> str | None:
    """The suffix that fits what the file holds, whatever its name; None = it is not copied."""
    assert sample.image_path is not None
    if _holds_more(sample):
        return sample.image_path.suffix.lower()
    with Image.open(sample.image_path) as picture:  # its head alone; the pixels were read before
        plain = picture.mode in ("RGB", "L") and "transparency" not in picture.info
        return _SUFFIXES.get(picture.format or "") if plain else None


def _segment_record(segment: Segment) -> dict[str, Any]:
    return {
        "id": segment.id,
        "category_id": segment.category_id,
        "iscrowd": int(segment.iscrowd),
        "bbox": list(segment.bbox),
        "area": segment.area,
    }


def _json_id(image_id: str) -> int | str:
    """A number where the id is one, as COCO's tools want, but never one that reads back differently."""
    return int(image_id) if image_id.isdecimal() and str(int(image_id)) == image_id else image_id
