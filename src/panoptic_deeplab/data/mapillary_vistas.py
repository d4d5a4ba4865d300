"""Mapillary Vistas v1.2 and v2.0 as they are downloaded, in both layouts.

    root/                                            root/                       v1.0, v1.1, and Mask2Former's
    ├── config_v1.2.json, config_v2.0.json           ├── config.json
    ├── training/images/*.jpg                        ├── training/images/*.jpg
    ├── training/v1.2/panoptic/panoptic_2018.json    ├── training/panoptic/panoptic_2018.json
    ├── training/v1.2/panoptic/*.png                 ├── training/panoptic/*.png
    ├── training/v1.2/instances/*.png                ├── training/instances/*.png
    └── training/v2.0/... with panoptic_2020.json    └── ...
    and the same in validation/; testing/ has images alone

Labels are read from the panoptic JSON and PNG where they are (the truth that PQ is defined on), else from `instances`:
16-bit, `256 * label + number`. A label is a position in the list of the `config` file; a category id, as in the
panoptic JSON, counts only the labels that are evaluated, from 1. Of v1.2's 66 labels only the last, "Unlabeled", is
not evaluated, so there ids are labels + 1; v2.0 leaves out 8 of its 124 (groups, ambiguous ones and "Unlabeled"). They
are void.

Splits: `train`, `val` and `test`, or the folders' own names `training` (18,000 images), `validation` (2,000) and
`testing` (5,000).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.coco_panoptic import (
    PanopticIndex,
    check_categories,
    read_panoptic_json,
    read_panoptic_sample,
)
from panoptic_deeplab.data.images import check_same_size, read_id_label, read_image
from panoptic_deeplab.data.labels import RawSegment, translate_labels
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.encoding import VOID_ID
from panoptic_deeplab.errors import DatasetError

_FOLDER_OF_SPLIT = {"train": "training", "val": "validation", "test": "testing"}
_LABEL_DIVISOR = 256


class MapillaryVistasSource:
    """One split of Mapillary Vistas; the category table says which version.

    Args:
        root: folder that holds `training`, `validation` and `testing`.
        split: `train`, `val` or `test`, or the name of a folder.
        categories: table whose dataset ids are all category ids of one version: 1 to 65 for v1.2
            (`mapillary_vistas_v1.2`), 1 to 116 for v2.0 (`mapillary_vistas_v2.0`), or one that merges them.
        labels: `panoptic` or `instances`; `auto` takes `panoptic` where its JSON is, else `instances`.

    Raises:
        DatasetError: there are no images or labels of the split, or they contradict the table.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        categories: CategoryTable,
        *,
        labels: Literal["auto", "panoptic", "instances"] = "auto",
    ) -> None:
        root = Path(root)
        folder = root / _FOLDER_OF_SPLIT.get(split, split)
        self.categories = categories
        self._dataset_ids: Sequence[int] = ()
        """Category id of each label, 0 = void; empty where no `instances` are read."""
        images = {path.stem: path for path in sorted((folder / "images").glob("*.jpg"))}
        if not images:
            raise DatasetError(f"There are no images {folder}/images/*.jpg. Is the root folder right?")
        if folder.name == "testing":
            self._items = [_Item(image_id, path, None) for image_id, path in images.items()]
        else:
            found = _find_labels(folder, categories)
            json_path = found.folder / "panoptic" / found.version.panoptic_json
            if labels == "panoptic" or (labels == "auto" and json_path.is_file()):
                self._items = _panoptic_items(images, read_panoptic_json(json_path, categories), folder / "images")
            else:
                self._dataset_ids = _dataset_ids(root, found.version, categories)
                self._items = _instance_items(images, found.folder / "instances", folder / "images")
        self.image_ids: Sequence[str] = [item.image_id for item in self._items]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DatasetError: a file is missing, corrupt or contradicts another one.
        """
        item = self._items[index]
        if item.label is None:
            return Sample(
                image_id=item.image_id,
                image=read_image(item.image_path),
                panoptic_map=None,
                segments_info=[],
                image_path=item.image_path,
            )
        if isinstance(item.label, Path):
            return _read_instances(item.image_id, item.image_path, item.label, self._dataset_ids, self.categories)
        panoptic_index, position = item.label
        return read_panoptic_sample(
            panoptic_index,
            position,
            image_path=item.image_path,
            label_folder=panoptic_index.path.parent,
            categories=self.categories,
        )


class _Item(NamedTuple):
    image_id: str
    image_path: Path
    label: Path | tuple[PanopticIndex, int] | None
    """A file of `instances`, or a place in a panoptic JSON."""


class _Version(NamedTuple):
    name: str
    num_categories: int
    panoptic_json: str


_VERSIONS = (_Version("v1.2", 65, "panoptic_2018.json"), _Version("v2.0", 116, "panoptic_2020.json"))


class _Labels(NamedTuple):
    version: _Version
    folder: Path
    """Holds `panoptic` and `instances`."""


def _find_labels(folder: Path, categories: CategoryTable) -> _Labels:
    """The labels of the version that the table is for."""
    present = [_Labels(version, folder / version.name) for version in _VERSIONS if (folder / version.name).is_dir()]
    if not present and any((folder / name).is_dir() for name in ("panoptic", "instances")):
        present = [_Labels(_VERSIONS[0], folder)]
    if not present:
        raise DatasetError(
            f"There are no labels of split {folder.name!r}. Expected folders v1.2, v2.0, panoptic or instances in"
            f" {folder}."
        )
    known = set(categories.train_id_by_dataset_id)
    for labels in present:
        ids = set(range(1, labels.version.num_categories + 1))
        if known <= ids <= known | set(categories.void_ids):
            return labels
    expected = " or ".join(f"1 to {found.version.num_categories} ({found.version.name})" for found in present)
    raise DatasetError(
        f"{folder} has the labels of version {' and '.join(found.version.name for found in present)}, but the table"
        f" {categories.name!r} is of none of them. Its ids and void_ids must be {expected}; choose data.categories"
        f" {' or '.join(f'mapillary_vistas_{found.version.name}' for found in present)}."
    )


def _panoptic_items(images: dict[str, Path], index: PanopticIndex, image_folder: Path) -> list[_Item]:
    unlisted = images.keys() - set(index.image_ids)
    if unlisted:
        raise DatasetError(
            f"{index.path} does not list {len(unlisted)} of the images in {image_folder}, among them {min(unlisted)}."
            " Remove them, or read the set's own JSON."
        )
    return [
        _Item(image_id, images.get(image_id, image_folder / f"{image_id}.jpg"), (index, position))
        for position, image_id in enumerate(index.image_ids)
    ]


def _instance_items(images: dict[str, Path], label_folder: Path, image_folder: Path) -> list[_Item]:
    label_ids = {path.stem for path in label_folder.glob("*.png")}
    if not label_ids:
        raise DatasetError(f"There are no labels {label_folder}/*.png, and no panoptic JSON beside that folder.")
    # The union of both: what only one of them has is an error on reading, and listed by `check_source`.
    return [
        _Item(image_id, images.get(image_id, image_folder / f"{image_id}.jpg"), label_folder / f"{image_id}.png")
        for image_id in sorted(images.keys() | label_ids)
    ]


def _dataset_ids(root: Path, version: _Version, categories: CategoryTable) -> list[int]:
    """Category id of each label, `VOID_ID` where it is not evaluated, from the data set's `config` file."""
    path = next((p for p in (root / f"config_{version.name}.json", root / "config.json") if p.is_file()), None)
    if path is None:
        if version.name == "v1.2":  # the only labels whose ids follow from their positions
            return [*range(1, version.num_categories + 1), VOID_ID]
        raise DatasetError(
            f"{root / f'config_{version.name}.json'} does not exist. Expected this file of the download; it says which"
            " of the labels in `instances` are evaluated."
        )
    try:
        labels: list[dict[str, Any]] = json.loads(path.read_bytes())["labels"]
        ids: list[int] = []
        rows: list[dict[str, Any]] = []
        for label in labels:
            ids.append(len(rows) + 1 if label["evaluate"] else VOID_ID)
            if label["evaluate"]:
                rows.append({"id": len(rows) + 1, "name": label["readable"], "isthing": label["instances"]})
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} is no configuration of Mapillary Vistas ({type(error).__name__}: {error}). Expected `labels`, a"
            " list of objects with `readable`, `instances` and `evaluate`."
        ) from error
    if len(rows) != version.num_categories:
        raise DatasetError(
            f"{path} has {len(rows)} labels that are evaluated. Expected the {version.num_categories} of version"
            f" {version.name}."
        )
    check_categories(rows, categories, path)
    return ids


