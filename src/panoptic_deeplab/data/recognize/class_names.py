"""What a file beside class maps calls their numbers or colors, in the forms that label tools and public sets have.

| file                    | a line                              | of                          |
|-------------------------|-------------------------------------|-----------------------------|
| `labelmap.txt`          | `car:0,0,142:parts:actions`         | CVAT                        |
| `class_names.txt`       | `car`; numbers count from 0         | LabelMe's export to VOC     |
| `_classes.csv`          | `1, car`, under a head              | Roboflow                    |
| `class_dict.csv`        | `car,0,0,142`, under a head         | CamVid, Kaggle              |
| `label_colors.txt`      | `0 0 142 car`                       | CamVid                      |
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from panoptic_deeplab.data.formats.common.label_colors import Color, read_labelmap
from panoptic_deeplab.data.label_files import read_lines
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import existing_file


class ClassNames(NamedTuple):
    """Names of numbers, or of colors; one of the two is empty."""

    numbers: dict[int, str]
    colors: dict[Color, str]


def class_names_in(folders: Sequence[Path]) -> ClassNames | None:
    """Read the first such file in some folders; None where there is none.

    Raises:
        DatasetError: the file cannot be read.
    """
    for folder in folders:
        for name, read in _READERS.items():
            path = existing_file(folder / name, error=DatasetError)
            if path is not None:
                return read(path)
    return None


def _labelmap(path: Path) -> ClassNames:
    return ClassNames({}, {color: name for _, name, color in read_labelmap(path)})


def _class_names(path: Path) -> ClassNames:
    return ClassNames(dict(enumerate(name.strip("_") for name in read_lines(path))), {})


def _roboflow(path: Path) -> ClassNames:
    return ClassNames({int(row[0]): row[1] for row in _rows(path, 2) if re.fullmatch(r"\d{1,9}", row[0])}, {})


def _class_dict(path: Path) -> ClassNames:
    return _colors(path, ((row[1:4], row[0]) for row in _rows(path, 4)))


def _label_colors(path: Path) -> ClassNames:
    return _colors(path, ((words[:3], " ".join(words[3:])) for words in map(str.split, read_lines(path))))


def _rows(path: Path, length: int) -> Iterator[list[str]]:
    try:
        for row in csv.reader(read_lines(path)):
            if len(row) >= length:
                yield [value.strip() for value in row]
    except csv.Error as error:
        raise DatasetError(f"{path} cannot be read as CSV ({error}). Expected a class in each line.") from error


def _colors(path: Path, rows: Iterator[tuple[Sequence[str], str]]) -> ClassNames:
    """Colors and names of rows; a head, which has no numbers, is left out."""
    colors: dict[Color, str] = {}
    for channels, name in rows:
        if len(channels) == 3 and all(re.fullmatch(r"\d{1,3}", channel) for channel in channels) and name:
            red, green, blue = (int(channel) for channel in channels)
            if max(red, green, blue) > 255:
                raise DatasetError(f"{path} gives {name!r} the color {red}, {green}, {blue}. Expected numbers to 255.")
            colors[red, green, blue] = name
    return ClassNames({}, colors)


_READERS = {
    "labelmap.txt": _labelmap,
    "class_names.txt": _class_names,
    "_classes.csv": _roboflow,
    "class_dict.csv": _class_dict,
    "label_colors.txt": _label_colors,
}
