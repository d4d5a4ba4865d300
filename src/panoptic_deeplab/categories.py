"""Which classes there are: `Category` and `CategoryTable`, the map between the ids of a data set and train ids.

A *category id* is what a data set writes in its files (Cityscapes 7..33, COCO 1..200 with gaps). A *train id* is the
contiguous index 0..C-1 that the network predicts, in the order of the table. A *merged* table joins several category
ids of a data set into one class: it is a category space of its own, whose entries list the `dataset_ids` they join.

Tables are JSON (`recipes/categories/*.json`), and every checkpoint carries its own.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from panoptic_deeplab.errors import ConfigError, did_you_mean
from panoptic_deeplab.files import read_json, user_path

IGNORE_INDEX = 255
"""Train id of a void pixel in a semantic target; the loss ignores it. So a table has at most 255 categories."""

_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """One class."""

    id: int
    """The id in files: of the data set, or of the merged space; at least 0."""
    name: str
    isthing: bool
    """Countable (thing) or amorphous (stuff)."""
    color: tuple[int, int, int]
    """RGB, 0..255."""
    dataset_ids: tuple[int, ...] = ()
    """Ids of the data set that go into this class; empty means just `id`."""
    dataset_names: tuple[str, ...] = ()
    """Names of the data set at `dataset_ids`, to hold against its files; empty where they are not known."""

    def dataset_name(self, dataset_id: int) -> str | None:
        """Name that the data set gives one of the ids of this class; None where it is not known."""
        if not self.dataset_ids:
            return self.name
        return self.dataset_names[self.dataset_ids.index(dataset_id)] if self.dataset_names else None


@dataclass(frozen=True, kw_only=True)
class CategoryTable:
    """All classes of a model or data set, in the order of their train ids.

    Args:
        name: short name, as `cityscapes`.
        categories: one entry a class; the train id is the position.
        void_ids: ids of the data set that are void on purpose (Cityscapes' "ego vehicle"); any other id that
            no category lists is an error in the data.
        unlabeled: name of the stuff class that pixels have which nobody annotated, in formats of polygons and masks
            (`coco_instances`); None = they are void.

    Raises:
        ConfigError: no category, more than 255, an id or name that occurs twice, a negative id, a color outside
            0..255, or an `unlabeled` that is no stuff class. (`void_ids` may be negative, as Cityscapes' license
            plate.)
    """

    name: str
    categories: tuple[Category, ...]
    void_ids: tuple[int, ...] = ()
    unlabeled: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.categories) <= IGNORE_INDEX:
            raise ConfigError(
                f"A category table must have 1 to {IGNORE_INDEX} categories. {self.name!r} has {len(self.categories)}."
            )
        for category in self.categories:
            where = f"Category {category.name!r} of table {self.name!r}"
            ids = [category.id, *category.dataset_ids]
            if min(ids) < 0 or max(ids) > _LARGEST_ID:
                raise ConfigError(f"{where} must have ids of at least 0 and at most {_LARGEST_ID}. Got {ids}.")
            if category.dataset_names and len(category.dataset_names) != len(category.dataset_ids):
                raise ConfigError(
                    f"{where} must have a name in `dataset_names` for each of its `dataset_ids`, or none."
                )
            if not all(0 <= channel <= 255 for channel in category.color):
                raise ConfigError(f"{where} must have a color [r, g, b] of numbers 0 to 255. Got {category.color}.")
        dataset_ids = [i for c in self.categories for i in (c.dataset_ids or (c.id,))]
        unique: dict[str, list[int] | list[str]] = {
            "id": [c.id for c in self.categories],
            "name": [c.name for c in self.categories],
            "dataset id": [*dataset_ids, *self.void_ids],
        }
        for what, values in unique.items():
            twice = [value for value, count in Counter[int | str](values).items() if count > 1]
            if twice:
                raise ConfigError(f"Each {what} of category table {self.name!r} must be unique. Listed twice: {twice}.")
        stuff = [c.name for c in self.categories if not c.isthing]
        if self.unlabeled is not None and self.unlabeled not in stuff:
            raise ConfigError(
                f"`unlabeled` of category table {self.name!r} must be the name of a stuff class. Got"
                f" {self.unlabeled!r}. {did_you_mean(self.unlabeled, stuff)}"
            )

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, train_id: int) -> Category:
        return self.categories[train_id]

    @property
    def num_classes(self) -> int:
        """How many train ids there are."""
        return len(self.categories)

    @cached_property
    def thing_mask(self) -> Bool[np.ndarray, " C"]:
        """True at the train ids of things."""
        return np.array([c.isthing for c in self.categories])

    @cached_property
    def colors(self) -> UInt8[np.ndarray, "C 3"]:
        """RGB of each train id."""
        return np.array([c.color for c in self.categories], np.uint8)

    @cached_property
    def train_id_by_dataset_id(self) -> dict[int, int]:
        """Train id of every id that the data set's files may contain, void ids left out."""
        return {i: t for t, c in enumerate(self.categories) for i in (c.dataset_ids or (c.id,))}

    @cached_property
    def train_id_by_category_id(self) -> dict[int, int]:
        """Train id of every `Category.id` of this table."""
        return {c.id: t for t, c in enumerate(self.categories)}

    @property
    def unlabeled_id(self) -> int | None:
        """An id of the data set for pixels that nobody annotated; None = they are void."""
        found = [c for c in self.categories if c.name == self.unlabeled]
        return (found[0].dataset_ids or (found[0].id,))[0] if found else None

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in `recipes/categories/*.json`."""
        rows = []
        for c in self.categories:
            row: dict[str, Any] = {"id": c.id, "name": c.name, "isthing": c.isthing, "color": list(c.color)}
            if c.dataset_ids:
                row["dataset_ids"] = list(c.dataset_ids)
            if c.dataset_names:
                row["dataset_names"] = list(c.dataset_names)
            rows.append(row)
        table = {"name": self.name, "categories": rows, "void_ids": list(self.void_ids)}
        return table if self.unlabeled is None else {**table, "unlabeled": self.unlabeled}

    @classmethod
    def from_json(cls, data: Any, *, where: str = "category table") -> "CategoryTable":
        """Build a table from plain data.

        Args:
            data: `{"name", "categories": [{"id", "name", "isthing", "color", "dataset_ids"?, "dataset_names"?}],
                "void_ids"?, "unlabeled"?}`.
            where: file name for error messages.

        Raises:
            ConfigError: a key is missing or has the wrong type.
        """
        try:
            return cls(
                name=_text(data["name"]),
                categories=tuple(_category(row) for row in data["categories"]),
                void_ids=tuple(_integer(i, "void_ids") for i in data.get("void_ids", ())),
                unlabeled=None if data.get("unlabeled") is None else _text(data["unlabeled"], "unlabeled"),
            )
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{where} is not a category table ({type(error).__name__}: {error}). Expected an object with `name` and"
                " `categories`, a list of objects with `id`, `name`, `isthing` and `color` [r, g, b]."
            ) from error

    @classmethod
    def load(cls, name_or_path: str | Path) -> "CategoryTable":
        """Read a packaged table by name (`cityscapes`, `coco`, ...) or any JSON file by path.

        Raises:
            ConfigError: there is no such table, or the file is not one.
        """
        packaged = packaged_tables()
        name = str(name_or_path)
        path: Any = packaged[name] if name in packaged else user_path(name_or_path)
        if not path.is_file():
            raise ConfigError(
                f"There is no category table {name!r}, neither in the package nor as a JSON file."
                f" {did_you_mean(name, packaged)}"
            )
        where = f"{name}.json" if name in packaged else str(path)
        return cls.from_json(read_json(path, what="category table", error=ConfigError), where=where)


def packaged_tables() -> dict[str, Any]:
    """Name -> file of each table that comes with the package."""
    folder = resources.files("panoptic_deeplab") / "recipes" / "categories"
    return {f.name.removesuffix(".json"): f for f in folder.iterdir() if f.name.endswith(".json")}


def _category(row: Any) -> Category:
    red, green, blue = (_integer(v, "color") for v in row["color"])
    dataset_ids: Iterable[int] = row.get("dataset_ids", ())
    dataset_names = row.get("dataset_names", [])
    if not (isinstance(dataset_names, list) and all(isinstance(name, str) for name in dataset_names)):
        raise TypeError(f"`dataset_names` must be a list of names, got {dataset_names!r}")
    if not isinstance(row["isthing"], (bool, int)) or row["isthing"] not in (0, 1):
        raise TypeError(f"`isthing` must be true or false, got {row['isthing']!r}")
    return Category(
        id=_integer(row["id"], "id"),
        name=_text(row["name"]),
        isthing=bool(row["isthing"]),
        color=(red, green, blue),
        dataset_ids=tuple(_integer(i, "dataset_ids") for i in dataset_ids),
        dataset_names=tuple(dataset_names),
    )


def _text(value: Any, key: str = "name") -> str:
    """Not `str(value)`, which would take null and lists."""
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"`{key}` must be text, got {value!r}")
    return value


def _integer(value: Any, key: str) -> int:
    """Not `int(value)`, which would take "7", 1.7 and true."""
    if type(value) is not int:
        raise TypeError(f"`{key}` must hold integers, got {value!r}")
    return value
