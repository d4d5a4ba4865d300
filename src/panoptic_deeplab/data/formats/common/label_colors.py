"""Label maps that say things by colors: classes by the colors of the table or of a `labelmap.txt`, objects by any.

Black and the border color of Pascal VOC, (224, 224, 192), mean that nobody annotated the pixel, unless they are colors
of a class: black becomes the table's `unlabeled` class or void, the border void.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.label_files import read_lines
from panoptic_deeplab.errors import DatasetError, did_you_mean
from panoptic_deeplab.results.ids import color_to_id, rgb_to_id

NO_CLASS = -1
"""Stands for "no class here" in a map of dataset ids; numbers in files are never negative."""

Color = tuple[int, int, int]

BLACK: Color = (0, 0, 0)
BORDER: Color = (224, 224, 192)


def class_ids(categories: CategoryTable) -> dict[str, int]:
    """Dataset id of each name of a class, the table's own and those of the data set."""
    ids = {}
    for category in categories.categories:
        dataset_ids = category.dataset_ids or (category.id,)
        ids[category.name] = dataset_ids[0]
    for category in categories.categories:
        for name, dataset_id in zip(category.dataset_names, category.dataset_ids, strict=False):
            ids.setdefault(name, dataset_id)
    return ids


def unknown_class(name: str, categories: CategoryTable) -> str:
    """The rest of a sentence about a name that no class has."""
    known = did_you_mean(name, class_ids(categories))
    return f"names the class {name!r}, which the table {categories.name!r} does not have. {known}"


def table_colors(categories: CategoryTable) -> dict[Color, int]:
    """Dataset id of each color of a table.

    Raises:
        DatasetError: two classes have one color.
    """
    colors: dict[Color, int] = {}
    names: dict[Color, str] = {}
    for category in categories.categories:
        other = names.setdefault(category.color, category.name)
        if other != category.name:
            raise DatasetError(
                f"The classes {other!r} and {category.name!r} of table {categories.name!r} have one color,"
                f" {category.color}, so colored labels cannot tell them apart. Give each class its own."
            )
        colors[category.color] = (category.dataset_ids or (category.id,))[0]
    return colors


def read_labelmap(path: Path) -> list[tuple[str, str, Color]]:
    """The entries, names and colors of a `labelmap.txt`, as CVAT writes it: `name:red,green,blue:parts:actions` a line.

    Raises:
        DatasetError: the file cannot be read, or a line is none.
    """
    rows: list[tuple[str, str, Color]] = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        channels = [channel.strip() for channel in rest.partition(":")[0].split(",")]
        if len(channels) != 3 or not all(
            re.fullmatch(r"\d{1,3}", channel) and int(channel) < 256 for channel in channels
        ):
            raise DatasetError(f"{path}: entry {number} is {line!r}. Expected name:red,green,blue:parts:actions.")
        red, green, blue = (int(channel) for channel in channels)
        rows.append((f"entry {number}", name, (red, green, blue)))
    if not rows:
        raise DatasetError(f"{path} names no class. Expected name:red,green,blue:parts:actions in each line.")
    return rows


def labelmap_colors(path: Path, categories: CategoryTable) -> dict[Color, int]:
    """Dataset id of each color of a `labelmap.txt`.

    Raises:
        DatasetError: the file cannot be read, or names a class that the table does not have. (A background need not be
            one.)
    """
    ids = class_ids(categories)
    colors: dict[Color, int] = {}
    for entry, name, color in read_labelmap(path):
        if name in ids:
            colors[color] = ids[name]
        elif color != BLACK:
            raise DatasetError(f"{path}: {entry} {unknown_class(name, categories)}")
    return colors


def ids_of_colors(
    label: UInt8[np.ndarray, "H W 3"], colors: Mapping[Color, int], categories: CategoryTable, *, where: Path
) -> Int32[np.ndarray, "H W"]:
    """Dataset id of each pixel, `NO_CLASS` for void.

    Args:
        label: the colored map.
        colors: dataset id of each color.
        categories: says what black is.
        where: the file, for messages.

    Raises:
        DatasetError: the map has a color that no class has.
    """
    unlabeled = NO_CLASS if categories.unlabeled_id is None else categories.unlabeled_id
    known = {color_to_id(BLACK): unlabeled, color_to_id(BORDER): NO_CLASS} | {
        color_to_id(c): i for c, i in colors.items()
    }
    numbers = rgb_to_id(label)
    present, place = np.unique(numbers, return_inverse=True)
    unknown = [number for number in present.tolist() if number not in known]
    if unknown:
        y, x = np.argwhere(numbers == unknown[0])[0].tolist()
        more = f", and {len(unknown) - 1} more colors" if len(unknown) > 1 else ""
        raise DatasetError(
            f"{where} has the color {tuple(label[y, x].tolist())} at (y={y}, x={x}){more}, which no class of table"
            f" {categories.name!r} has. Expected colors of the table, without soft edges; add the class, or correct its"
            " color."
        )
    ids: Int32[np.ndarray, "H W"] = np.array([known[n] for n in present.tolist()], np.int32)[
        place.reshape(numbers.shape)
    ]
    return ids


def objects_of_colors(label: UInt8[np.ndarray, "H W 3"]) -> Int32[np.ndarray, "H W"]:
    """A number for each color, 0 for black and the border color."""
    numbers = rgb_to_id(label)
    numbers[numbers == color_to_id(BORDER)] = 0
    present, place = np.unique(numbers, return_inverse=True)
    first = 0 if present[0] == 0 else 1
    return (place.reshape(numbers.shape) + first).astype(np.int32)
