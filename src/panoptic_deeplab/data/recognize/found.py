"""What is found in a folder of labels: the format it looks like, its splits and classes."""

import colorsys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import files_like

_NO_LISTS = frozenset(
    ("readme.txt", "license.txt", "labelmap.txt", "class_names.txt", "classes.txt", "label_colors.txt", "held_out.txt")
)
"""Texts beside the lists of a set."""


@dataclass(frozen=True)
class Classes:
    """What a format knows of the classes."""

    table: CategoryTable
    things_known: bool
    """False where the files do not say which classes are things; the table then says that all are."""
    drawn: bool = False
    """Whether objects are drawn one by one, so that there are pixels that nobody annotated."""
    numbered: bool = False
    """Whether maps number the objects of things alone, so that reading some of them shows which classes are things."""
    apart: bool = True
    """Whether two objects of one class are told apart; else none can be a thing."""
    colors_count: bool = False
    """Whether the colors of the table are those of the files."""
    remarks: tuple[str, ...] = ()
    """What a person should know of the names, a sentence each."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A folder that looks like a format."""

    format: str
    """As in `data.format`."""
    evidence: str
    """What was seen there."""
    splits: Sequence[str]
    likely: bool = True
    """False where it would be an unusual way to mean what is there."""
    root: Path
    """The folder of the set: the one that was looked at, or that around it."""
    classes: Callable[[], Classes]
    """Reads the classes.

    Raises:
        DatasetError: the file that lists them cannot be used.
    """


def split_lists(root: Path) -> list[str]:
    """The splits that lists in a folder name: `train` of `train.txt`."""
    return [path.stem for path in files_like(root, "*.txt") if path.name.lower() not in _NO_LISTS]


def table_of(rows: Iterable[tuple[int, str, bool]], *, name: str) -> CategoryTable:
    """A category table with a color for each class.

    Args:
        rows: id, name and isthing of each class. Of two classes of one name, the later one gets its id behind it.
        name: name of the table.
    """
    listed = list(rows)
    categories: list[Category] = []
    names: set[str] = set()
    for place, (id_, class_name, isthing) in enumerate(listed):
        unique = class_name if class_name not in names else f"{class_name} ({id_})"
        names.add(unique)
        color = distinct_color(place, len(listed), isthing=isthing)
        category = Category(id=id_, name=unique, isthing=isthing, color=color)
        if unique != class_name:  # what the files call it
            category = replace(category, dataset_ids=(id_,), dataset_names=(class_name,))
        categories.append(category)
    if not categories:
        raise DatasetError(f"The set {name!r} names no class that a label has. Expected labeled images.")
    return CategoryTable(name=name, categories=tuple(categories))


def distinct_color(place: int, count: int, *, isthing: bool) -> tuple[int, int, int]:
    """One of so many colors whose hues are as far apart as they can be; stuff is paler."""
    color = colorsys.hsv_to_rgb(place / count, 0.85 if isthing else 0.4, 0.95 if isthing else 0.7)
    red, green, blue = (round(255 * channel) for channel in color)
    return red, green, blue
