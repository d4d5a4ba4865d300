"""What COCO's JSON files have in common, panoptic and instances: the list of images, categories, and wrong entries.

Numbers must be integers, as in category tables: a `category_id` of 1.9 is a mistake of whoever wrote the file, and none
that `int` should hide. An entry that is wrong does not hide the others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.problems import Problems, flag_fault, integer_fault, shown
from panoptic_deeplab.data.set_root import SetRoot
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import read_json
from panoptic_deeplab.images.read import image_files

MAX_NUMBER = 2**31 - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageList:
    """The images that a file lists."""

    path: Path
    image_ids: list[str]
    image_files: list[str]
    """`file_name` of each image."""
    image_sizes: list[tuple[int | None, int | None]]
    """`height, width` of each image; None where the file does not say it."""

    def check_size(self, index: int, size: tuple[int, int], image_path: Path) -> None:
        """Hold the `(height, width)` of an image file against what the JSON says of image number `index`.

        Raises:
            DatasetError: they differ, so the JSON is probably that of another set.
        """
        for key, number, listed in zip(("height", "width"), size, self.image_sizes[index], strict=True):
            if listed not in (None, number):
                raise DatasetError(
                    f"{self.path} says that image {self.image_ids[index]} has the `{key}` {listed}, but {image_path}"
                    f" has {number}. Expected the JSON of these images; correct its entry, or restore the image."
                )


@dataclass
class ImageReader:
    """The list of images while entries go by."""

    path: Path
    categories: CategoryTable
    root: SetRoot
    problems: Problems
    position: dict[str, int] = field(default_factory=dict)
    """Number of each image id, in their order."""
    image_files: list[str] = field(default_factory=list)
    image_sizes: list[tuple[int | None, int | None]] = field(default_factory=list)
    named: dict[tuple[str, str], str] = field(default_factory=dict)
    """Where each image and each label is named."""

    def __post_init__(self) -> None:
        self.known = set(self.categories.train_id_by_dataset_id) | set(self.categories.void_ids)

    def fault(self, kind: str, place: str, fault: str, image_id: str | None = None) -> None:
        """Note a fault of an entry."""
        self.problems.add(f"{self.path} {kind}", self.path, fault, place=place, image_id=image_id)

    def add_image(self, entry: Any, place: str) -> None:
        """Take one of `images`."""
        image_id = self.image_id(entry, "id", place)
        if image_id is None:
            return
        if image_id in self.position:
            self.fault("image twice", place, f"lists an image id twice: {image_id}. Expected ids that differ.")
            return
        self.position[image_id] = len(self.image_files)
        where = f"{place} (image {image_id})"
        self.image_files.append(self.file_name(entry, "image", where, image_id) or "")
        sides = []
        for key in ("height", "width"):
            fault = integer_fault(entry, key, 1, MAX_NUMBER) if key in entry else None
            if fault is not None:
                self.fault(f"image {key}", where, fault, image_id)
            sides.append(entry.get(key) if fault is None else None)
        self.image_sizes.append((sides[0], sides[1]))

    def image_id(self, entry: Any, key: str, place: str) -> str | None:
        """The id that an entry has at a key; None, and a fault, where it has none."""
        value = entry.get(key) if isinstance(entry, dict) else None
        if type(value) is int or (isinstance(value, str) and value):
            return str(value)
        if not isinstance(entry, dict):
            self.fault("object", place, f"is no object, but {shown(entry)}.")
        else:
            has = f"has the `{key}` {shown(value)}" if key in entry else f"has no `{key}`"
            self.fault(f"no {key}", place, f"{has}. Expected an integer or a name.")
        return None

    def annotated_image(self, entry: Any, place: str) -> str | None:
        """The image that one of `annotations` is for; None, and a fault, where it is for none of `images`."""
        image_id = self.image_id(entry, "image_id", place)
        if image_id is None or image_id in self.position:
            return image_id
        self.fault("no image", place, f"is an annotation for image {image_id}, which is not among `images`.")
        return None

    def category_fault(self, category_id: int) -> str | None:
        """What is wrong with a category id; None where the table knows it."""
        if category_id in self.known:
            return None
        return (
            f"has category id {category_id}, which the table {self.categories.name!r} lists neither as a category nor"
            " in `void_ids`. Choose the table of this data set, or add the id to it."
        )

    def file_name(self, entry: Mapping[str, Any], what: str, place: str, image_id: str) -> str | None:
        """The `file_name` of an entry; None, and a fault, where it has none or one of another entry."""
        if "file_name" not in entry:
            self.fault("no file_name", place, "has no `file_name`. Expected the name of a file.", image_id)
            return None
        try:
            self.root.below(self.root.folder, entry["file_name"], where=f"{self.path}: {place}")
        except DatasetError as error:
            text = str(error).removeprefix(f"{self.path}: {place} ")
            self.fault("file_name", place, text, image_id)
            return None
        name = str(entry["file_name"])
        first = self.named.setdefault((what, name), place)
        if first != place:
            fault = f"names the {what} {name!r}, as {first} does. Expected a file of its own."
            self.fault(f"{what} file twice", place, fault, image_id)
            return None
        return name


def read_lists(path: Path, *, what: str, annotation: str) -> tuple[dict[str, list[Any]], bool]:
    """Read the lists `images`, `annotations` and `categories` of a file.

    Args:
        path: the file.
        what: what it should be, for messages.
        annotation: what an annotation has, for messages.

    Returns:
        The lists, empty where absent, and whether there are annotations: without the key `annotations`, a file is a
        list of images without labels.

    Raises:
        DatasetError: it cannot be read, or is another file.
    """
    data = read_json(path, what=what, error=DatasetError)
    lists = (
        {key: data.get(key, []) for key in ("images", "annotations", "categories")} if isinstance(data, dict) else {}
    )
    if not lists or "images" not in data or not all(isinstance(entries, list) for entries in lists.values()):
        raise DatasetError(
            f"{path} is no {what}. Expected an object with the lists `images` (id, file_name), `annotations`"
            f" ({annotation}) and `categories`."
        )
    return lists, "annotations" in data


def warn_of_unlisted(folder: Path, listed: ImageList, problems: Problems) -> None:
    """Note images of a folder that a file does not list."""
    names = set(listed.image_files)
    others = [path.name for path in image_files(folder) if path.name not in names]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        problems.warnings.append(
            f"There are images in {folder} that {listed.path} does not list: {others[0]}{more}. They are not read."
        )


def check_categories(rows: Iterable[Any], categories: CategoryTable, path: Path, problems: Problems) -> None:
    """Hold the categories that a file lists against the table.

    A table of another set would give every segment a wrong name without any other sign. The classes of a merged table
    have names of their own: there, `dataset_names` are compared, and without them there is a warning.
    """
    unnamed: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        place = f"categories[{number}]"
        fault = "is no object." if not isinstance(row, dict) else None
        fault = fault or integer_fault(row, "id", 0, MAX_NUMBER) or flag_fault(row, "isthing")
        if fault is not None:
            problems.add(f"{path} category", path, fault, place=place)
            continue
        train_id = categories.train_id_by_dataset_id.get(row["id"])
        if train_id is None:
            continue  # an error only when a segment uses the id, and then the image is named
        category = categories[train_id]
        isthing, name = bool(row.get("isthing", category.isthing)), str(row.get("name", ""))
        expected = category.dataset_name(row["id"])
        if expected is None:
            unnamed.setdefault(category.name, []).append(f"{row['id']} {name!r}")
        if isthing != category.isthing or (name and expected is not None and name.lower() != expected.lower()):
            fault = (
                f"calls category {row['id']} {name or expected!r} ({'thing' if isthing else 'stuff'}), but the table"
                f" {categories.name!r} has {expected or category.name!r} ({'thing' if category.isthing else 'stuff'})"
                " there. Choose the table of this data set (data.categories)."
            )
            problems.add(f"{path} table", path, fault, place=place)
    if unnamed:
        joined = "; ".join(f"{name!r} joins {', '.join(ids)}" for name, ids in unnamed.items())
        problems.warnings.append(
            f"The table {categories.name!r} does not say which names of {path} it merges: {joined}. Look whether they"
            " belong together, and write them into the table as `dataset_names`, in the order of `dataset_ids`."
        )
