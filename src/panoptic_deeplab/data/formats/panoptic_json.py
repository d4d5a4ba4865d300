"""COCO's panoptic JSON, entry by entry: what loading needs in arrays, and each wrong entry with its place.

Numbers must be integers, as in category tables: a `category_id` of 1.9 is a mistake of whoever wrote the file, and none
that `int` should hide. An entry that is wrong does not hide the others.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.labels import RawSegment
from panoptic_deeplab.data.problems import Problems, flag_fault, integer_fault, shown
from panoptic_deeplab.data.set_root import SetRoot
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import read_json
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID

_MAX_NUMBER = 2**31 - 1

_Row = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class PanopticIndex:
    """The contents of a panoptic JSON that loading needs, in arrays: COCO's 118,287 images take about 40 MB."""

    path: Path
    image_ids: list[str]
    image_files: list[str]
    """`file_name` of each image."""
    image_sizes: list[tuple[int | None, int | None]]
    """`height, width` of each image; None where the file does not say it."""
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

    def check_size(self, index: int, size: tuple[int, int], image_path: Path) -> None:
        """Hold the `(height, width)` of an image file against what the JSON says of image number `index`.

        Raises:
            DatasetError: they differ, so the JSON is probably that of another set.
        """
        for key, number, listed in zip(("height", "width"), size, self.image_sizes[index], strict=True):
            if listed not in (None, number):
                raise DatasetError(
                    f"{self.path} says that image {self.image_ids[index]} has the `{key}` {listed}, but {image_path}"
                    f" has {number}. Expected the JSON of these images; correct its entry, or restore the image."
                )


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
    data = read_json(path, what="panoptic JSON", error=DatasetError)
    lists = (
        {key: data.get(key, []) for key in ("images", "annotations", "categories")} if isinstance(data, dict) else {}
    )
    if not lists or "images" not in data or not all(isinstance(entries, list) for entries in lists.values()):
        raise DatasetError(
            f"{path} is no panoptic JSON. Expected an object with the lists `images` (id, file_name), `annotations`"
            " (image_id, file_name, segments_info) and `categories`."
        )
    check_categories(lists["categories"], categories, path, problems)
    reader = _Reader(path=path, categories=categories, root=root, problems=problems)
    for place, entry in enumerate(lists["images"]):
        reader.add_image(entry, f"images[{place}]")
    reader.start_annotations()
    for place, entry in enumerate(lists["annotations"]):
        reader.add_annotation(entry, f"annotations[{place}]")
    if "annotations" in data:
        reader.look_for_unlabeled()
    return PanopticIndex(
        path=path,
        image_ids=list(reader.position),
        image_files=reader.image_files,
        image_sizes=reader.image_sizes,
        label_files=reader.label_files,
        segment_ranges=reader.ranges,
        segments=np.array(reader.rows, np.int64).reshape(-1, 4),
        has_labels="annotations" in data,
    )