def _read_instances(
    image_id: str, image_path: Path, label_path: Path, dataset_ids: Sequence[int], categories: CategoryTable
) -> Sample:
    image = read_image(image_path)
    values = read_id_label(label_path)
    check_same_size(image, values, image_path=image_path, label_path=label_path)
    present = np.flatnonzero(np.bincount(values.reshape(-1)))
    if present.size and present[-1] >= _LABEL_DIVISOR * len(dataset_ids):
        raise DatasetError(
            f"{label_path} has the value {present[-1]}, which is label {present[-1] // _LABEL_DIVISOR}. Expected labels"
            f" 0 to {len(dataset_ids) - 1}; is this the other version of the data set?"
        )
    segment_ids = np.zeros(int(present[-1]) + 1 if present.size else 1, np.int32)
    raw_segments = []
    for value in present.tolist():
        dataset_id = dataset_ids[value // _LABEL_DIVISOR]
        if dataset_id != VOID_ID:
            segment_ids[value] = value + 1  # bird number 0 has the value 0
            raw_segments.append(RawSegment(value + 1, dataset_id, iscrowd=False))
    panoptic_map, segments_info = translate_labels(
        segment_ids[values], raw_segments, categories=categories, where=str(label_path)
    )
    return Sample(
        image_id=image_id,
        image=image,
        panoptic_map=panoptic_map,
        segments_info=segments_info,
        image_path=image_path,
    )
