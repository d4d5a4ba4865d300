"""What a folder of masks holds: Pascal VOC, class maps by number or color, and label images; see `detect.py`.

A label image has a number for each object, a class map one for each class, and both can lie in `masks/`. A few colors
are classes; numbers are objects, unless a file names them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.formats.common.label_colors import BORDER
from panoptic_deeplab.data.label_files import read_colored_label
from panoptic_deeplab.data.recognize.class_names import ClassNames, class_names_in
from panoptic_deeplab.data.recognize.found import Classes, Found, distinct_color, split_lists, table_of
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import files_like
from panoptic_deeplab.images.read import image_files
from panoptic_deeplab.results.ids import color_to_id, id_to_color, rgb_to_id

_MASK_FOLDERS = ("masks", "labels")
_MASK_ENDS = ("_mask", "_masks", "_cp_masks", "_label", "_labels", "_seg")
"""What programs put behind the name of an image; cellpose, Roboflow."""

_MOST_COLORS = 64
"""More are objects, or the soft edges of a picture."""
_LOOKED_AT = 2000
_FOR_THE_KIND = 20
_VOID_NUMBER = 255
_VOID_NAMES = frozenset(("void", "ignore", "unlabeled", "unlabelled"))

# fmt: off
_VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
"""The challenge's own, by number."""
# fmt: on


def find_voc(root: Path) -> Found | None:
    """JPEGImages/, SegmentationClass/ and SegmentationObject/, with lists in ImageSets/Segmentation/."""
    root = next((f for f in (root, *_subfolders(root)) if (f / "SegmentationClass").is_dir()), root)
    lists = files_like(root, "ImageSets/Segmentation/*.txt")
    splits = [path.stem for path in lists] or split_lists(root)
    if not splits or not all((root / name).is_dir() for name in ("JPEGImages", "SegmentationClass")):
        return None

    def classes() -> Classes:
        names = class_names_in([root])
        if names is None and root.name.startswith("VOC20"):
            names = ClassNames(dict(enumerate(_VOC_CLASSES)), {})
        numbered = bool(_pictures(root / "SegmentationObject"))
        paths = image_files(root / "SegmentationClass")
        return classes_of_maps(paths, names, name=root.name, palette=False, numbered=numbered)

    evidence = str(lists[0].relative_to(root)) if lists else f"{splits[0]}.txt"
    return Found(format="voc", root=root, evidence=evidence, splits=splits, classes=classes)


def find_color_masks(root: Path) -> Found | None:
    """Masks with a color or number for each class: SPLIT/masks or labels, masks/SPLIT, or SPLIT/NAME_mask."""
    splits = _mask_splits(root)
    if not splits:
        return None
    paths = [path for masks in splits.values() for path in masks]
    folders = [root, *dict.fromkeys(folder for path in paths for folder in (path.parent, path.parent.parent))]
    names = class_names_in(folders)
    try:
        colored, values = _contents(_evenly(paths, _FOR_THE_KIND), palette=True)
    except DatasetError:  # which is said where this format is chosen, and does not stand in the way of others
        colored, values = False, set()
    if not colored and values and max(values) > _VOID_NUMBER:
        return None  # a table has at most 255 classes
    return Found(
        format="color_masks",
        root=root,
        evidence=str(paths[0].relative_to(root)),
        splits=list(splits),
        classes=lambda: classes_of_maps(paths, names, name=root.name, palette=True),
        likely=(names is not None and bool(values)) or (colored and len(values) <= _MOST_COLORS),
    )


def find_label_images(root: Path) -> Found | None:
    """Masks with a number for each object, at the same places: SPLIT/masks or labels, masks/SPLIT, SPLIT/NAME_masks."""
    splits = _mask_splits(root)
    if not splits:
        return None
    table = replace(table_of([(1, "object", True), (2, "background", False)], name=root.name), unlabeled="background")
    return Found(
        format="label_images",
        root=root,
        evidence=str(next(iter(splits.values()))[0].relative_to(root)),
        splits=list(splits),
        classes=lambda: Classes(table, things_known=True),
    )


