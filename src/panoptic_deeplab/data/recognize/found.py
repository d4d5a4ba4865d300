"""What is found in a folder of labels: the format it looks like, its splits and classes."""

import colorsys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.errors import DatasetError


@dataclass(frozen=True)
class Classes:
    """What a format knows of the classes."""

    table: CategoryTable
    things_known: bool
    """False where the files do not say which classes are things; the table then says that all are."""
    drawn: bool = False
    """Whether objects are drawn one by one, so that there are pixels that nobody annotated."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A folder that looks like a format."""

    format: str
    """As in `data.format`."""
    evidence: str
    """What was seen there."""
    splits: Sequence[str]
    root: Path
    """The folder of the set: the one that was looked at, or that around it."""
    classes: Callable[[], Classes]
    """Reads the classes.

    Raises:
        DatasetError: the file that lists them cannot be used.
    """


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
        # Hues as far apart as they can be; stuff is paler.
        color = colorsys.hsv_to_rgb(place / len(listed), 0.85 if isthing else 0.4, 0.95 if isthing else 0.7)
        red, green, blue = (round(255 * channel) for channel in color)
        categories.append(Category(id=id_, name=unique, isthing=isthing, color=(red, green, blue)))
    if not categories:
        raise DatasetError(f"The set {name!r} names no class that a label has. Expected labeled images.")
    return CategoryTable(name=name, categories=tuple(categories))
