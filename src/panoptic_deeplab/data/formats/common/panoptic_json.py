"""COCO's panoptic JSON, entry by entry: what loading needs in arrays, and each wrong entry with its place."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.common.coco_entries import (
    MAX_NUMBER,
    ImageList,
    ImageReader,
    check_categories,
    read_lists,
)
from panoptic_deeplab.data.labels import RawSegment
from panoptic_deeplab.data.problems import Problems, flag_fault, integer_fault, shown
from panoptic_deeplab.data.set_root import SetRoot
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID

_Row = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class PanopticIndex(ImageList):
    """The contents of a panoptic JSON that loading needs, in arrays: COCO's 118,287 images take about 40 MB."""

    label_files: list[str | None]
    """`file_name` of each PNG; None where the JSON has no annotation for the image, or a wrong one."""
    segment_ranges: Int64[np.ndarray, "images 2"]
    """Where an image's rows of `segments` begin and end."""
    segments: Int64[np.ndarray, "segments 4"]
    """`id, category_id, iscrowd, area` as written in the file; area is -1 where absent."""
    has_labels: bool

    def raw_segments(self, index: int) -> list[RawSegment]:
        """Segments of image number `index`."""
        begin, end = self.segment_ranges[index]
        return [RawSegment(id_, category, bool(crowd)) for id_, category, crowd, _ in self.segments[begin:end].tolist()]


def read_panoptic_json(path: Path, categories: CategoryTable, root: SetRoot, problems: Problems) -> PanopticIndex:
    """Read a panoptic JSON and hold its categories against the table.

    A JSON without the key `annotations` is a list of images without labels.

    Args:
        path: the file.
        categories: the table to read the set with.
        root: folder of the set, which its names must not lead out of.
        problems: takes the entries that are wrong, those listed twice, and categories that contradict the table.

    Raises:
        DatasetError: the file is missing or no panoptic JSON.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path} does not exist. Expected the COCO panoptic format: annotations/panoptic_<split>.json in the root"
            " folder of the set."
        )
    lists, has_labels = read_lists(path, what="panoptic JSON", annotation="image_id, file_name, segments_info")
    check_categories(lists["categories"], categories, path, problems)
    reader = _Reader(path=path, categories=categories, root=root, problems=problems)
    for place, entry in enumerate(lists["images"]):
        reader.add_image(entry, f"images[{place}]")
    reader.start_annotations()
    for place, entry in enumerate(lists["annotations"]):
        reader.add_annotation(entry, f"annotations[{place}]")
    if has_labels:
        reader.look_for_unlabeled()
    return PanopticIndex(
        path=path,
        image_ids=list(reader.position),
        image_files=reader.image_files,
        image_sizes=reader.image_sizes,
        label_files=reader.label_files,
        segment_ranges=reader.ranges,
        segments=np.array(reader.rows, np.int64).reshape(-1, 4),
        has_labels=has_labels,
    )


@dataclass
class _Reader(ImageReader):
    """The index while entries go by."""

    label_files: list[str | None] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)
    annotated: set[str] = field(default_factory=set)

    def start_annotations(self) -> None:
        """Make room, now that the images are known."""
        self.label_files = [None] * len(self.position)
        self.ranges = np.zeros((len(self.position), 2), np.int64)

    def add_annotation(self, entry: Any, place: str) -> None:
        """Take one of `annotations`."""
        image_id = self.annotated_image(entry, place)
        if image_id is None:
            return
        where = f"{place} (image {image_id})"
        if image_id in self.annotated:
            self.fault(
                "two", where, f"is one of two annotations for image {image_id}. Expected one an image.", image_id
            )
            return
        self.annotated.add(image_id)
        label_file = self.file_name(entry, "label", where, image_id)
        segments = entry.get("segments_info")
        if not isinstance(segments, list):
            self.fault(
                "segments", where, "has no list `segments_info`. Expected one, empty where all is void.", image_id
            )
            return
        begin = len(self.rows)
        for number, segment in enumerate(segments):
            row = _plain_row(segment)
            if row is None or row[1] not in self.known:
                row = self.checked_row(segment, f"{place}.segments_info[{number}] (image {image_id})", image_id)
            if row is not None:
                self.rows.append(row)
        self.label_files[self.position[image_id]] = label_file
        self.ranges[self.position[image_id]] = begin, len(self.rows)

    def look_for_unlabeled(self) -> None:
        """Note images without an annotation."""
        for image_id in self.position:
            if image_id not in self.annotated:
                fault = "is listed without an annotation. Expected one for each image."
                self.fault("unlabeled", f"image {image_id}", fault, image_id)

    def checked_row(self, segment: Any, place: str, image_id: str) -> _Row | None:
        """A segment that is not as it should be at first sight; None where it is wrong."""
        if not isinstance(segment, dict):
            self.fault("object", place, f"is no object, but {shown(segment)}.", image_id)
            return None
        area = segment.get("area", -1)
        numbers = type(area) in (int, float) and (area == -1 or (math.isfinite(area) and 0 <= area <= MAX_NUMBER))
        faults = {
            "id": integer_fault(segment, "id", 1, MAX_SEGMENT_ID),
            "category_id": integer_fault(segment, "category_id", 0, MAX_NUMBER),
            "iscrowd": flag_fault(segment, "iscrowd"),
            "area": None if numbers else f"has the `area` {shown(area)}. Expected a number of pixels, or no `area`.",
        }
        for key, fault in faults.items():
            if fault is not None:
                self.fault(f"segment {key}", place, fault, image_id)
        if any(faults.values()):
            return None
        category_id = segment["category_id"]
        fault = self.category_fault(category_id)
        if fault is not None:
            self.fault(f"category {category_id}", place, fault, image_id)
            return None
        return segment["id"], category_id, int(segment.get("iscrowd", 0)), round(area)


def _plain_row(segment: Any) -> _Row | None:
    """A segment as it should be, in one look: there are over a million in COCO."""
    try:
        id_, category, crowd, area = segment["id"], segment["category_id"], segment.get("iscrowd", 0), segment["area"]
    except (KeyError, TypeError, AttributeError):
        return None
    if not type(id_) is type(category) is type(crowd) is type(area) is int:
        return None
    plain = 0 < id_ <= MAX_SEGMENT_ID and 0 <= category <= MAX_NUMBER and 0 <= crowd <= 1 and 0 <= area <= MAX_NUMBER
    return (id_, category, crowd, area) if plain else None
