"""The JSON files of `panoptic-deeplab predict --output`: panoptic.json, instances.json and images.json.

They list all images of the folder. A further call adds to what the calls before have listed; an image keeps its id in
all of them, and none is listed twice.
"""

import os
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import read_json, write_json

if TYPE_CHECKING:
    from panoptic_deeplab.categories import CategoryTable

PANOPTIC, INSTANCES, IMAGES = "panoptic.json", "instances.json", "images.json"

_ADVICE = "Choose another --output."

_Table = dict[str, list[dict[str, Any]]]


class PredictionTables:
    """Collects what the JSON files list.

    Args:
        folder: exists.
        names: which files this call writes: panoptic.json, instances.json with images.json, all or none.
        paths: the paths of all images to predict.

    Raises:
        ConfigError: a file is there that `predict` has not written, or lists one of the images.
    """

    def __init__(self, folder: Path, names: Iterable[str], paths: Iterable[Path]) -> None:
        self._folder, self._names = folder, tuple(names)
        self._panoptic = _read_table(folder / PANOPTIC, ("images", "annotations", "categories"))
        self._images = _read_table(folder / IMAGES, ("images", "categories"))
        self._detections = _read_detections(folder / INSTANCES)
        if (self._images is None) != (self._detections is None):
            raise ConfigError(
                f"{folder} has only one of {INSTANCES} and {IMAGES}, which belong together, so that nothing can be"
                f" added to them. {_ADVICE}"
            )
        self._ids: dict[str, int] = {}
        self._has_new = False
        for name, table in ((PANOPTIC, self._panoptic), (IMAGES, self._images)):
            if table is None:
                continue
            listed = {place(row["file_name"]): row["id"] for row in table["images"]}
            if name in self._names:
                refuse_listed(folder / name, paths, listed)
            self._ids |= listed

    def check_categories(self, categories: "CategoryTable") -> None:
        """Hold the classes of earlier calls against those of the model.

        Raises:
            ConfigError: they differ.
        """
        for name, table in ((PANOPTIC, self._panoptic), (IMAGES, self._images)):
            if name in self._names and table is not None and table["categories"] != _rows(categories):
                raise ConfigError(
                    f"{self._folder / name} lists other classes than those of the model ({categories.name}), so its"
                    f" images come from another model. {_ADVICE}"
                )

    def image_id(self, path: Path) -> int:
        """The id of an image: a number, as COCO's tools want it."""
        return self._ids.get(place(path)) or max(self._ids.values(), default=0) + 1

    def add(
        self, path: Path, size: tuple[int, int], *, annotation: dict[str, Any], detections: list[dict[str, Any]]
    ) -> None:
        """List an image.

        Args:
            path: where the image lies.
            size: `(height, width)`.
            annotation: for panoptic.json.
            detections: for instances.json.
        """
        number = self._ids[place(path)] = self.image_id(path)
        row = {"id": number, "file_name": place(path), "height": size[0], "width": size[1]}
        self._has_new = True
        if PANOPTIC in self._names:
            self._panoptic = self._panoptic or {"images": [], "annotations": [], "categories": []}
            self._panoptic["images"].append(row)
            self._panoptic["annotations"].append(annotation)
        if IMAGES in self._names:
            self._images = self._images or {"images": [], "categories": []}
            self._images["images"].append(row)
            self._detections = [*(self._detections or []), *detections]

    def write(self, categories: "CategoryTable") -> list[Path]:
        """Write the files, if this call has added an image; gives their paths."""
        documents = {
            PANOPTIC: self._panoptic and self._panoptic | {"categories": _rows(categories)},
            INSTANCES: self._detections,
            IMAGES: self._images and self._images | {"categories": _rows(categories)},
        }
        paths = [self._folder / name for name in self._names] if self._has_new else []
        for path in paths:
            write_json(path, documents[path.name])
        return paths


def _rows(categories: "CategoryTable") -> list[dict[str, Any]]:
    return [{"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in categories.categories]


def _read_table(path: Path, keys: Sequence[str]) -> _Table | None:
    """What an earlier call has written; None where there is no such file."""
    if not path.exists():
        return None
    table = read_json(path, what="JSON of an earlier call", error=ConfigError)
    rows = isinstance(table, dict) and set(table) == set(keys) and all(_is_rows(table[key]) for key in keys)
    if not rows or not all(type(row.get("id")) is int and type(row.get("file_name")) is str for row in table["images"]):
        raise _foreign(path)
    found: _Table = table
    return found


def _read_detections(path: Path) -> list[dict[str, Any]] | None:
    if not path.exists():
        return None
    detections = read_json(path, what="JSON of an earlier call", error=ConfigError)
    if not _is_rows(detections):
        raise _foreign(path)
    found: list[dict[str, Any]] = detections
    return found


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _foreign(path: Path) -> ConfigError:
    return ConfigError(f"{path} is not from `predict`, and is not replaced. {_ADVICE}")


def refuse_listed(table: Path, paths: Iterable[Path], listed: Container[str]) -> None:
    """Refuse images that a file of an earlier call lists.

    Args:
        table: the file.
        paths: the paths of all images to predict.
        listed: the `place` of each image that it lists.

    Raises:
        ConfigError: it lists one of them.
    """
    again = next((path for path in paths if place(path) in listed), None)
    if again is not None:
        raise ConfigError(
            f"{table} lists the image {again} of an earlier call, and nothing of it is replaced. {_ADVICE}"
        )


def place(path: str | Path) -> str:
    """What tells one image from another, whatever the working folder of a further call; links stay what they are."""
    return os.path.abspath(path)  # noqa: PTH100
