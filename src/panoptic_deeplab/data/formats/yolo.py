"""YOLO's segmentation labels (Ultralytics, Roboflow): a text file an image, a polygon a line.

    root/data.yaml                       names of classes, and the folder of each split: `train: images/train`
    root/images/{split}/a.jpg            or root/{split}/images/a.jpg; root/images/a.jpg is the split `images`
    root/labels/{split}/a.txt            or root/{split}/labels/a.txt: `class x1 y1 x2 y2 ...`, from 0 to 1

Without `data.yaml` (or another YAML with `names`), `classes.txt` or `obj.names` has a name a line. An image without a
text file has no object, as YOLO means it, which `data check` counts; a split without any text file has no labels.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from panoptic_deeplab.data.formats.common.label_tools import Annotated, LabelToolSource, Outline
from panoptic_deeplab.data.label_files import read_lines
from panoptic_deeplab.data.problems import Problems, shown
from panoptic_deeplab.errors import DatasetError, first_line
from panoptic_deeplab.files import existing_file, files_like, read_text
from panoptic_deeplab.images.read import image_files

_OUTSIDE = 0.5
"""Corners may lie so far outside of the image, in parts of its side; farther ones are pixels by mistake."""


class YoloSource(LabelToolSource):
    """A split of a YOLO segmentation set, whose classes have the names of the table; see `DrawnSource`.

    `split` is a key of `data.yaml`, or the name of the folders.
    """

    def _image_folder(self, split: str, settings: dict[str, Any]) -> Path:
        """The folder of images, as the settings or the layout say it; Roboflow's `../train` is `train`."""
        root = self._root.folder
        written = settings.get(split, settings.get({"valid": "val", "val": "valid"}.get(split, split)))
        places = [f"images/{split}", f"{split}/images", split]
        if written is not None:
            if not isinstance(written, str) or written.endswith(".txt"):
                raise DatasetError(
                    f"{self._names_file} has the {split} {shown(written)}. Expected one folder of images."
                )
            plain, base = _parts(written), _parts(str(settings.get("path", "")))
            tails = ["/".join(plain[start:]) for start in range(len(plain))]  # an absolute path is of another machine
            places = (
                [tails[0], "/".join([*base, *plain]), f"{tails[0]}/images", *tails[1:], *places] if plain else places
            )
        folders = [self._root.below(root, place, where=str(self._names_file)) for place in dict.fromkeys(places)]
        for folder in folders:
            if folder.is_dir() and image_files(folder):
                return folder
        raise DatasetError(
            f"There are no images of split {split!r}. Expected them in one of: {', '.join(dict.fromkeys(places))}."
        )

    def _items(self, split: str, problems: Problems) -> list[Annotated]:
        self._names_file, settings = read_settings(self._root.folder)
        self._names = class_names(self._names_file, settings)
        image_folder = self._image_folder(split, settings)
        parts = list(image_folder.parts)
        place = next((i for i in reversed(range(len(parts))) if parts[i] == "images"), None)
        label_folder = image_folder if place is None else Path(*parts[:place], "labels", *parts[place + 1 :])
        labels: dict[str, Path] = {}
        for path in sorted(label_folder.glob("*")):
            if path.suffix.lower() == ".txt":
                if path.stem in labels:
                    problems.add(
                        "suffix", labels[path.stem], f"and {path.name} differ only in their suffix. Remove one."
                    )
                labels.setdefault(path.stem, path)
        items: dict[str, Annotated] = {}
        absent: list[str] = []
        for path in image_files(image_folder):
            if path.stem in items:
                fault = f"and {items[path.stem].image_path.name} differ only in their suffix. Remove or rename one."
                problems.add("suffix", path, fault)
                continue
            file = labels.pop(path.stem, label_folder / f"{path.stem}.txt")
            item = Annotated(image_id=path.stem, image_path=path, file=file, relative=True)
            if file.exists():
                item.outlines = self._outlines(file, path.stem, problems)
            else:
                absent.append(path.stem)
            items[path.stem] = item
        for stem, file in labels.items():
            if stem not in ("classes", "train", "val", "valid", "test"):
                problems.add("stray", file, "belongs to no image. Restore the image, or remove the label.")
        if len(absent) == len(items):
            for item in items.values():
                item.outlines = None
        elif absent:
            problems.warnings.append(
                f"{len(absent)} of {len(items)} images have no file in {label_folder}, first {absent[0]}.txt. They are"
                " taken for images without objects."
            )
        return list(items.values())

    def _outlines(self, file: Path, image_id: str, problems: Problems) -> list[Outline]:
        outlines = []
        try:
            lines = read_text(file, what="label", error=DatasetError).splitlines()
        except DatasetError as error:
            problems.add("no text", file, str(error).removeprefix(f"The label {file} "), image_id=image_id)
            return []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"line {number}"
            try:
                name, *rest = line.split()
                index, numbers = int(name), [float(number) for number in rest]
            except ValueError:
                fault = f"is {shown(line)}. Expected a class number, and x and y of corners."
                problems.add("line", file, fault, place=place, image_id=image_id)
                continue
            if index not in self._names:
                fault = f"has the class {index}, which {self._names_file} does not name. Add it there."
                problems.add("class", file, fault, place=place, image_id=image_id)
                continue
            named = f"{place} (class {index} in {self._names_file.name})"
            dataset_id = self._reader.dataset_id(self._names[index], file, named, image_id)
            if len(numbers) == 4:
                fault = (
                    "is a box of 4 numbers. Expected the corners of an outline: a segmentation export, not detection."
                )
                problems.add("box", file, fault, place=place, image_id=image_id)
                continue
            if not all(-_OUTSIDE <= number <= 1 + _OUTSIDE for number in numbers):
                fault = "has corners outside of 0 to 1. Expected parts of width and height, not pixels."
                problems.add("pixels", file, fault, place=place, image_id=image_id)
                continue
            corners = self._reader.corners(numbers, file, place, image_id)
            if corners is not None and dataset_id is not None:
                outlines.append(Outline(dataset_id, corners, place))
        return outlines


