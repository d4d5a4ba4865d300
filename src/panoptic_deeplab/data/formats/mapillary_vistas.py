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

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.common.coco_entries import check_categories
from panoptic_deeplab.data.formats.common.listed import Item, ItemSource, Labels, paired_items, panoptic_items
from panoptic_deeplab.data.formats.common.panoptic_json import read_panoptic_json
from panoptic_deeplab.data.labels import RawSegment
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import read_json
from panoptic_deeplab.images.read import image_files
from panoptic_deeplab.results.ids import VOID_ID

_FOLDER_OF_SPLIT = {"train": "training", "val": "validation", "test": "testing"}
_LABEL_DIVISOR = 256


class MapillaryVistasSource(ItemSource):
    """One split of Mapillary Vistas; the category table says which version. See `ListedSource`.

    `split` is `train`, `val` or `test`, or the name of a folder. Dataset ids of the table are all category ids of one
    version: 1 to 65 for v1.2 (`mapillary_vistas_v1.2`), 1 to 116 for v2.0 (`mapillary_vistas_v2.0`), or one that
    merges them.
    """

    _dataset_ids: Sequence[int] = ()
    """Category id of each label, 0 = void; empty where no `instances` are read."""

    def _items(self, split: str, problems: Problems) -> list[Item]:
        folder = self._root.folder / _FOLDER_OF_SPLIT.get(split, split)
        image_folder = folder / "images"
        images = _by_name(image_folder, problems)
        if not images:
            raise DatasetError(f"There are no images {image_folder}/*.jpg. Is the root folder right?")
        if folder.name == "testing":
            return [Item(image_id, path, None) for image_id, path in images.items()]
        places = _find_labels(folder, self.categories)
        json_path = places.folder / "panoptic" / places.version.panoptic_json
        if json_path.is_file():
            index = read_panoptic_json(json_path, self.categories, self._root, problems)
            advice = "Remove them, or read the set's own JSON."
            return panoptic_items(images, index, json_path.parent, image_folder, problems, advice=advice)
        self._dataset_ids = _dataset_ids(self._root.folder, places.version, self.categories, problems)
        label_folder = places.folder / "instances"
        id_maps = _by_name(label_folder, problems)
        if not id_maps:
            raise DatasetError(f"There are no labels {label_folder}/*.png, and no panoptic JSON beside that folder.")
        return paired_items(
            images,
            id_maps,
            problems,
            image_at=lambda image_id: image_folder / f"{image_id}.jpg",
            label_at=lambda image_id: label_folder / f"{image_id}.png",
        )

    def _numbered_labels(self, values: Int32[np.ndarray, "H W"], label_path: Path) -> Labels:
        present = np.flatnonzero(np.bincount(values.reshape(-1)))
        num_labels = len(self._dataset_ids)
        if present.size and present[-1] >= _LABEL_DIVISOR * num_labels:
            raise DatasetError(
                f"{label_path} has the value {present[-1]}, which is label {present[-1] // _LABEL_DIVISOR}. Expected"
                f" labels 0 to {num_labels - 1}; is this the other version of the data set?"
            )
        segment_ids = np.zeros(int(present[-1]) + 1 if present.size else 1, np.int32)
        raw_segments = []
        for value in present.tolist():
            dataset_id = self._dataset_ids[value // _LABEL_DIVISOR]
            if dataset_id != VOID_ID:
                segment_ids[value] = value + 1  # bird number 0 has the value 0
                raw_segments.append(RawSegment(value + 1, dataset_id, iscrowd=False))
        return self._translated(segment_ids[values], raw_segments, label_path)


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


def _by_name(folder: Path, problems: Problems) -> dict[str, Path]:
    """Pictures of a folder by their name without suffix, in the order of names."""
    paths: dict[str, Path] = {}
    for path in image_files(folder) if folder.is_dir() else []:
        if path.stem in paths:
            fault = f"and {paths[path.stem].name} differ only in their suffix. Remove or rename one."
            problems.add(f"{folder} suffix", path, fault)
        paths.setdefault(path.stem, path)
    return dict(sorted(paths.items()))


def _dataset_ids(root: Path, version: _Version, categories: CategoryTable, problems: Problems) -> list[int]:
    """Category id of each label, `VOID_ID` where it is not evaluated, from the data set's `config` file."""
    path = next((p for p in (root / f"config_{version.name}.json", root / "config.json") if p.is_file()), None)
    if path is None:
        if version.name == "v1.2":  # the only labels whose ids follow from their positions
            return [*range(1, version.num_categories + 1), VOID_ID]
        raise DatasetError(
            f"{root / f'config_{version.name}.json'} does not exist. Expected this file of the download; it says which"
            " of the labels in `instances` are evaluated."
        )
    content = read_json(path, what="configuration", error=DatasetError)
    try:
        labels: list[dict[str, Any]] = content["labels"]
        ids: list[int] = []
        rows: list[dict[str, Any]] = []
        for label in labels:
            ids.append(len(rows) + 1 if label["evaluate"] else VOID_ID)
            if label["evaluate"]:
                rows.append({"id": len(rows) + 1, "name": label["readable"], "isthing": label["instances"]})
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} is no configuration of Mapillary Vistas ({type(error).__name__}: {error}). Expected `labels`, a"
            " list of objects with `readable`, `instances` and `evaluate`."
        ) from error
    if len(rows) != version.num_categories:
        raise DatasetError(
            f"{path} has {len(rows)} labels that are evaluated. Expected the {version.num_categories} of version"
            f" {version.name}."
        )
    check_categories(rows, categories, path, problems)
    return ids
