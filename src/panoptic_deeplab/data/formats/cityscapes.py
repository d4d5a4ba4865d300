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

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.coco_panoptic import read_panoptic_sample
from panoptic_deeplab.data.formats.panoptic_json import PanopticIndex, read_panoptic_json
from panoptic_deeplab.data.label_files import check_same_size, read_id_label, read_image
from panoptic_deeplab.data.labels import RawSegment, translate_labels
from panoptic_deeplab.data.problems import Problems, collected
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.data.set_root import SetRoot
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.images.read import image_files
from panoptic_deeplab.results.ids import VOID_ID

_IMAGE_TAIL = "_leftImg8bit"
_LABEL_TAIL = "_gtFine_instanceIds"
_INSTANCE_DIVISOR = 1000


class CityscapesSource:
    """One split of Cityscapes.

    Args:
        root: folder that holds `leftImg8bit` and `gtFine`.
        split: `train`, `val`, `trainval` or `test`; other names are taken as sub-folders.
        categories: table whose dataset ids are Cityscapes' label ids (`cityscapes`).
        labels: `instance_ids` reads the PNG files of the download; `panoptic_json` the generated JSON (the one without
            `_trainId` in its name). `auto` takes `instance_ids` where the split has any, else `panoptic_json`.
        outside_root: names and links in the set may lead out of `root`.
        problems: takes what is wrong with the files; without it, that is raised.

    Raises:
        DatasetError: there are no images or labels of the split; or, where nobody collects `problems`, a file is
            missing or belongs to none.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        categories: CategoryTable,
        *,
        labels: Literal["auto", "instance_ids", "panoptic_json"] = "auto",
        outside_root: bool = False,
        problems: Problems | None = None,
    ) -> None:
        self.categories = categories
        self._root = SetRoot(Path(root), outside_root)
        subsets = ("train", "val") if split == "trainval" else (split,)
        with collected(problems) as found:
            self._items = [item for subset in subsets for item in _items(self._root, subset, categories, labels, found)]
        self.image_ids: Sequence[str] = [item.image_id for item in self._items]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DatasetError: a file is missing, corrupt or contradicts another one.
        """
        item = self._items[index]
        image_path = self._root.listed(item.image_path.parents[1], item.image_path)
        if isinstance(item.label, Path):
            label_path = self._root.listed(item.label.parents[1], item.label)
            return _read_instance_ids(item.image_id, image_path, label_path, self.categories)
        if item.label is None:
            return Sample(
                image_id=item.image_id,
                image=read_image(image_path),
                panoptic_map=None,
                segments_info=[],
                image_path=image_path,
            )
        panoptic_index, position = item.label
        return read_panoptic_sample(
            panoptic_index,
            position,
            image_path=image_path,
            label_folder=panoptic_index.path.with_suffix(""),
            root=self._root,
            categories=self.categories,
        )


class _Item(NamedTuple):
    image_id: str
    image_path: Path
    label: Path | tuple[PanopticIndex, int] | None
    """An `instanceIds` file, or a place in a panoptic JSON."""


def _items(
    root: SetRoot,
    subset: str,
    categories: CategoryTable,
    labels: Literal["auto", "instance_ids", "panoptic_json"],
    problems: Problems,
) -> list[_Item]:
    image_folder, label_folder = root.folder / "leftImg8bit" / subset, root.folder / "gtFine" / subset
    json_path = root.folder / "gtFine" / f"cityscapes_panoptic_{subset}.json"
    images, others = _paths(image_folder, _IMAGE_TAIL, problems)
    for path in others:
        fault = f"is not read. Expected names that end in {_IMAGE_TAIL}.png; rename or remove it."
        problems.add(f"{image_folder} other", path, fault)
    if not images:
        raise DatasetError(f"There are no images {image_folder}/<city>/*{_IMAGE_TAIL}.png. Is the root folder right?")
    if subset == "test":
        return [_Item(image_id, path, None) for image_id, path in images.items()]

    id_maps = {} if labels == "panoptic_json" else _paths(label_folder, _LABEL_TAIL, problems)[0]
    if id_maps:
        # The union of both: what only one of them has is a problem.
        for image_id in sorted(images.keys() ^ id_maps.keys()):
            path, missing = (images[image_id], "label") if image_id in images else (id_maps[image_id], "image")
            fault = f"is there, but its {missing} is not. Complete the download, or remove the file."
            problems.add(f"{label_folder} no {missing}", path, fault, image_id=image_id)
        return [
            _Item(
                image_id,
                images.get(image_id, image_folder / f"*/{image_id}{_IMAGE_TAIL}.png"),
                id_maps.get(image_id, label_folder / f"*/{image_id}{_LABEL_TAIL}.png"),
            )
            for image_id in sorted(images.keys() | id_maps.keys())
        ]
    if labels == "instance_ids" or not json_path.is_file():
        raise DatasetError(
            f"There are no labels of split {subset!r}. Expected {label_folder}/<city>/*{_LABEL_TAIL}.png or"
            f" {json_path}; gtFine_trainvaltest.zip of the Cityscapes download brings the first."
        )
    index = read_panoptic_json(json_path, categories, root, problems)
    unlisted = images.keys() - set(index.image_ids)
    if unlisted:
        fault = (
            f"does not list {len(unlisted)} of the images in {image_folder}, among them {min(unlisted)}. Make the JSON"
            " again with createPanopticImgs.py, or delete it to read the instanceIds files."
        )
        problems.add(f"{json_path} unlisted", json_path, fault)
    # The file names in this JSON are not those of the images (they contain `_gtFine`), so the ids lead to them.
    for image_id in index.image_ids:
        if image_id not in images:
            fault = f"is listed, but no image {image_folder}/<city>/{image_id}{_IMAGE_TAIL}.png is there."
            problems.add(f"{json_path} no image", json_path, fault, place=f"image {image_id}", image_id=image_id)
    return [
        _Item(image_id, images.get(image_id, image_folder / "*" / "*"), (index, position))
        for position, image_id in enumerate(index.image_ids)
    ]


def _read_instance_ids(image_id: str, image_path: Path, label_path: Path, categories: CategoryTable) -> Sample:
    image = read_image(image_path)
    raw_map = read_id_label(label_path)
    check_same_size(image, raw_map, image_path=image_path, label_path=label_path)
    raw_segments = []
    for value in np.flatnonzero(np.bincount(raw_map.reshape(-1))).tolist():
        if value == VOID_ID:  # Cityscapes' id 0, "unlabeled"
            continue
        numbered = value >= _INSTANCE_DIVISOR
        dataset_id = value // _INSTANCE_DIVISOR if numbered else value
        train_id = categories.train_id_by_dataset_id.get(dataset_id)
        iscrowd = not numbered and train_id is not None and categories[train_id].isthing
        raw_segments.append(RawSegment(value, dataset_id, iscrowd))
    panoptic_map, segments_info = translate_labels(raw_map, raw_segments, categories=categories, where=str(label_path))
    return Sample(
        image_id=image_id,
        image=image,
        panoptic_map=panoptic_map,
        segments_info=segments_info,
        image_path=image_path,
    )


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
