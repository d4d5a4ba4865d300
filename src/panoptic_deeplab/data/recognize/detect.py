"""What a folder holds: a function for each format says whether a folder looks like it, and which splits and classes.

Names, lists of classes and some of the masks are read here; whether the files are sound, the readers say.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.common.folder_files import KINDS
from panoptic_deeplab.data.recognize.class_names import class_names_in
from panoptic_deeplab.data.recognize.detect_masks import classes_of_maps, find_color_masks, find_label_images, find_voc
from panoptic_deeplab.data.recognize.detect_tools import find_cvat, find_labelme, find_yolo, mentions
from panoptic_deeplab.data.recognize.found import Classes, Found, split_lists, table_of
from panoptic_deeplab.errors import ConfigError, DatasetError
from panoptic_deeplab.files import files_like, read_json
from panoptic_deeplab.images.read import image_files


def find_formats(root: Path) -> list[Found]:
    """Every format that a folder looks like, the likeliest first.

    Raises:
        DatasetError: it looks like none; the message says what was looked for.
    """
    found = [seen for look in LOOKS.values() if (seen := look(root)) is not None]
    found.sort(key=lambda seen: not seen.likely)
    if not found:
        expected = "; ".join(f"{name}: {(look.__doc__ or '').splitlines()[0]}" for name, look in LOOKS.items())
        raise DatasetError(f"{root} looks like no format that is read here. Expected one of these: {expected}")
    return found


def _coco_instances(root: Path) -> Found | None:
    """SPLIT/_annotations.coco.json, annotations/instances_SPLIT.json or SPLIT.json, with images beside it."""
    paths = {path.parent.name: path for path in files_like(root, "*/_annotations.coco.json")}
    paths |= {p.stem.removeprefix("instances_"): p for p in files_like(root, "annotations/instances_*.json")}
    paths |= {p.stem: p for p in files_like(root, "*.json") if mentions(p, "images", "segmentation")}
    if not paths:
        return None

    def classes() -> Classes:
        names: dict[int, str] = {}
        used: set[int] = set()
        for path in paths.values():
            data = _coco_json(path)
            names |= {entry["id"]: str(entry["name"]) for entry in _entries(data, "categories", "id", "name")}
            used |= {entry["category_id"] for entry in _entries(data, "annotations", "category_id")}
        rows = [(id_, name, True) for id_, name in sorted(names.items()) if id_ in used]
        return Classes(table_of(rows, name=root.name), things_known=False, drawn=True)

    return Found(
        format="coco_instances", root=root, evidence=_names(paths.values(), root), splits=list(paths), classes=classes
    )


def _coco_panoptic(root: Path) -> Found | None:
    """annotations/panoptic_SPLIT.json, with a folder of PNG files of that name."""
    paths = {p.stem.removeprefix("panoptic_"): p for p in files_like(root, "annotations/panoptic_*.json")}
    if not paths:
        return None

    def classes() -> Classes:
        rows: dict[int, tuple[int, str, bool]] = {}
        known = True
        for path in paths.values():
            for entry in _entries(_coco_json(path), "categories", "id", "name"):
                known &= "isthing" in entry
                rows[entry["id"]] = entry["id"], str(entry["name"]), bool(entry.get("isthing", True))
        return Classes(table_of([rows[id_] for id_ in sorted(rows)], name=root.name), things_known=known)

    return Found(
        format="coco_panoptic", root=root, evidence=_names(paths.values(), root), splits=list(paths), classes=classes
    )


def _cityscapes(root: Path) -> Found | None:
    """leftImg8bit/SPLIT/CITY and gtFine/SPLIT/CITY."""
    splits = [path.name for path in _folders(root / "leftImg8bit") if (root / "gtFine" / path.name).is_dir()]
    return _packaged(root, "cityscapes", "cityscapes", "leftImg8bit/ and gtFine/", splits)


def _mapillary_vistas(root: Path) -> Found | None:
    """training/images and validation/images, with config_v1.2.json or config_v2.0.json."""
    versions = [version for version in ("2.0", "1.2") if (root / f"config_v{version}.json").is_file()]
    names = {"train": "training", "val": "validation"}
    splits = [split for split, name in names.items() if (root / name / "images").is_dir()]
    if not versions:
        return None
    table = f"mapillary_vistas_v{versions[0]}"
    return _packaged(root, "mapillary_vistas", table, f"config_v{versions[0]}.json", splits)


def _folder(root: Path) -> Found | None:
    """images/ with instances/ or semantic/ beside it, and SPLIT.txt or a folder SPLIT in each."""
    kinds = [kind for kind in KINDS if (root / kind).is_dir()]
    splits = split_lists(root) or [path.name for path in _folders(root / "images")]
    if not kinds or not splits:
        return None

    def classes() -> Classes:
        if "semantic" not in kinds:
            rows = [(1, "object", True), (2, "background", False)]
            return Classes(table_of(rows, name=root.name), things_known=True)
        paths = [path for place in (root / "semantic", *_folders(root / "semantic")) for path in image_files(place)]
        numbered = "instances" in kinds
        return classes_of_maps(paths, class_names_in([root]), name=root.name, palette=False, numbered=numbered)

    evidence = f"images/ and {' and '.join(f'{kind}/' for kind in kinds)}"
    return Found(format="folder", root=root, evidence=evidence, splits=splits, classes=classes)


def _object_masks(root: Path) -> Found | None:
    """SPLIT/NAME/images with one picture and SPLIT/NAME/masks with one mask an object; or one such split."""
    if _holds_masks(root):
        root, splits = root.parent, [root.name]
    else:
        splits = [folder.name for folder in _folders(root) if _holds_masks(folder)]
    if not splits:
        return None
    folder = splits[0]
    if len(splits) == 1:
        splits = split_lists(root) or splits
    table = replace(table_of([(1, "object", True), (2, "background", False)], name=root.name), unlabeled="background")
    return Found(
        format="object_masks",
        root=root,
        evidence=f"{folder}/NAME/images and {folder}/NAME/masks",
        splits=splits,
        classes=lambda: Classes(table, things_known=True),
    )


def _holds_masks(split: Path) -> bool:
    folders = (folder for folder in split.iterdir() if (folder / "masks").is_dir() and (folder / "images").is_dir())
    return any(len(image_files(folder / "images")) <= 1 for folder in folders)  # several are a split of label images


LOOKS: Mapping[str, Callable[[Path], Found | None]] = MappingProxyType(
    {
        "coco_panoptic": _coco_panoptic,
        "coco_instances": _coco_instances,
        "cityscapes": _cityscapes,
        "mapillary_vistas": _mapillary_vistas,
        "folder": _folder,
        "object_masks": _object_masks,
        "labelme": find_labelme,
        "cvat": find_cvat,
        "yolo": find_yolo,
        "voc": find_voc,
        "color_masks": find_color_masks,
        "label_images": find_label_images,
    }
)
"""A function for each format that says in the first line of its docstring what it looks for."""


def choose_format(root: Path, name: str | None = None) -> tuple[Found, list[Found]]:
    """The format of a folder, and what else it could be.

    Args:
        root: the folder.
        name: the format; None = the likeliest one.

    Raises:
        DatasetError: the folder looks like no format, or not like this one.
    """
    seen = find_formats(root)
    chosen = next((found for found in seen if name in (None, found.format)), None)
    if chosen is None:
        names = ", ".join(found.format for found in seen)
        raise DatasetError(f"{root} does not look like the format {name!r}. Choose from: {names}.")
    return chosen, [found for found in seen if found is not chosen]


def choose_splits(splits: Sequence[str], train: str | None = None, val: str | None = None) -> tuple[str, str | None]:
    """The split to train on and the one to validate on; None where there is one split only.

    Args:
        splits: what there is.
        train: the first one, where somebody has chosen it.
        val: the second one, likewise.

    Raises:
        DatasetError: the names do not say which is which.
    """
    free = [split for split in splits if split not in (train, val)]
    if train is None:
        train = next((s for s in free if "train" in s.lower()), free[0] if len(free) == 1 else None)
    others = [split for split in free if split != train]
    if val is None:  # `trainval` of Pascal VOC has the images of both
        apart = [split for split in others if "train" not in split.lower()]
        val = next((s for word in ("val", "dev", "test") for s in apart if word in s.lower()), None)
    if train is None or train == val or (val is None and others):
        raise DatasetError(
            f"The names of the splits {', '.join(splits)} do not say which to train and which to validate on. Name"
            " both with --train-split and --val-split."
        )
    return train, val


def with_things(classes: Classes, things: Sequence[str]) -> CategoryTable:
    """The table with these classes as things and all others as stuff.

    Where all are things and were drawn one by one, pixels without an annotation become a class `background`: a network
    that sees no stuff would find things everywhere.

    Raises:
        ConfigError: there is no class of such a name.
    """
    rows = classes.table.categories
    unknown = sorted(set(things) - {row.name for row in rows})
    if unknown:
        names = ", ".join(repr(row.name) for row in rows)
        raise ConfigError(f"`things` names {unknown[0]!r}, which is no class of the set. Choose from: {names}.")
    if things and not classes.apart:
        raise ConfigError(
            "`things` names classes, but class maps alone do not tell two objects of a class apart. Add maps of objects"
            " (SegmentationObject/, or instances/ of the format folder), or leave --things out."
        )
    if classes.colors_count:
        return replace(
            classes.table,
            categories=tuple(replace(row, isthing=row.name in things) for row in classes.table.categories),
        )
    kinds = [(row.id, row.dataset_name(row.id) or row.name, row.name in things) for row in rows]
    if not classes.drawn or len(set(things)) < len(rows):
        return replace(table_of(kinds, name=classes.table.name), void_ids=classes.table.void_ids)
    background = (max(row.id for row in rows) + 1, "background", False)
    return replace(table_of([*kinds, background], name=classes.table.name), unlabeled="background")


def _packaged(root: Path, format_: str, table: str, evidence: str, splits: Sequence[str]) -> Found | None:
    if not splits:
        return None
    return Found(
        format=format_,
        root=root,
        evidence=evidence,
        splits=splits,
        classes=lambda: Classes(CategoryTable.load(table), things_known=True),
    )


def _coco_json(path: Path) -> dict[str, Any]:
    data = read_json(path, what="annotations", error=DatasetError)
    if not isinstance(data, dict):
        raise DatasetError(f"{path} is no COCO JSON. Expected an object with `images` and `categories`.")
    return data


def _entries(data: Mapping[str, Any], key: str, *fields: str) -> list[dict[str, Any]]:
    """The entries that have all fields, the first one an integer; what is wrong with others, the reader says."""
    entries = data.get(key)
    return [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and all(name in entry for name in fields) and type(entry[fields[0]]) is int
    ]


def _names(paths: Iterable[Path], root: Path) -> str:
    return ", ".join(str(path.relative_to(root)) for path in paths)


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and image_or_folder(p)) if path.is_dir() else []


def image_or_folder(path: Path) -> bool:
    """Whether a folder holds images, or further folders."""
    return bool(image_files(path)) or any(child.is_dir() for child in path.iterdir())
