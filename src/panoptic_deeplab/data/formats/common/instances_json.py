"""COCO's instances JSON, entry by entry: the shapes of each image, and each wrong entry with its place."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.common.coco_entries import (
    MAX_NUMBER,
    ImageList,
    ImageReader,
    check_categories,
    read_lists,
)
from panoptic_deeplab.data.formats.common.coco_rle import counts_fault, mask_of_counts, rle_counts
from panoptic_deeplab.data.formats.common.shapes import Patch, Shape, mask_patch, polygon_fault, polygon_patch
from panoptic_deeplab.data.problems import Problems, flag_fault, integer_fault, shown
from panoptic_deeplab.data.set_root import SetRoot
from panoptic_deeplab.errors import DatasetError

_NUMBER = re.compile(r"\d+")


class RunLengths(NamedTuple):
    """A mask of the whole image."""

    counts: Int64[np.ndarray, " runs"]
    size: tuple[int, int]
    """`(height, width)`."""


class Annotation(NamedTuple):
    """One of `annotations`."""

    number: int
    """Its place in the list."""
    dataset_id: int
    iscrowd: bool
    segmentation: RunLengths | list[Float64[np.ndarray, "_ 2"]]
    """A mask, or the corners `(x, y)` of the parts of a polygon; no part where the file gives none."""

    @property
    def place(self) -> str:
        """Where it is in the file."""
        return f"annotations[{self.number}]"

    def shape(self, size: tuple[int, int]) -> Shape:
        """Its pixels in an image of `(height, width)`.

        Raises:
            DatasetError: it is a mask of another size; the message is the rest of a sentence that begins with the file.
        """
        return Shape(self._patch(size), self.dataset_id, iscrowd=self.iscrowd, place=self.place)

    def _patch(self, size: tuple[int, int]) -> Patch:
        if not isinstance(self.segmentation, RunLengths):
            return polygon_patch(self.segmentation, size)
        if self.segmentation.size != size:
            raise DatasetError(_size_fault(self.segmentation.size, size))
        return mask_patch(mask_of_counts(self.segmentation.counts, size))


@dataclass(frozen=True, kw_only=True, eq=False)
class InstancesIndex(ImageList):
    """The contents of an instances JSON."""

    annotations: list[list[Annotation]]
    """Those of each image, in the order of the file."""
    has_labels: bool

    def shapes(self, index: int, size: tuple[int, int]) -> list[Shape]:
        """Draw the annotations of image number `index`, which has `(height, width)`.

        Raises:
            DatasetError: a mask has another size.
        """
        shapes = []
        for annotation in self.annotations[index]:
            try:
                shapes.append(annotation.shape(size))
            except DatasetError as error:
                where = f"{self.path}: {annotation.place} (image {self.image_ids[index]})"
                raise DatasetError(f"{where} {error}") from error
        return shapes


def read_instances_json(path: Path, categories: CategoryTable, root: SetRoot, problems: Problems) -> InstancesIndex:
    """Read an instances JSON and hold its categories against the table.

    A JSON without the key `annotations` is a list of images without labels.

    Args:
        path: the file.
        categories: the table to read the set with.
        root: folder of the set, which its names must not lead out of.
        problems: takes the entries that are wrong or listed twice, categories that contradict the table, and as
            warnings what is harmless: annotations without a pixel and categories of one name.

    Raises:
        DatasetError: the file cannot be read, or is no instances JSON.
    """
    annotation = "image_id, category_id, segmentation"
    lists, has_labels = read_lists(path, what="instances JSON", annotation=annotation)
    check_categories(lists["categories"], categories, path, problems)
    reader = _Reader(path=path, categories=categories, root=root, problems=problems)
    for place, entry in enumerate(lists["images"]):
        reader.add_image(entry, f"images[{place}]")
    reader.annotations = [[] for _ in reader.position]
    for number, entry in enumerate(lists["annotations"]):
        reader.add_annotation(entry, number)
    reader.tell_empty(len(lists["annotations"]))
    reader.tell_names(lists["categories"])
    return InstancesIndex(
        path=path,
        image_ids=list(reader.position),
        image_files=reader.image_files,
        image_sizes=reader.image_sizes,
        annotations=reader.annotations,
        has_labels=has_labels,
    )


@dataclass
class _Reader(ImageReader):
    """The index while entries go by."""

    annotations: list[list[Annotation]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """Places of annotations without a segmentation."""
    used: Counter[int] = field(default_factory=Counter)
    """How often each category is used."""

    def add_annotation(self, entry: Any, number: int) -> None:
        """Take one of `annotations`."""
        place = f"annotations[{number}]"
        image_id = self.annotated_image(entry, place)
        if image_id is None:
            return
        where = f"{place} (image {image_id})"
        faults = {
            "category_id": integer_fault(entry, "category_id", 0, MAX_NUMBER),
            "iscrowd": flag_fault(entry, "iscrowd"),
        }
        if faults["category_id"] is None:
            faults[f"category {entry['category_id']}"] = self.category_fault(entry["category_id"])
        position = self.position[image_id]
        try:
            segmentation = _segmentation(entry, self.image_sizes[position])
        except ValueError as error:
            text = str(error)
            faults[_NUMBER.sub("", text.rpartition(". ")[2])] = text  # of one kind are those that expected the same
        for kind, fault in faults.items():
            if fault is not None:
                self.fault(kind, where, fault, image_id)
        if any(faults.values()):
            return
        if isinstance(segmentation, list) and not segmentation:
            self.empty.append(where)
        self.used[entry["category_id"]] += 1
        crowd = bool(entry.get("iscrowd", 0))
        self.annotations[position].append(Annotation(number, entry["category_id"], crowd, segmentation))

    def tell_empty(self, total: int) -> None:
        """Note annotations without a segmentation: a few are harmless, a set of nothing else has boxes alone."""
        if not self.empty:
            return
        if len(self.empty) == total:
            fault = "has an empty `segmentation`, as all annotations have. Expected polygons or run lengths, not boxes."
            self.fault("boxes", self.empty[0], fault)
            return
        self.problems.warnings.append(
            f"Annotations of {self.path} with an empty `segmentation` and so without a pixel: {len(self.empty)}, the"
            f" first is {self.empty[0]}."
        )

    def tell_names(self, rows: list[Any]) -> None:
        """Note categories that have one name."""
        ids_of: dict[str, list[Any]] = {}
        for row in rows:
            if isinstance(row, dict) and isinstance(row.get("name"), str):
                ids_of.setdefault(row["name"], []).append(row.get("id"))
        for name, ids in ids_of.items():
            if len(ids) > 1:
                counts = ", ".join(f"{id_} ({self.used.get(id_, 0)} annotations)" for id_ in ids)
                self.problems.warnings.append(
                    f"{self.path} has several categories named {name!r}: {counts}. They are told apart by their ids."
                )


def _segmentation(
    entry: Mapping[str, Any], listed: tuple[int | None, int | None]
) -> RunLengths | list[Float64[np.ndarray, "_ 2"]]:
    """The segmentation of an annotation, in an image that the file gives the size `listed`.

    Raises:
        ValueError: it is wrong; the message is the rest of a sentence that begins with the place.
    """
    value = entry.get("segmentation")
    if isinstance(value, list):
        fault = next(filter(None, map(polygon_fault, value)), None)
        if fault is not None:
            raise ValueError(fault)
        return [np.array(part, np.float64).reshape(-1, 2) for part in value]
    if not isinstance(value, dict):
        has = f"has the `segmentation` {shown(value)}" if "segmentation" in entry else "has no `segmentation`"
        raise ValueError(f"{has}. Expected polygons [[x1, y1, x2, y2, ...], ...] or run lengths {{size, counts}}.")
    size = value.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int and 0 < n <= MAX_NUMBER for n in size)):
        raise ValueError(f"has run lengths of the size {shown(size)}. Expected [height, width].")
    height, width = size
    if listed[0] not in (None, height) or listed[1] not in (None, width):
        raise ValueError(_size_fault((height, width), listed))
    counts = rle_counts(value.get("counts"))
    fault = counts_fault(counts, (height, width))
    if fault is not None:
        raise ValueError(fault)
    return RunLengths(counts, (height, width))


def _size_fault(size: tuple[int, int], image: tuple[int | None, int | None]) -> str:
    return (
        f"has run lengths of the size {size[0]} x {size[1]} (height x width), but its image has {image[0]} x"
        f" {image[1]}. Expected the same; export the set again."
    )
