"""Which files of a folder set belong together: the images of a split, and the label files of each.

A label belongs to the image whose name it has, in any lossless format and with any suffix, or whose name it has with
one tail that all labels of the folder share (`street_1_mask.png`). Where a list names the images, its labels may lie in
a folder of the split too (`instances/train/`). Nothing else is guessed, and what is left over is named: a label that is
taken for absent trains a network on something else without a word.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from panoptic_deeplab.data.label_files import read_lines
from panoptic_deeplab.data.name_lists import id_of_line, read_names
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import existing_file
from panoptic_deeplab.images.read import IMAGE_SUFFIXES, UNREADABLE_SUFFIXES, has_decoder, image_files

KINDS = ("instances", "semantic")

_TAIL = re.compile(r"[-_. ][^\W\d][^\d]*")
"""What may stand between the name of an image and the suffix of its label: words, no numbers."""

_BESIDE = re.compile(r".+[-_. ](?:masks?|labels?|seg|segmentation|gt)", re.IGNORECASE)
"""Names of labels that lie beside the images."""

_OTHER_SUFFIXES = frozenset(
    ("", ".csv", ".db", ".gz", ".html", ".ini", ".json", ".md", ".pdf", ".tar", ".txt", ".xml", ".yaml", ".yml", ".zip")
)
"""Files beside images that are no pictures and no labels that this format could have."""


@dataclass(kw_only=True)
class FolderFiles:
    """The files of one split."""

    image_folder: Path
    images: dict[str, Path]
    """Image id -> image, in the order of the split."""
    label_folders: dict[str, Path]
    """Kind -> folder of the labels of this split."""
    labels: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Kind -> image id -> label file; a kind that the split does not have is left out."""


class Layout(NamedTuple):
    """Where a format has its files: names below the root, in which `{}` is the split."""

    lists: tuple[str, ...]
    """Lists of the images of a split, the first that exists. Without one, the split is a folder."""
    images: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    """Kind -> folders."""
    beside: bool = False
    """Labels may lie beside the images, under their names with `_mask` and the like."""

    def folders(self, root: Path, names: Sequence[str], split: str, *, listed: bool) -> list[Path]:
        """The folders that may hold files of a split; all of them where a list chooses among the files."""
        return [root / name.format(split) for name in names if listed or "{}" in name]


FOLDER = Layout(("{}.txt",), ("images", "images/{}"), {kind: (kind, f"{kind}/{{}}") for kind in KINDS})


def find_files(root: Path, split: str, problems: Problems, layout: Layout = FOLDER) -> FolderFiles:
    """Find the images and labels of a split.

    Args:
        root: folder of the set.
        split: name of a list or of sub-folders.
        problems: takes names without a file and files that nothing uses.
        layout: where the format has its files.

    Raises:
        DatasetError: there is no such split, or no folder of its images.
    """
    lists = (existing_file(root / name.format(split), error=DatasetError) for name in layout.lists)
    list_path = next(filter(None, lists), None)
    listed = list_path is not None
    image_folders = [folder for folder in layout.folders(root, layout.images, split, listed=listed) if folder.is_dir()]
    if not image_folders:
        raise DatasetError(_no_folder(root, split, layout, list_path))
    places = {kind: layout.folders(root, names, split, listed=listed) for kind, names in layout.labels.items()}
    if list_path is not None:
        found = _listed(list_path, image_folders, layout, problems)
        known = {stem for outer in image_folders for inner in _folders(outer) for stem in _images(inner, layout)[0]}
    else:
        image_folder = next(filter(image_files, image_folders), image_folders[0])
        images = _images(image_folder, layout, problems)[0]
        found = FolderFiles(image_folder=image_folder, images=images, label_folders={})
        known = set(images)
        used = [folder for folders in places.values() for folder in folders]
        for folder in (image_folder, *used):
            _look_for_nested(folder, used, problems)
    for kind, folders in places.items():
        found.label_folders[kind] = folders[0]
        holding = [
            (folder, _labels(_by_name(folder, problems), folder, found.images, known, problems))
            for folder in folders
            if folder.is_dir()
        ]
        beside = _images(found.image_folder, layout)[1] if layout.beside else {}
        holding.append((found.image_folder, _labels(beside, found.image_folder, found.images, known, problems)))
        holding = [(folder, labels) for folder, labels in holding if labels]
        if len(holding) > 1:
            fault = f"and {holding[1][0]} both hold labels of split {split!r}. Remove or rename one of them."
            problems.add("two folders", holding[0][0], fault)
        if holding:
            found.label_folders[kind], found.labels[kind] = holding[0]
    _look_for_unreadable(found, problems)
    _look_for_missing(root, split, found, layout, problems)
    used = [*image_folders, *(folder for folders in places.values() for folder in folders)]
    _look_for_unused(root, found, used, layout, problems)
    return found