def classes_of_maps(
    paths: Sequence[Path], names: ClassNames | None, *, name: str, palette: bool, numbered: bool = False
) -> Classes:
    """The classes that maps hold, by looking at them, or at many of them.

    Args:
        paths: the maps.
        names: what a file calls the numbers or colors.
        name: name of the table.
        palette: as for `read_colored_label`.
        numbered: whether there are maps of objects too; without them, all is stuff.

    Raises:
        DatasetError: a map cannot be read; some have colors, others numbers; or there are too many colors.
    """
    colored, values = _contents(_evenly(paths, _LOOKED_AT), palette=palette)
    known = {} if names is None else {color_to_id(c): n for c, n in names.colors.items()} if colored else names.numbers
    border = color_to_id(BORDER) if colored else _VOID_NUMBER
    void = {value for value, n in known.items() if n.strip("_").lower() in _VOID_NAMES and (not colored or value == 0)}
    void |= {border} - known.keys()
    order = [value for value in (*known, *sorted(values - known.keys())) if value not in void]
    if colored and len(order) > _MOST_COLORS:
        raise DatasetError(
            f"The masks {paths[0]} and others have more than {_MOST_COLORS} colors. Expected a color for each class,"
            " without soft edges; if each object has a color of its own, choose --format label_images."
        )
    if not colored:
        order.sort()
    ids = dict(zip((value for value in order if value), range(1, len(order) + 1), strict=False)) if colored else {}
    rows = [
        Category(
            id=ids.get(value, value),
            name=known.get(value) or _plain_name(value, colored=colored),
            isthing=numbered,
            color=id_to_color(value) if colored else distinct_color(place, len(order), isthing=numbered),
        )
        for place, value in enumerate(order)
    ]
    void_ids = () if colored else tuple(sorted(void))
    return Classes(
        CategoryTable(name=name, categories=_unique(rows, name), void_ids=void_ids),
        things_known=not numbered,
        numbered=numbered,
        apart=numbered,
        colors_count=colored,
        remarks=_remarks(order, known, border in values & void, colored=colored),
    )


def _remarks(order: Sequence[int], named: Mapping[int, str], has_border: bool, *, colored: bool) -> tuple[str, ...]:
    what, remarks = "color" if colored else "number", []
    unnamed = [value for value in order if value not in named]
    if unnamed:
        shown = ", ".join(str(id_to_color(value) if colored else value) for value in unnamed[:3])
        remarks.append(
            f"No file names the classes of {len(unnamed)} {what}s ({shown}{', ...' if len(unnamed) > 3 else ''}), so"
            f" they are called after the {what}: change the names in categories.json, or pass --categories with a table"
            f" in which each class has its {'`color`' if colored else '`id`'}."
        )
    if has_border:
        remarks.append(f"The {what} {BORDER if colored else _VOID_NUMBER} is taken for void, the border of objects.")
    return tuple(remarks)


def _plain_name(value: int, *, colored: bool) -> str:
    if value == 0:
        return "background"
    return "color {} {} {}".format(*id_to_color(value)) if colored else f"class {value}"


def _unique(rows: Iterable[Category], table: str) -> tuple[Category, ...]:
    """Rows whose names differ: of two of one name, the later one gets its id behind it."""
    names: set[str] = set()
    unique = []
    for row in rows:
        unique.append(row if row.name not in names else replace(row, name=f"{row.name} ({row.id})"))
        names.add(unique[-1].name)
    if not unique:
        raise DatasetError(f"The set {table!r} has no map that holds a class. Expected labeled images.")
    return tuple(unique)


def _contents(paths: Sequence[Path], *, palette: bool) -> tuple[bool, set[int]]:
    """Whether maps are colored, and their numbers or colors."""
    kinds: dict[bool, Path] = {}
    values: set[int] = set()
    for path in paths:
        label = read_colored_label(path, palette=palette)
        colored = label.ndim == 3
        kinds.setdefault(colored, path)
        values |= set(np.unique(rgb_to_id(label) if colored else label).tolist())
    if len(kinds) > 1:
        raise DatasetError(f"{kinds[True]} has colors, but {kinds[False]} numbers. Expected one kind of maps.")
    return True in kinds, values


def _mask_splits(root: Path) -> dict[str, list[Path]]:
    """The masks of each split."""
    splits = {
        folder.name: masks
        for folder in _subfolders(root)
        if (masks := _pictures(*(folder / name for name in _MASK_FOLDERS)) or _beside(folder))
        and (len(_pictures(folder / "images")) > 1 or _beside(folder))
    }
    splits |= {
        folder.name: masks
        for folder in _subfolders(root / "images")
        if (masks := _pictures(*(root / name / folder.name for name in _MASK_FOLDERS)))
    }
    splits |= {
        folder.name: masks
        for folder in _subfolders(root)
        if (masks := _pictures(*(root / f"{folder.name}{end}" for end in ("_masks", "_labels", "annot"))))
        and _pictures(folder)
    }
    masks = _pictures(*(root / name for name in _MASK_FOLDERS))
    return splits or (dict.fromkeys(split_lists(root), masks) if masks and _pictures(root / "images") else {})


def _beside(folder: Path) -> list[Path]:
    """Masks beside the images that they belong to."""
    paths = _pictures(folder)
    names = {path.stem for path in paths}
    ends = [(path, end) for path in paths for end in _MASK_ENDS if path.stem.lower().endswith(end)]
    return [p for p, end in ends if {p.stem[: -len(end)], f"{p.stem[: -len(end)]}_img"} & names]


def _pictures(*folders: Path) -> list[Path]:
    return [path for folder in folders if folder.is_dir() for path in image_files(folder)]


def _subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def _evenly(paths: Sequence[Path], most: int) -> Sequence[Path]:
    return paths[:: -(-len(paths) // most) or 1]
