"""What a folder of a label tool holds: LabelMe, CVAT and YOLO; see `detect.py`."""

from collections.abc import Callable, Iterable
from pathlib import Path

from panoptic_deeplab.data.formats.cvat import read_cvat
from panoptic_deeplab.data.formats.yolo import class_names, read_settings
from panoptic_deeplab.data.recognize.found import Classes, Found, split_lists, table_of
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import existing_file, files_like, read_json
from panoptic_deeplab.images.read import image_files


def find_labelme(root: Path) -> Found | None:
    """JSON files of LabelMe in SPLIT/ or annotations/SPLIT/; or one folder of them, with or without lists SPLIT.txt."""
    splits = {folder.name: files for folder in _subfolders(root) if (files := _labelme_files(folder))}
    splits |= {folder.name: files for folder in _subfolders(root / "annotations") if (files := _labelme_files(folder))}
    if not splits and (files := _labelme_files(root)):
        root, splits = root.parent, {root.name: files}
    if not splits:
        return None
    lists = split_lists(root)
    if lists and len(splits) == 1:
        splits = dict.fromkeys(lists, next(iter(splits.values())))

    def classes() -> Classes:
        paths = (path for files in splits.values() for path in files)
        documents = (read_json(path, what="LabelMe file", error=DatasetError) for path in dict.fromkeys(paths))
        shapes = (shape for document in documents for shape in _list(document, "shapes"))
        return _named((shape.get("label") for shape in shapes if isinstance(shape, dict)), root)

    return _found("labelme", root, next(iter(splits.values()))[0], list(splits), classes)


def find_cvat(root: Path) -> Found | None:
    """SPLIT.xml, annotations/SPLIT.xml or SPLIT/annotations.xml, or annotations.xml, with or without subsets."""
    found = {path.stem: path for path in files_like(root, "*.xml") if path.stem != "annotations"}
    found |= {path.stem: path for path in files_like(root, "annotations/*.xml")}
    found |= {path.parent.name: path for path in files_like(root, "*/annotations.xml")}
    found = {split: path for split, path in found.items() if mentions(path, "<annotations")}
    single = existing_file(root / "annotations.xml", error=DatasetError)
    if not found and single is not None and mentions(single, "<annotations"):
        images = read_cvat(single).iter("image")
        found = dict.fromkeys(sorted({image.get("subset") or "" for image in images}), single)
        if "" in found:
            root, found = root.parent, {root.name: single}
    if not found:
        return None

    def classes() -> Classes:
        images = (image for path in sorted(set(found.values())) for image in read_cvat(path).iter("image"))
        return _named((outline.get("label") for image in images for outline in image), root)

    return _found("cvat", root, next(iter(found.values())), list(found), classes)


def find_yolo(root: Path) -> Found | None:
    """data.yaml or classes.txt with names, and text files in labels/SPLIT/, SPLIT/labels/ or labels/."""
    splits = [folder.name for folder in _subfolders(root / "labels") if files_like(folder, "*.txt")]
    splits += [folder.name for folder in _subfolders(root) if files_like(folder, "labels/*.txt")]
    flat = files_like(root, "labels/*.txt") and (root / "images").is_dir() and image_files(root / "images")
    splits = splits or (["images"] if flat else [])
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
    paths = files_like(folder, "*.json")
    return paths if paths and mentions(paths[0], '"shapes"') else []


def mentions(path: Path, *words: str) -> bool:
    """Whether a text file in any encoding has some words of ASCII."""
    content = path.read_bytes().replace(b"\0", b"")
    return all(word.encode() in content for word in words)


def _list(document: object, key: str) -> list[object]:
    entries = document.get(key) if isinstance(document, dict) else None
    return entries if isinstance(entries, list) else []
