"""One picture an object, in a folder an image: the layout of the 2018 Data Science Bowl (nuclei).

    root/
    ├── {split}/NAME/images/NAME.png      one image
    └── {split}/NAME/masks/*.png          one mask an object: neither black nor transparent where the object is

`NAME` is the id of the image. A `{split}.txt` may list names instead, a line each; their folders then lie in the root
or in a folder of it. A split without any folder `masks` has no labels, and an empty folder `masks` is an image without
objects.

The table has one thing class, which all objects have. What no mask covers is `unlabeled` of the table; where the table
names none, it is its only stuff class, and void where it has none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from panoptic_deeplab.data.formats.common.drawn import DrawnSource
from panoptic_deeplab.data.formats.common.label_colors import NO_CLASS
from panoptic_deeplab.data.formats.common.listed import Labels
from panoptic_deeplab.data.formats.common.shapes import Shape, mask_patch
from panoptic_deeplab.data.formats.folder import only_classes
from panoptic_deeplab.data.label_files import check_same_size, read_object_mask
from panoptic_deeplab.data.name_lists import read_names
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import existing_file
from panoptic_deeplab.images.read import IMAGE_SUFFIXES, image_files


class _Item(NamedTuple):
    image_path: Path
    masks: list[Path] | None
    """None where the image has no folder of them."""


class ObjectMasksSource(DrawnSource):
    """A split in which each object has a mask of its own, in the layout above; see `DrawnSource`.

    `split` names a folder, or a list; the table has exactly one thing class. Where `overlap` is `file`, the order is
    that of the names of the masks.
    """

    def _list(self, split: str, problems: Problems) -> Sequence[str]:
        self._thing, self._stuff = only_classes(self.categories)
        items = {folder.name: _item(folder, problems) for folder in _folders(self._root.folder, split, problems)}
        self._has_labels = any(item.masks is not None for item in items.values())
        if self._has_labels:
            _look_for_missing(items, problems)
        self._items = list(items.values())
        return list(items)

    def _image_path(self, index: int) -> Path:
        path = self._items[index].image_path
        return self._root.listed(path.parent, path)

    def _labels(self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path) -> Labels:
        return super()._labels(index, image, image_path) if self._has_labels else (None, [])

    def _shapes(self, index: int, size: tuple[int, int]) -> list[Shape]:
        image_path, masks = self._items[index]
        if masks is None:
            raise DatasetError(f"{image_path} has no folder of masks. Expected {image_path.parents[1] / 'masks'}.")
        shapes = []
        for path in masks:
            label_path = self._root.listed(path.parent, path)
            mask = read_object_mask(label_path)
            check_same_size(size, mask, image_path=image_path, label_path=label_path)
            shapes.append(Shape(mask_patch(mask), self._thing, place=f"masks/{path.name}"))
        return shapes

    def _where(self, index: int) -> str:
        return str(self._items[index].image_path.parents[1])

    def _semantic(
        self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path
    ) -> Int32[np.ndarray, "H W"] | None:
        return None if self._stuff == NO_CLASS else np.full(image.shape[:2], self._stuff, np.int32)


def _folders(root: Path, split: str, problems: Problems) -> list[Path]:
    """The folder of each image of a split."""
    list_path = existing_file(root / f"{split}.txt", error=DatasetError)
    if list_path is None:
        folders = _inside(root / split) if (root / split).is_dir() else []
        if not folders:
            raise DatasetError(
                f"Split {split!r} is not in {root.absolute()}. Expected folders {split}/NAME with images/ and masks/ in"
                f" them, or {split}.txt with a NAME a line."
            )
        for path in image_files(root / split):
            fault = "is not read. Expected NAME/images/ with one image; move or remove it."
            problems.add(f"{root} loose", path, fault)
        return folders
    places = {folder.name: folder for outer in (*_inside(root), root) for folder in _inside(outer)}
    absent = f"a folder of this name in {root}"
    names = read_names(list_path, places, problems, absent=lambda line: absent, suffixes=IMAGE_SUFFIXES)
    return [places[name] for name in names]


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _item(folder: Path, problems: Problems) -> _Item:
    images = image_files(folder / "images") if (folder / "images").is_dir() else []
    if len(images) != 1:
        has = f"holds {len(images)} images in images/" if images else "has no image in images/"
        problems.add("images", folder, f"{has}. Expected one; restore, move or remove.", image_id=folder.name)
    masks = image_files(folder / "masks") if (folder / "masks").is_dir() else None
    others = [path for path in _visible(folder / "masks") if path not in (masks or ())]
    if others:
        fault = "is no mask that can be read. Expected PNG files alone in masks/; convert or remove it."
        problems.add("other", others[0], fault, image_id=folder.name)
    return _Item(images[0] if images else folder / "images" / f"{folder.name}.png", masks)


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []


def _look_for_missing(items: dict[str, _Item], problems: Problems) -> None:
    for image_id, item in items.items():
        if item.masks is None:
            fault = "does not exist, though other images have masks. Add it (empty where there is no object)."
            problems.add("no masks", item.image_path.parents[1] / "masks", fault, image_id=image_id)