def _no_folder(root: Path, split: str, layout: Layout, list_path: Path | None) -> str:
    if list_path is not None:
        return f"The folder {root / layout.images[0].format(split)} does not exist. Expected the images there."
    places = " or ".join(f"{name.format(split)}/" for name in layout.images if "{}" in name)
    return (
        f"Split {split!r} is not in {root.absolute()}. Expected {' or '.join(layout.lists).format(split)} with a file"
        " name (without suffix) a line" + (f", or images in {places}." if places else ".")
    )


def _listed(list_path: Path, folders: Sequence[Path], layout: Layout, problems: Problems) -> FolderFiles:
    """The images that a list names, by their name with or without suffix."""
    by_folder = [(folder, _images(folder, layout, problems)[0]) for folder in folders]
    lines = read_lines(list_path)
    image_folder, available = max(
        by_folder, key=lambda pair: len({id_of_line(line, pair[1]) for line in lines} - {None})
    )
    names = read_names(list_path, available, problems, absent=lambda line: f"the image {image_folder / line}.*")
    images = {name: available[name] for name in names}
    return FolderFiles(image_folder=image_folder, images=images, label_folders={})


def _by_name(folder: Path, problems: Problems) -> dict[str, Path]:
    """Pictures of a folder by their name without suffix; notes what is no picture."""
    paths: dict[str, Path] = {}
    for path in image_files(folder):
        if path.stem in paths:
            fault = f"and {path.name} differ only in their suffix. Remove or rename one."
            problems.add(f"{folder} suffix", paths[path.stem], fault)
        paths.setdefault(path.stem, path)
    for path in sorted(folder.iterdir()):
        known = path.suffix.lower() in IMAGE_SUFFIXES | UNREADABLE_SUFFIXES | _OTHER_SUFFIXES
        if not (known or path.name.startswith(".") or path.is_dir()):
            problems.add(f"{folder} other", path, "is no picture that can be read. Convert it to PNG, or remove it.")
    return paths


def _images(folder: Path, layout: Layout, problems: Problems | None = None) -> tuple[dict[str, Path], dict[str, Path]]:
    """The images of a folder by their name without suffix, and the labels beside them."""
    paths = _by_name(folder, Problems() if problems is None else problems)
    beside = {stem: path for stem, path in paths.items() if layout.beside and _BESIDE.fullmatch(stem)}
    return {stem: path for stem, path in paths.items() if stem not in beside}, beside


def _labels(
    by_name: Mapping[str, Path],
    folder: Path,
    images: Collection[str],
    known: Collection[str],
    problems: Problems,
) -> dict[str, Path]:
    """Image id -> label, of the labels of these images.

    Args:
        by_name: labels by their name without suffix.
        folder: where they lie.
        images: ids of the split.
        known: names of all images of the set, whose labels may lie here too.
        problems: takes labels of no image.
    """
    owners = {stem: (stem, "") if stem in known else _owner(stem, known) for stem in by_name}
    tails = {tail for _, tail in filter(None, owners.values())}
    tail = "" if "" in tails else next(iter(tails), "")
    if "" not in tails and len(tails) > 1:
        fault = f"holds files with several tails, {', '.join(sorted(tails))}. Expected one label an image."
        problems.add(f"{folder} tails", folder, fault)
        return {}
    labels = {}
    for stem, path in by_name.items():
        owner = owners[stem]
        if owner is None or owner[1] != tail:
            fault = "belongs to no image. Expected a label with the name of an image; rename or remove it."
            problems.add(f"{folder} stray", path, fault)
        elif owner[0] in images:
            labels[owner[0]] = path
    return labels