@dataclass
class _Reader:
    """The index while entries go by."""

    path: Path
    categories: CategoryTable
    root: SetRoot
    problems: Problems
    position: dict[str, int] = field(default_factory=dict)
    """Number of each image id, in their order."""
    image_files: list[str] = field(default_factory=list)
    image_sizes: list[tuple[int | None, int | None]] = field(default_factory=list)
    label_files: list[str | None] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)
    annotated: set[str] = field(default_factory=set)
    named: dict[tuple[str, str], str] = field(default_factory=dict)
    """Where each image and each label is named."""

    def __post_init__(self) -> None:
        self.known = set(self.categories.train_id_by_dataset_id) | set(self.categories.void_ids)

    def fault(self, kind: str, place: str, fault: str, image_id: str | None = None) -> None:
        self.problems.add(f"{self.path} {kind}", self.path, fault, place=place, image_id=image_id)

    def add_image(self, entry: Any, place: str) -> None:
        """Take one of `images`."""
        image_id = self.image_id(entry, "id", place)
        if image_id is None:
            return
        if image_id in self.position:
            self.fault("image twice", place, f"lists an image id twice: {image_id}. Expected ids that differ.")
            return
        self.position[image_id] = len(self.image_files)
        where = f"{place} (image {image_id})"
        self.image_files.append(self.file_name(entry, "image", where, image_id) or "")
        sides = []
        for key in ("height", "width"):
            fault = integer_fault(entry, key, 1, _MAX_NUMBER) if key in entry else None
            if fault is not None:
                self.fault(f"image {key}", where, fault, image_id)
            sides.append(entry.get(key) if fault is None else None)
        self.image_sizes.append((sides[0], sides[1]))

    def start_annotations(self) -> None:
        """Make room, now that the images are known."""
        self.label_files = [None] * len(self.position)
        self.ranges = np.zeros((len(self.position), 2), np.int64)

    def add_annotation(self, entry: Any, place: str) -> None:
        """Take one of `annotations`."""
        image_id = self.image_id(entry, "image_id", place)
        if image_id is None:
            return
        if image_id not in self.position:
            self.fault("no image", place, f"is an annotation for image {image_id}, which is not among `images`.")
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

    def image_id(self, entry: Any, key: str, place: str) -> str | None:
        value = entry.get(key) if isinstance(entry, dict) else None
        if type(value) is int or (isinstance(value, str) and value):
            return str(value)
        if not isinstance(entry, dict):
            self.fault("object", place, f"is no object, but {shown(entry)}.")
        else:
            has = f"has the `{key}` {shown(value)}" if key in entry else f"has no `{key}`"
            self.fault(f"no {key}", place, f"{has}. Expected an integer or a name.")
        return None

    def file_name(self, entry: Mapping[str, Any], what: str, place: str, image_id: str) -> str | None:
        if "file_name" not in entry:
            self.fault("no file_name", place, "has no `file_name`. Expected the name of a file.", image_id)
            return None
        try:
            self.root.below(self.root.folder, entry["file_name"], where=f"{self.path}: {place}")
        except DatasetError as error:
            text = str(error).removeprefix(f"{self.path}: {place} ")
            self.fault("file_name", place, text, image_id)
            return None
        name = str(entry["file_name"])
        first = self.named.setdefault((what, name), place)
        if first != place:
            fault = f"names the {what} {name!r}, as {first} does. Expected a file of its own."
            self.fault(f"{what} file twice", place, fault, image_id)
            return None
        return name

    def checked_row(self, segment: Any, place: str, image_id: str) -> _Row | None:
        """A segment that is not as it should be at first sight; None where it is wrong."""
        if not isinstance(segment, dict):
            self.fault("object", place, f"is no object, but {shown(segment)}.", image_id)
            return None
        area = segment.get("area", -1)
        numbers = type(area) in (int, float) and (area == -1 or (math.isfinite(area) and 0 <= area <= _MAX_NUMBER))
        faults = {
            "id": integer_fault(segment, "id", 1, MAX_SEGMENT_ID),
            "category_id": integer_fault(segment, "category_id", 0, _MAX_NUMBER),
            "iscrowd": flag_fault(segment, "iscrowd"),
            "area": None if numbers else f"has the `area` {shown(area)}. Expected a number of pixels, or no `area`.",
        }
        for key, fault in faults.items():
            if fault is not None:
                self.fault(f"segment {key}", place, fault, image_id)
        if any(faults.values()):
            return None
        category_id = segment["category_id"]
        if category_id not in self.known:
            fault = (
                f"has category id {category_id}, which the table {self.categories.name!r} lists neither as a category"
                " nor in `void_ids`. Choose the table of this data set, or add the id to it."
            )
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
    plain = 0 < id_ <= MAX_SEGMENT_ID and 0 <= category <= _MAX_NUMBER and 0 <= crowd <= 1 and 0 <= area <= _MAX_NUMBER
    return (id_, category, crowd, area) if plain else None


def check_categories(rows: Iterable[Any], categories: CategoryTable, path: Path, problems: Problems) -> None:
    """Hold the categories that a file lists against the table.

    A table of another set would give every segment a wrong name without any other sign. The classes of a merged table
    have names of their own: there, `dataset_names` are compared, and without them there is a warning.
    """
    unnamed: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        place = f"categories[{number}]"
        fault = "is no object." if not isinstance(row, dict) else None
        fault = fault or integer_fault(row, "id", 0, _MAX_NUMBER) or flag_fault(row, "isthing")
        if fault is not None:
            problems.add(f"{path} category", path, fault, place=place)
            continue
        train_id = categories.train_id_by_dataset_id.get(row["id"])
        if train_id is None:
            continue  # an error only when a segment uses the id, and then the image is named
        category = categories[train_id]
        isthing, name = bool(row.get("isthing", category.isthing)), str(row.get("name", ""))
        expected = category.dataset_name(row["id"])
        if expected is None:
            unnamed.setdefault(category.name, []).append(f"{row['id']} {name!r}")
        if isthing != category.isthing or (name and expected is not None and name.lower() != expected.lower()):
            fault = (
                f"calls category {row['id']} {name or expected!r} ({'thing' if isthing else 'stuff'}), but the table"
                f" {categories.name!r} has {expected or category.name!r} ({'thing' if category.isthing else 'stuff'})"
                " there. Choose the table of this data set (data.categories)."
            )
            problems.add(f"{path} table", path, fault, place=place)
    if unnamed:
        joined = "; ".join(f"{name!r} joins {', '.join(ids)}" for name, ids in unnamed.items())
        problems.warnings.append(
            f"The table {categories.name!r} does not say which names of {path} it merges: {joined}. Look whether they"
            " belong together, and write them into the table as `dataset_names`, in the order of `dataset_ids`."
        )
