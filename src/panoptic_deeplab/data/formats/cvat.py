"""CVAT's own format, "CVAT for images 1.1": one XML file with polygons, boxes, ellipses and masks of many images.

    root/{split}.xml, root/annotations/{split}.xml or root/{split}/annotations.xml: all images in it
    root/annotations.xml: the images of the subset {split}

Images lie in `images/{split}/`, `images/`, `{split}/images/`, `{split}/` or the root. Boxes and ellipses may be turned;
`group_id` joins outlines of one class to one object, and `z_order` is there for `data.overlap: z_order`. A document
type in the XML is refused, so that no entity is ever expanded.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np

from panoptic_deeplab.data.formats.common.coco_entries import MAX_NUMBER
from panoptic_deeplab.data.formats.common.label_tools import (
    Annotated,
    LabelToolSource,
    Outline,
    ellipse,
    rectangle,
)
from panoptic_deeplab.data.formats.common.shapes import Patch
from panoptic_deeplab.data.label_files import absent_file, case_twin
from panoptic_deeplab.data.problems import Problems, shown
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import existing_file, read_text

_WITHOUT_AREA = frozenset({"polyline", "points", "cuboid", "skeleton", "tag"})
_MOST_PIXELS = 2**28
"""No image has more; a mask that says so is a mistake, and would fill the memory."""


class CvatSource(LabelToolSource):
    """A split of a "CVAT for images 1.1" export, whose labels are the names of the table; see `DrawnSource`.

    `split` names the XML file, its folder, or a subset in it.
    """

    has_z_order: ClassVar[bool] = True

    def _items(self, split: str, problems: Problems) -> list[Annotated]:
        self._split = split
        path, subset = _find(self._root.folder, split)
        tree = read_cvat(path)
        if tree.find("track") is not None:
            raise DatasetError(f"{path} is of a video. Export it as CVAT for images 1.1, with the frames as images.")
        items: dict[str, Annotated] = {}
        for number, element in enumerate(tree.iter("image")):
            place, name = f"image[{number}]", element.get("name", "")
            if subset is not None and element.get("subset") != subset:
                continue
            plain = "/".join(part for part in re.split(r"[/\\]", name) if part not in ("", "."))
            image_id = plain.rpartition(".")[0] or plain
            if image_id in items:
                problems.add("twice", path, f"names {name!r}, as an image before it. Remove one.", place=place)
                continue
            item = Annotated(image_id=image_id, image_path=self._image_of(path, place, name, image_id), file=path)
            item.size = self._size(element, path, place, image_id)
            outlines = (self._outline(e, path, f"{place}.{e.tag}[{i}]", image_id) for i, e in enumerate(element))
            item.outlines = [outline for outline in outlines if outline is not None]
            items[image_id] = item
        if subset is not None and not items:
            raise DatasetError(f"{path} has no image of the subset {subset!r}. Name a subset, or the file {split}.xml.")
        return list(items.values())

    def _image_of(self, path: Path, place: str, name: str, image_id: str) -> Path:
        """The file of an image; a problem where there is none."""
        folders = (f"images/{self._split}", "images", f"{self._split}/images", self._split, ".")
        problems = self._reader.problems
        try:
            paths = [self._root.below(self._root.folder / folder, name, where=f"{path}: {place}") for folder in folders]
        except DatasetError as error:
            problems.add("name", path, str(error).removeprefix(f"{path}: {place} "), place=place, image_id=image_id)
            return self._root.folder / "images"
        found = next(filter(Path.is_file, paths), None)
        if found is None:
            near = next((place for place in paths if case_twin(place) is not None), paths[1])
            problems.add("absent", path, absent_file(name, near), place=place, image_id=image_id)
        return found or paths[1]

    def _size(self, element: ElementTree.Element, path: Path, place: str, image_id: str) -> tuple[int, int] | None:
        """The `(height, width)` that the file says; a problem where these are no numbers of pixels."""
        sides = []
        for key in ("height", "width"):
            value = element.get(key)
            if value is None:
                return None
            if not (re.fullmatch(r"\d{1,9}", value) and 0 < int(value) <= MAX_NUMBER):
                fault = f"has the {key} {shown(value)}. Expected a number of pixels."
                self._reader.problems.add("size", path, fault, place=place, image_id=image_id)
                return None
            sides.append(int(value))
        return sides[0], sides[1]

    def _outline(self, element: ElementTree.Element, path: Path, place: str, image_id: str) -> Outline | None:
        kind, values = element.tag, element.attrib
        if kind in _WITHOUT_AREA:
            self._reader.skip(kind, path, place)
            return None
        dataset_id = self._reader.dataset_id(values.get("label"), path, place, image_id)
        try:
            drawn: list[float] | Patch = _drawn(kind, values)
            z, group = float(values.get("z_order", 0)), int(values.get("group_id", 0))
            if not math.isfinite(z):
                raise ValueError(f"z_order is {z}")
        except (ValueError, KeyError, OverflowError, MemoryError) as error:
            fault = f"is no {kind} that can be read ({type(error).__name__}: {error}). Export it again."
            self._reader.problems.add(f"{kind}", path, fault, place=place, image_id=image_id)
            return None
        corners = drawn if isinstance(drawn, Patch) else self._reader.corners(drawn, path, place, image_id)
        if corners is None or dataset_id is None:
            return None
        return Outline(dataset_id, corners, place, group=group or None, z=z)


def _drawn(kind: str, values: Mapping[str, str]) -> list[float] | Patch:
    """Corners of an outline, or the mask.

    Raises:
        ValueError, KeyError, OverflowError: an attribute is missing or no number, or the kind is unknown.
    """
    degrees = float(values.get("rotation", 0))
    if kind == "polygon":
        points = [tuple(map(float, point.split(","))) for point in values["points"].split(";")]
        if any(len(point) != 2 for point in points):
            raise ValueError("a point without x and y")
        return [number for point in points for number in point]
    if kind == "box":
        left, top, right, bottom = (float(values[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle(left, top, right, bottom, degrees)
    if kind == "ellipse":
        x, y, radius_x, radius_y = (float(values[key]) for key in ("cx", "cy", "rx", "ry"))
        return ellipse(x, y, radius_x, radius_y, degrees)
    if kind == "mask":
        left, top, width, height = (int(float(values[key])) for key in ("left", "top", "width", "height"))
        counts = np.array([int(count) for count in values["rle"].split(",")], np.int64)
        if min(width, height) < 0 or width * height > _MOST_PIXELS:
            raise ValueError(f"a mask of {width} x {height} pixels")
        if (counts < 0).any() or counts.sum() != width * height:
            raise ValueError(f"run lengths of {counts.sum()} pixels for {width} x {height}")
        runs = np.arange(len(counts)) % 2 == 1
        return Patch(top, left, np.repeat(runs, counts).reshape(height, width))
    raise ValueError(f"unknown kind {shown(kind)}")


def _find(root: Path, split: str) -> tuple[Path, str | None]:
    """The XML of a split, and the subset of it that is meant; None = all."""
    for place in (f"{split}.xml", f"annotations/{split}.xml", f"{split}/annotations.xml"):
        path = existing_file(root / place, error=DatasetError)
        if path is not None:
            return path, None
    path = existing_file(root / "annotations.xml", error=DatasetError)
    if path is not None:
        return path, split
    raise DatasetError(
        f"Split {split!r} is not in {root.absolute()}. Expected {split}.xml, annotations/{split}.xml,"
        f" {split}/annotations.xml, or annotations.xml with images of the subset {split!r}."
    )


def read_cvat(path: Path) -> ElementTree.Element:
    """The element `annotations` of an XML file.

    Raises:
        DatasetError: it cannot be read, is no XML, has a document type, or is of something else than CVAT.
    """
    text = read_text(path, what="CVAT annotations", error=DatasetError)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DatasetError(f"{path} has a document type, which CVAT does not write. Remove it.")
    try:
        tree = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is no XML, or is truncated: {error}. Export it again.") from error
    if tree.tag != "annotations":
        raise DatasetError(f"{path} is no XML of CVAT, but <{tree.tag}>. Expected CVAT for images 1.1: <annotations>.")
    return tree