def _owner(stem: str, known: Collection[str]) -> tuple[str, str] | None:
    """The image that a label belongs to by the start of its name, and the tail of the name."""
    for cut in range(len(stem) - 1, 0, -1):
        if _TAIL.fullmatch(stem, cut):
            for name in (stem[:cut], f"{stem[:cut]}_img"):  # cellpose has 000_img and 000_masks
                if name in known:
                    return name, stem[cut:]
    return None


def _folders(folder: Path) -> Iterator[Path]:
    """A folder and those in it, without hidden ones."""
    if folder.is_dir():
        yield folder
        yield from sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _look_for_unreadable(found: FolderFiles, problems: Problems) -> None:
    """Note what cannot be read, as far as names and links tell."""
    for files in (found.images, *found.labels.values()):
        for image_id, path in files.items():
            if path.is_symlink() and not path.exists():
                fault = "is a link to a file that does not exist. Mend or remove it."
                problems.add("broken link", path, fault, image_id=image_id)
            elif not has_decoder(path):
                fault = "is a picture in a format that cannot be read. Convert it to PNG, or a photograph to JPEG."
                problems.add("no decoder", path, fault, image_id=image_id)


def _look_for_missing(root: Path, split: str, found: FolderFiles, layout: Layout, problems: Problems) -> None:
    """Note images without a label of a kind that others have."""
    for kind, names in layout.labels.items():
        labels, folder, all_splits = found.labels.get(kind), found.label_folders[kind], root / Path(names[0]).parts[0]
        if labels is not None:
            for image_id in found.images:
                if image_id not in labels:
                    fault = f"does not exist, though other images have {kind}. Add it, or take the image out."
                    problems.add(f"no {kind}", folder / f"{image_id}.png", fault, image_id=image_id)
        elif found.labels and any(image_files(place) for place in _folders(all_splits)):
            fault = f"holds files, but none for an image of split {split!r}. Expected {folder}/NAME.png for each."
            problems.add(f"none of {kind}", all_splits, fault)


def _look_for_nested(folder: Path, used: Collection[Path], problems: Problems) -> None:
    for inner in list(_folders(folder))[1:]:
        if inner not in used and image_files(inner):
            problems.add("nested", inner, f"holds files that are not read. Expected them directly in {folder}.")


def _look_for_unused(
    root: Path, found: FolderFiles, used: Collection[Path], layout: Layout, problems: Problems
) -> None:
    """Note folders that may hold the labels of a kind under another name: they have files named as the images."""
    absent = [kind for kind in layout.labels if kind not in found.labels]
    if len(absent) != 1:
        return
    outers = {Path(name).parts[0] for names in layout.labels.values() for name in names}
    for outer in list(_folders(root))[1:]:
        for folder in _folders(outer):
            of_another_split = folder != outer and (
                (root / "images" / folder.name).is_dir() or (root / f"{folder.name}.txt").is_file()
            )
            if outer.name == "images" or folder in used or (outer.name in outers and of_another_split):
                continue
            stems = [path.stem for path in image_files(folder)]
            if any(stem in found.images or _owner(stem, found.images) is not None for stem in stems):
                fault = (
                    "holds files with the names of images, but nothing reads them. If they are labels, call the folder"
                    f" {found.label_folders[absent[0]]}; else move it out of the set."
                )
                problems.add("unused", folder, fault)