def read_settings(root: Path) -> tuple[Path, dict[str, Any]]:
    """The file that names the classes, and what it says; nothing but `names` for a list of names.

    Raises:
        DatasetError: there is none, or it cannot be read.
    """
    files = [existing_file(root / name, error=DatasetError) for name in ("data.yaml", "data.yml")]
    for path in filter(None, [*files, *files_like(root, "*.yaml"), *files_like(root, "*.yml")]):
        try:
            settings = yaml.safe_load(read_text(path, what="YOLO settings", error=DatasetError))
        except (yaml.YAMLError, RecursionError) as error:
            raise DatasetError(f"{path} is no YAML: {first_line(error)}. Expected `names` and folders.") from error
        if isinstance(settings, dict) and "names" in settings:
            return path, settings
    for name in ("classes.txt", "labels/classes.txt", "obj.names"):
        found = existing_file(root / name, error=DatasetError)
        if found is not None:
            return found, {"names": read_lines(found)}
    raise DatasetError(f"{root.absolute()} does not name the classes. Expected data.yaml with `names`, or classes.txt.")


def _parts(path: str) -> list[str]:
    """The parts of a path that any system wrote, without drive and `..`: Roboflow writes `../train`."""
    return [part for part in re.split(r"[/\\]", path) if part not in ("", ".", "..") and not part.endswith(":")]


def class_names(path: Path, settings: dict[str, Any]) -> dict[int, str]:
    """The name of each number.

    Raises:
        DatasetError: `names` is no list of names and no numbers with a name each.
    """
    names = settings["names"]
    found = dict(enumerate(names)) if isinstance(names, list) else names
    if isinstance(found, dict) and all(type(i) is int and isinstance(name, str) for i, name in found.items()):
        twice = [name for name, count in Counter(found.values()).items() if count > 1]
        if twice:
            raise DatasetError(f"{path} names two classes {twice[0]!r}. Expected names that differ; rename one.")
        return found
    raise DatasetError(f"{path} has the `names` {shown(names)}. Expected a list of names, or numbers with a name each.")
