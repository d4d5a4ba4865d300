"""CVAT's own format, "CVAT for images 1.1": one XML file with polygons, boxes, ellipses and masks of many images.

    root/{split}.xml, root/annotations/{split}.xml or root/{split}/annotations.xml: all images in it
    root/annotations.xml: the images of the subset {split}

Images lie in `images/{split}/`, `images/`, `{split}/images/`, `{split}/` or the root. Boxes and ellipses may be turned;
`group_id` joins outlines of one class to one object, and `z_order` is there for `data.overlap: z_order`. A document
type in the XML is refused, so that no entity is ever expanded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np

from panoptic_deeplab.data.formats.common.label_tools import (
    Annotated,
    LabelToolSource,
    Outline,
    ellipse,
    rectangle,
)
from panoptic_deeplab.data.formats.common.shapes import Patch
from panoptic_deeplab.data.problems import Problems, shown
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import read_text

_WITHOUT_AREA = frozenset({"polyline", "points", "cuboid", "skeleton", "tag"})


class CvatSource(LabelToolSource):
    """A split of a "CVAT for images 1.1" export, whose labels are the names of the table; see `DrawnSource`.

    `split` names the XML file, its folder, or a subset in it.
    """

    has_z_order: ClassVar[bool] = True

    def _items(self, split: str, problems: Problems) -> list[Annotated]:
        path, subset = _find(self._root.folder, split)
        tree = read_cvat(path)
        if tree.find("track") is not None:
            raise DatasetError(f"{path} is of a video. Export it as CVAT for images 1.1, with the frames as images.")
        folders = [self._root.folder / f for f in (f"images/{split}", "images", f"{split}/images", split, ".")]
        items: dict[str, Annotated] = {}
        for number, element in enumerate(tree.iter("image")):
            place, name = f"image[{number}]", element.get("name", "")
            if subset is not None and element.get("subset") != subset:
                continue
            try:
                paths = [self._root.below(folder, name, where=f"{path}: {place}") for folder in folders]
            except DatasetError as error:
                problems.add("name", path, str(error).removeprefix(f"{path}: {place} "), place=place)
                continue
            image_id = name.replace("\\", "/").rpartition(".")[0] or name
            if image_id in items:
                problems.add("twice", path, f"names {name!r}, as an image before it. Remove one.", place=place)
                continue
            image_path = next(filter(Path.is_file, paths), paths[0])
            if not image_path.is_file():
                fault = f"names {name!r}, but there is no such image in images/ or {split}/. Add it."
                problems.add("absent", path, fault, place=place, image_id=image_id)
            item = Annotated(image_id=image_id, image_path=image_path, file=path)
            height, width = element.get("height", ""), element.get("width", "")
            if height.isdecimal() and width.isdecimal():
                item.size = (int(height), int(width))
            outlines = (self._outline(e, path, f"{place}.{e.tag}[{i}]", image_id) for i, e in enumerate(element))
            item.outlines = [outline for outline in outlines if outline is not None]
            items[image_id] = item
        if subset is not None and not items:
            raise DatasetError(f"{path} has no image of the subset {subset!r}. Name a subset, or the file {split}.xml.")
        return list(items.values())

    def _outline(self, element: ElementTree.Element, path: Path, place: str, image_id: str) -> Outline | None:
        kind, values = element.tag, element.attrib
        if kind in _WITHOUT_AREA:
            self._reader.skip(kind, path, place)
            return None
        dataset_id = self._reader.dataset_id(values.get("label"), path, place, image_id)
        try:
            drawn: list[float] | Patch = _drawn(kind, values)
            z, group = float(values.get("z_order", 0)), int(values.get("group_id", 0))
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
        return [float(number) for point in values["points"].split(";") for number in point.split(",")]
    if kind == "box":
        left, top, right, bottom = (float(values[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle(left, top, right, bottom, degrees)
    if kind == "ellipse":
        x, y, radius_x, radius_y = (float(values[key]) for key in ("cx", "cy", "rx", "ry"))
        return ellipse(x, y, radius_x, radius_y, degrees)
    if kind == "mask":
        left, top, width, height = (int(float(values[key])) for key in ("left", "top", "width", "height"))
        counts = np.array([int(count) for count in values["rle"].split(",")], np.int64)
        if (counts < 0).any() or counts.sum() != width * height:
            raise ValueError(f"run lengths of {counts.sum()} pixels for {width} x {height}")
        runs = np.arange(len(counts)) % 2 == 1
        return Patch(top, left, np.repeat(runs, counts).reshape(height, width))
    raise ValueError(f"unknown kind {shown(kind)}")


def _find(root: Path, split: str) -> tuple[Path, str | None]:
    """The XML of a split, and the subset of it that is meant; None = all."""
    for path in (root / f"{split}.xml", root / "annotations" / f"{split}.xml", root / split / "annotations.xml"):
        if path.is_file():
            return path, None
    if (root / "annotations.xml").is_file():
        return root / "annotations.xml", split
    raise DatasetError(
        f"Split {split!r} is not in {root.absolute()}. Expected {split}.xml, annotations/{split}.xml,"
        f" {split}/annotations.xml, or annotations.xml with images of the subset {split!r}."
    )


def read_cvat(path: Path) -> ElementTree.Element:
    """The element `annotations` of an XML file.

    Raises:
        DatasetError: it cannot be read, is no XML, has a document type, or is of something else than CVAT.
    """
    text = read_text(path, what="CVAT annotations", error=DatasetError).lstrip("\ufeff")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DatasetError(f"{path} has a document type, which CVAT does not write. Remove it.")
    try:
        tree = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is no XML, or is truncated: {error}. Export it again.") from error
    if tree.tag != "annotations":
        raise DatasetError(f"{path} is no XML of CVAT, but <{tree.tag}>. Expected CVAT for images 1.1: <annotations>.")
    return tree
