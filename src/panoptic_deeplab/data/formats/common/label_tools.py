"""What the readers of label tools have in common: outlines of many kinds, groups, names of classes.

All files of a split are read when it is opened, so that everything that is wrong with them is known at once; images
are read, and outlines drawn, when they are asked for. Outlines in one group and of one class are one object: parts of
what something else hides.
"""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.common.drawn import DrawnSource
from panoptic_deeplab.data.formats.common.label_colors import class_ids, unknown_class
from panoptic_deeplab.data.formats.common.listed import Labels
from panoptic_deeplab.data.formats.common.shapes import Patch, Shape, mask_patch, polygon_fault, polygon_patch
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError

Corners = Float64[np.ndarray, "corners 2"]
"""`(x, y)` in pixels; (0, 0) is the outer corner of the first pixel."""


class Outline(NamedTuple):
    """One thing that somebody drew."""

    dataset_id: int
    drawn: Corners | Patch
    place: str
    group: Hashable = None
    """Outlines of one group and class are one object; None is no group."""
    z: float = 0


@dataclass(kw_only=True)
class Annotated:
    """One image and what is drawn on it."""

    image_id: str
    image_path: Path
    file: Path
    """Its annotations."""
    outlines: list[Outline] | None = field(default_factory=list)
    """None without labels."""
    size: tuple[int, int] | None = None
    """`(height, width)` that the file says."""
    relative: bool = False
    """Corners are parts of width and height."""


class LabelToolSource(DrawnSource):
    """A split of images and outlines; a reader says which there are (`_items`), and takes outlines by `_reader`."""

    items: list[Annotated]

    def _list(self, split: str, problems: Problems) -> Sequence[str]:
        self._reader = OutlineReader(categories=self.categories, problems=problems)
        self.items = self._items(split, problems)
        self._reader.tell_skipped()
        return [item.image_id for item in self.items]

    @abstractmethod
    def _items(self, split: str, problems: Problems) -> list[Annotated]:
        """The images of a split and what is drawn on them; see `_list`."""

    def _image_path(self, index: int) -> Path:
        path = self.items[index].image_path
        return self._root.listed(path.parent, path)

    def _labels(self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path) -> Labels:
        item = self.items[index]
        if item.outlines is None:
            return None, []
        if item.size not in (None, image.shape[:2]):
            raise DatasetError(
                f"{item.file} says that {image_path} has the size (height, width) {item.size}, but it has"
                f" {image.shape[:2]}. Expected the image that was annotated, not a resized or turned one."
            )
        return super()._labels(index, image, image_path)

    def _shapes(self, index: int, size: tuple[int, int]) -> list[Shape]:
        item = self.items[index]
        groups: dict[Hashable, list[Outline]] = {}
        for number, outline in enumerate(item.outlines or ()):
            key = (number,) if outline.group is None else (outline.dataset_id, outline.group)
            groups.setdefault(key, []).append(outline)
        scale = np.array([size[1], size[0]] if item.relative else [1, 1], np.float64)
        shapes = []
        for first, *others in groups.values():
            patches = [_patch(outline.drawn, scale, size) for outline in (first, *others)]
            z = max(outline.z for outline in (first, *others))
            shapes.append(Shape(_united(patches, size), first.dataset_id, z=z, place=first.place))
        return shapes

    def _where(self, index: int) -> str:
        return f"{self.items[index].file} (image {self.items[index].image_id})"


@dataclass(kw_only=True)
class OutlineReader:
    """Takes the outlines of a split one by one, and notes what is wrong with them."""

    categories: CategoryTable
    problems: Problems
    without_area: Counter[str] = field(default_factory=Counter)
    first: str = ""
    """Where the first outline without an area is."""

    def __post_init__(self) -> None:
        self._ids = class_ids(self.categories)

    def dataset_id(self, name: object, file: Path, place: str, image_id: str | None) -> int | None:
        """The id of a class by its name; None and a problem where there is none."""
        if isinstance(name, str) and name in self._ids:
            return self._ids[name]
        fault = unknown_class(str(name), self.categories)
        self.problems.add(f"class {name}", file, fault, place=place, image_id=image_id)
        return None

    def corners(self, numbers: object, file: Path, place: str, image_id: str) -> Corners | None:
        """Corners from `[x1, y1, x2, y2, ...]`; None and a problem where they are none."""
        fault = polygon_fault(numbers)
        if fault is not None:
            self.problems.add("outline", file, fault, place=place, image_id=image_id)
            return None
        return np.array(numbers, np.float64).reshape(-1, 2)

    def skip(self, kind: str, file: Path, place: str) -> None:
        """Note an outline of a kind that has no area."""
        self.first = self.first or f"{file}: {place}"
        self.without_area[kind] += 1

    def tell_skipped(self) -> None:
        """Warn once of all outlines without an area."""
        if self.without_area:
            kinds = ", ".join(f"{count} of kind {kind!r}" for kind, count in sorted(self.without_area.items()))
            self.problems.warnings.append(f"Annotations without an area are not read: {kinds}, first {self.first}.")


def rectangle(x0: float, y0: float, x1: float, y1: float, degrees: float = 0) -> list[float]:
    """Corners of a rectangle that is turned around its center, clockwise as one sees it."""
    return _turned([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], ((x0 + x1) / 2, (y0 + y1) / 2), degrees)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> list[float]:
    """Corners of an ellipse, about one for each pixel of its outline."""
    largest = max(abs(radius_x), abs(radius_y))
    count = int(min(max(16, 2 * math.pi * largest), 2000)) if math.isfinite(largest) else 3
    angles = [2 * math.pi * i / count for i in range(count)]
    return _turned([(x + radius_x * math.cos(a), y + radius_y * math.sin(a)) for a in angles], (x, y), degrees)


def _turned(points: Sequence[tuple[float, float]], center: tuple[float, float], degrees: float) -> list[float]:
    angle = math.radians(degrees)
    numbers = []
    for x, y in points:
        dx, dy = x - center[0], y - center[1]
        numbers.append(center[0] + dx * math.cos(angle) - dy * math.sin(angle))
        numbers.append(center[1] + dx * math.sin(angle) + dy * math.cos(angle))
    return numbers


def _patch(drawn: Corners | Patch, scale: Float64[np.ndarray, "2"], size: tuple[int, int]) -> Patch:
    if not isinstance(drawn, Patch):
        return polygon_patch([drawn * scale], size)
    y, x, mask = drawn
    top, left = max(0, -y), max(0, -x)
    return Patch(y + top, x + left, mask[top : max(size[0] - y, 0), left : max(size[1] - x, 0)])


def _united(patches: Sequence[Patch], size: tuple[int, int]) -> Patch:
    if len(patches) == 1:
        return patches[0]
    canvas = np.zeros(size, np.bool_)
    for y, x, mask in patches:
        canvas[y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
    return mask_patch(canvas)
