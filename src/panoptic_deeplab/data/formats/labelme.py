r"""LabelMe: a JSON file an image, beside it or in a folder of its own.

    root/{split}/a.json and a.jpg, root/{split}.txt with a name a line, or root/annotations/{split}/a.json and
    root/images/{split}/a.jpg: the JSON says by `imagePath` where its image is, with `/` or `\`

Polygons, rectangles, circles and masks are read; `group_id` joins those of one class to one object. Where the image is
not on disk, the copy that LabelMe keeps in the JSON (`imageData`) is read. A later outline is drawn over an earlier one
with `data.overlap: file`. Lines and points have no area, so they are not read, which `data check` counts.
"""

import base64
import binascii
import io
import math
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from panoptic_deeplab.data.formats.common.label_tools import (
    Annotated,
    LabelToolSource,
    Outline,
    ellipse,
    rectangle,
)
from panoptic_deeplab.data.formats.common.shapes import Patch
from panoptic_deeplab.data.name_lists import read_names
from panoptic_deeplab.data.problems import Problems, shown
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.errors import DatasetError, ImageError
from panoptic_deeplab.files import existing_file, read_json
from panoptic_deeplab.images.intensity import viewable
from panoptic_deeplab.images.read import IMAGE_SUFFIXES, decode, image_files

_WITHOUT_AREA = frozenset({"line", "linestrip", "point", "points"})


