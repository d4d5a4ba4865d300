"""Cityscapes as it is downloaded: `leftImg8bit` and `gtFine`, without any conversion.

    root/
    ├── leftImg8bit/{split}/{city}/{city}_{sequence}_{frame}_leftImg8bit.png
    ├── gtFine/{split}/{city}/{city}_{sequence}_{frame}_gtFine_instanceIds.png
    └── gtFine/cityscapes_panoptic_{split}.json and folder (optional, from cityscapesScripts)

A value of `instanceIds` from 1000 on is `category_id * 1000 + instance`; below, it is the category id itself: stuff, or
a group of things that nobody separated (crowd). `createPanopticImgs.py` of cityscapesScripts takes the same segments
from the same files, so both kinds of labels give equal samples.

Splits: `train` (2975), `val` (500), `trainval` (both) and `test` (1525). The label files that come with `test` are
dummies, so `test` has no labels here.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int32

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.common.listed import Item, ItemSource, Labels, paired_items, panoptic_items
from panoptic_deeplab.data.formats.common.panoptic_json import read_panoptic_json
from panoptic_deeplab.data.labels import RawSegment
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.data.set_root import SetRoot
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.images.read import image_files
from panoptic_deeplab.results.ids import VOID_ID

_IMAGE_TAIL = "_leftImg8bit"
_LABEL_TAIL = "_gtFine_instanceIds"
_INSTANCE_DIVISOR = 1000


class CityscapesSource(ItemSource):
    """One split of Cityscapes, by a table whose dataset ids are its label ids (`cityscapes`); see `ListedSource`.

    `split` is `train`, `val`, `trainval` or `test`; other names are taken as sub-folders. Labels are the PNG files of
    the download where the split has any, else those of the generated JSON (the one without `_trainId` in its name).
    """

    _depth = 1  # cities

    def _items(self, split: str, problems: Problems) -> list[Item]:
        subsets = ("train", "val") if split == "trainval" else (split,)
        return [item for subset in subsets for item in _items(self._root, subset, self.categories, problems)]

    def _numbered_labels(self, values: Int32[np.ndarray, "H W"], label_path: Path) -> Labels:
        raw_segments = []
        for value in np.flatnonzero(np.bincount(values.reshape(-1))).tolist():
            if value == VOID_ID:  # Cityscapes' id 0, "unlabeled"
                continue
            numbered = value >= _INSTANCE_DIVISOR
            dataset_id = value // _INSTANCE_DIVISOR if numbered else value
            train_id = self.categories.train_id_by_dataset_id.get(dataset_id)
            iscrowd = not numbered and train_id is not None and self.categories[train_id].isthing
            raw_segments.append(RawSegment(value, dataset_id, iscrowd))
        return self._translated(values, raw_segments, label_path)


def _items(
    root: SetRoot,
    subset: str,
    categories: CategoryTable,
    problems: Problems,
) -> list[Item]:
    image_folder, label_folder = root.folder / "leftImg8bit" / subset, root.folder / "gtFine" / subset
    json_path = root.folder / "gtFine" / f"cityscapes_panoptic_{subset}.json"
    images, others = _paths(image_folder, _IMAGE_TAIL, problems)
    for path in others:
        fault = f"is not read. Expected names that end in {_IMAGE_TAIL}.png; rename or remove it."
        problems.add(f"{image_folder} other", path, fault)
    if not images:
        raise DatasetError(f"There are no images {image_folder}/<city>/*{_IMAGE_TAIL}.png. Is the root folder right?")
    if subset == "test":
        return [Item(image_id, path, None) for image_id, path in images.items()]

    id_maps, _ = _paths(label_folder, _LABEL_TAIL, problems)
    if id_maps:
        return paired_items(
            images,
            id_maps,
            problems,
            image_at=lambda image_id: image_folder / f"*/{image_id}{_IMAGE_TAIL}.png",
            label_at=lambda image_id: label_folder / f"*/{image_id}{_LABEL_TAIL}.png",
        )
    if not json_path.is_file():
        raise DatasetError(
            f"There are no labels of split {subset!r}. Expected {label_folder}/<city>/*{_LABEL_TAIL}.png or"
            f" {json_path}; gtFine_trainvaltest.zip of the Cityscapes download brings the first."
        )
    index = read_panoptic_json(json_path, categories, root, problems)
    advice = "Make the JSON again with createPanopticImgs.py, or delete it to read the instanceIds files."
    # The file names in this JSON are not those of the images (they contain `_gtFine`), so the ids lead to them.
    return panoptic_items(images, index, json_path.with_suffix(""), image_folder, problems, advice=advice)


def _paths(folder: Path, tail: str, problems: Problems) -> tuple[dict[str, Path], list[Path]]:
    """Image id -> picture whose name ends in the tail, in the order of ids; and the pictures without it."""
    paths: dict[str, Path] = {}
    others: list[Path] = []
    for city in sorted(folder.iterdir()) if folder.is_dir() else []:
        for path in image_files(city) if city.is_dir() and not city.name.startswith(".") else []:
            image_id = path.stem.removesuffix(tail)
            if image_id == path.stem:
                others.append(path)
            elif image_id in paths:
                fault = f"and {paths[image_id]} have the same name. Remove or rename one."
                problems.add(f"{folder} twice", path, fault)
            else:
                paths[image_id] = path
    return dict(sorted(paths.items())), others
