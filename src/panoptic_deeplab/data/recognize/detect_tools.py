"""What a folder of a label tool holds: LabelMe, CVAT, YOLO and label images; see `detect.py`."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from panoptic_deeplab.data.formats.cvat import read_cvat
from panoptic_deeplab.data.formats.yolo import class_names, read_settings
from panoptic_deeplab.data.recognize.found import Classes, Found, table_of
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import read_json
from panoptic_deeplab.images.read import image_files

_MASK_FOLDERS = ("masks", "labels")
_MASK_ENDS = ("_masks", "_cp_masks")
"""What cellpose puts behind the name of an image."""


def find_labelme(root: Path) -> Found | None:
    """JSON files of LabelMe in SPLIT/ or annotations/SPLIT/; or one folder of them."""
    splits = {folder.name: files for folder in _subfolders(root) if (files := _labelme_files(folder))}
    splits |= {folder.name: files for folder in _subfolders(root / "annotations") if (files := _labelme_files(folder))}
    if not splits and (files := _labelme_files(root)):
        root, splits = root.parent, {root.name: files}
    if not splits:
        return None

    def classes() -> Classes:
        paths = (path for files in splits.values() for path in files)
        documents = (read_json(path, what="LabelMe file", error=DatasetError) for path in paths)
        shapes = (shape for document in documents for shape in _list(document, "shapes"))
        return _named((shape.get("label") for shape in shapes if isinstance(shape, dict)), root)

    return _found("labelme", root, next(iter(splits.values()))[0], list(splits), classes)


def find_cvat(root: Path) -> Found | None:
    """SPLIT.xml, annotations/SPLIT.xml or SPLIT/annotations.xml, or annotations.xml, with or without subsets."""
    found = {path.stem: path for path in sorted(root.glob("*.xml")) if path.name != "annotations.xml"}
    found |= {path.stem: path for path in sorted(root.glob("annotations/*.xml"))}
    found |= {path.parent.name: path for path in sorted(root.glob("*/annotations.xml"))}
    found = {split: path for split, path in found.items() if "<annotations" in _start(path)}
    if not found and "<annotations" in _start(root / "annotations.xml"):
        images = read_cvat(root / "annotations.xml").iter("image")
        found = dict.fromkeys(sorted({image.get("subset") or "" for image in images}), root / "annotations.xml")
        if "" in found:
            root, found = root.parent, {root.name: root / "annotations.xml"}
    if not found:
        return None

    def classes() -> Classes:
        images = (image for path in sorted(set(found.values())) for image in read_cvat(path).iter("image"))
        return _named((outline.get("label") for image in images for outline in image), root)

    return _found("cvat", root, next(iter(found.values())), list(found), classes)


def find_yolo(root: Path) -> Found | None:
    """data.yaml or classes.txt with names, and text files in labels/SPLIT/ or SPLIT/labels/."""
    splits = [folder.name for folder in _subfolders(root / "labels") if any(folder.glob("*.txt"))]
    splits += [folder.name for folder in _subfolders(root) if any(folder.glob("labels/*.txt"))]
    if not splits:
        return None
    try:
        path, settings = read_settings(root)
    except DatasetError:
        return None

    def classes() -> Classes:
        rows = [(number, name, True) for number, name in sorted(class_names(path, settings).items())]
        return Classes(table_of(rows, name=root.name), things_known=False, drawn=True)

    return _found("yolo", root, path, splits, classes)


def find_label_images(root: Path) -> Found | None:
    """Label images in SPLIT/masks or SPLIT/labels beside images/, in masks/SPLIT, or as SPLIT/NAME_masks.tif."""
    splits = {
        folder.name: masks[0]
        for folder in _subfolders(root)
        if (masks := _pictures(*(folder / name for name in _MASK_FOLDERS)) or _beside(folder))
        and (_pictures(folder / "images") or _beside(folder))
    }
    splits |= {
        folder.name: masks[0]
        for folder in _subfolders(root / "images")
        if (masks := _pictures(*(root / name / folder.name for name in _MASK_FOLDERS)))
    }
    if not splits:
        return None
    table = replace(table_of([(1, "object", True), (2, "background", False)], name=root.name), unlabeled="background")
    evidence = next(iter(splits.values()))
    return _found("label_images", root, evidence, list(splits), lambda: Classes(table, things_known=True))


def _found(format_: str, root: Path, evidence: Path, splits: list[str], classes: Callable[[], Classes]) -> Found:
    seen = str(evidence.relative_to(root))
    return Found(format=format_, root=root, evidence=seen, splits=splits, classes=classes)


def _named(names: Iterable[object], root: Path) -> Classes:
    """Classes of which the files say the names alone, numbered by the alphabet."""
    known = sorted({name for name in names if isinstance(name, str) and name})
    rows = [(number, name, True) for number, name in enumerate(known, start=1)]
    return Classes(table_of(rows, name=root.name), things_known=False, drawn=True)


def _subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def _labelme_files(folder: Path) -> list[Path]:
    """The JSON files of a folder, if the first one is of LabelMe."""
    paths = sorted(folder.glob("*.json"))
    return paths if paths and '"shapes"' in _start(paths[0], characters=None) else []


def _start(path: Path, characters: int | None = 1000) -> str:
    """The beginning of a text file in any encoding, for words of ASCII in it; nothing where there is no file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(characters).replace(b"\0", b"").decode("ascii", "ignore")


def _list(document: object, key: str) -> list[object]:
    entries = document.get(key) if isinstance(document, dict) else None
    return entries if isinstance(entries, list) else []


def _pictures(*folders: Path) -> list[Path]:
    return [path for folder in folders if folder.is_dir() for path in image_files(folder)]


def _beside(folder: Path) -> list[Path]:
    """Label images beside the images that they belong to."""
    return [path for path in _pictures(folder) if path.stem.endswith(_MASK_ENDS)]