class LabelmeSource(LabelToolSource):
    """A split of LabelMe files, whose labels are the names of the table; see `DrawnSource`.

    `split` names a list, or the folder.
    """

    def _items(self, split: str, problems: Problems) -> list[Annotated]:
        root = self._root.folder
        self._images: dict[Path, dict[str, list[Path]]] = {}
        list_path = existing_file(root / f"{split}.txt", error=DatasetError)
        files = _files(root, split, list_path, problems)
        items = [item for file in files if (item := self._item(file, problems)) is not None]
        if list_path is None:
            used, stems = {item.image_path for item in items}, {file.stem for file in files}
            for path in (path for folder in {file.parent for file in files} for path in image_files(folder)):
                if path not in used and path.stem not in stems:
                    fault = "has no JSON of LabelMe. Annotate it, or take it out."
                    problems.add("no label", path, fault, image_id=path.stem)
        return items

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DatasetError: a file is missing, corrupt or contradicts another one.
        """
        item = self.items[index]
        if item.image_path != item.file:
            return super().__getitem__(index)
        document = read_json(item.file, what="LabelMe file", error=DatasetError)
        try:
            with Image.open(io.BytesIO(base64.b64decode(document["imageData"], validate=True))) as picture:
                pixels = decode(picture, where=f"The image in {item.file}", exif=False, every_channel=True)
            image = viewable(pixels, where=f"The image in {item.file}")
        except (ImageError, OSError, ValueError, LookupError, TypeError, Image.DecompressionBombError) as error:
            raise DatasetError(f"{item.file} has no image in `imageData` that can be read: {error}.") from error
        panoptic_map, segments_info = self._labels(index, image, item.file)
        return Sample(
            image_id=item.image_id,
            image=image,
            panoptic_map=panoptic_map,
            segments_info=segments_info,
            deep_image=None if pixels.dtype == np.uint8 and pixels.shape[2] == 3 else pixels,
        )

    def _item(self, file: Path, problems: Problems) -> Annotated | None:
        try:
            document = read_json(self._root.listed(file.parent, file), what="LabelMe file", error=DatasetError)
        except DatasetError as error:
            problems.add("no JSON", file, str(error).removeprefix(f"The LabelMe file {file} "), image_id=file.stem)
            return Annotated(image_id=file.stem, image_path=file.with_suffix(".jpg"), file=file)
        if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
            problems.add("no LabelMe", file, "is no JSON of LabelMe. Expected an object with `shapes` and `imagePath`.")
            return None
        item = Annotated(image_id=file.stem, image_path=self._image_of(file, document, problems), file=file)
        height, width = document.get("imageHeight"), document.get("imageWidth")
        if type(height) is int and type(width) is int:
            item.size = (height, width)
        outlines = (self._outline(s, file, f"shapes[{i}]", file.stem) for i, s in enumerate(document["shapes"]))
        item.outlines = [outline for outline in outlines if outline is not None]
        return item

    def _image_of(self, file: Path, document: Mapping[str, Any], problems: Problems) -> Path:
        """The image that the JSON names; the JSON itself where the image is in it alone."""
        root, name = self._root.folder, document.get("imagePath")
        paths = self._named(file.parent, file.stem)
        if isinstance(name, str) and name:
            name = name.replace("\\", "/")
            named = posixpath.normpath(posixpath.join(file.parent.relative_to(root).as_posix(), name))
            for place in (named, file.parent.relative_to(root).as_posix() + "/" + posixpath.basename(name)):
                try:
                    paths.insert(0, self._root.below(root, place, where=f"{file}: imagePath"))
                except DatasetError:  # an absolute name of another machine, where its last part may be enough
                    continue
        parts = file.parent.relative_to(root).parts
        for folder in (root / "images", root.joinpath("images", *parts[1:]), root.joinpath(*parts[:-1], "images")):
            paths += self._named(folder, file.stem)
        found = next(filter(Path.is_file, paths), None)
        if found is None and document.get("imageData"):
            return file
        if found is None:
            fault = f"names the image {shown(name)}, which is not there, and has no copy of it in `imageData`. Add it."
            problems.add("no image", file, fault, image_id=file.stem)
        return found or file.with_suffix(".jpg")

    def _named(self, folder: Path, stem: str) -> list[Path]:
        """The images of a folder with a name; each folder is listed once."""
        if folder not in self._images:
            self._images[folder] = {}
            for path in image_files(folder) if folder.is_dir() else ():
                self._images[folder].setdefault(path.stem, []).append(path)
        return list(self._images[folder].get(stem, ()))

    def _outline(self, shape: Any, file: Path, place: str, image_id: str) -> Outline | None:
        if not isinstance(shape, dict):
            fault = f"is no object, but {shown(shape)}."
            self._reader.problems.add("shape", file, fault, place=place, image_id=image_id)
            return None
        kind = shape.get("shape_type", "polygon")
        if kind in _WITHOUT_AREA:
            self._reader.skip(kind, file, place)
            return None
        dataset_id = self._reader.dataset_id(shape.get("label"), file, place, image_id)
        try:
            drawn = _drawn(kind, shape)
        except (ValueError, TypeError, LookupError, OverflowError, OSError, Image.DecompressionBombError) as error:
            fault = f"is no {shown(kind)} that can be read ({type(error).__name__}: {error}). Save it again in LabelMe."
            self._reader.problems.add("shape", file, fault, place=place, image_id=image_id)
            return None
        corners = drawn if isinstance(drawn, Patch) else self._reader.corners(drawn, file, place, image_id)
        if corners is None or dataset_id is None:
            return None
        group = shape.get("group_id")
        return Outline(dataset_id, corners, place, group=group if type(group) in (int, str) else None)


def _drawn(kind: Any, shape: Mapping[str, Any]) -> list[float] | Patch:
    """Corners of a shape, or its mask.

    Raises:
        ValueError, TypeError, LookupError, OSError: it is not what its kind asks for.
    """
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind in ("polygon", None):
        return [number for point in points for number in point]
    if kind == "rectangle" and len(points) == 4:
        return [number for point in points for number in point]
    if len(points) != 2:
        raise ValueError(f"{len(points)} points, 2 expected")
    (x0, y0), (x1, y1) = points
    if kind == "rectangle":
        return rectangle(x0, y0, x1, y1)
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        return ellipse(x0, y0, radius, radius)
    if kind == "mask":
        try:
            content = base64.b64decode(shape["mask"], validate=True)
        except binascii.Error as error:
            raise ValueError("`mask` is no base64") from error
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            return Patch(round(min(y0, y1)), round(min(x0, x1)), np.asarray(picture.convert("L")) > 0)
    raise ValueError("the kind is unknown")


def _files(root: Path, split: str, list_path: Path | None, problems: Problems) -> list[Path]:
    """The JSON files of a split."""
    folders = [root / split, root / "annotations" / split, root / split / "annotations", root / "annotations", root]
    if list_path is None:
        found = next(filter(None, (_json_files(folder, problems) for folder in folders[:3])), {})
        if not found:
            raise DatasetError(
                f"Split {split!r} is not in {root.absolute()}. Expected JSON files in {split}/, annotations/{split}/ or"
                f" {split}/annotations/, or {split}.txt with a name a line."
            )
        return list(found.values())
    available = {stem: file for folder in folders for stem, file in _json_files(folder, problems).items()}
    absent = "a JSON of this name"
    names = read_names(list_path, available, problems, absent=lambda line: absent, suffixes=IMAGE_SUFFIXES)
    return [available[name] for name in names]


def _json_files(folder: Path, problems: Problems) -> dict[str, Path]:
    """The JSON files of a folder by their name without suffix."""
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() == ".json" and not path.name.startswith("."):
            if path.stem in files:
                fault = f"and {path.name} differ only in their suffix. Remove or rename one."
                problems.add("suffix", files[path.stem], fault)
            files.setdefault(path.stem, path)
    return files
