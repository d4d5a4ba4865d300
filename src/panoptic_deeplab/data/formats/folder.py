"""The easy format for one's own data: a folder of images, one of instance maps, one of semantic maps.

    root/
    ├── images/street_1.jpg ...       any format that Pillow reads: `images.IMAGE_SUFFIXES`
    ├── instances/street_1.png ...    whole numbers: 0 = no instance, 1..N = one instance each; or a color each
    ├── semantic/street_1.png ...     whole numbers or palette: category ids of the table; or RGB: its colors
    └── {split}.txt                   file names, with or without suffix, a line each

Without `{split}.txt` the files are in `images/{split}/`, `instances/{split}/` and `semantic/{split}/`. Labels are PNG,
TIFF, BMP or TGA, and may all have one tail behind the name of the image (`street_1_mask.png`). Either label folder may
be missing, and a split none of whose images has a label file is a split without labels; but an image without a label
that others have, a label of no image, and a folder whose files nothing reads are errors (`folder_files.py`).

What a pixel becomes:

| instance | semantic    | label                                                                          |
|----------|-------------|--------------------------------------------------------------------------------|
| i > 0    | thing       | instance i; all its pixels must have one class                                   |
| 0        | stuff       | stuff                                                                            |
| 0        | thing       | crowd: things that nobody separated                                              |
| any      | void id     | void; an instance must be void as a whole                                        |
| i > 0    | (no folder) | instance i of the table's only thing class                                       |
| 0        | (no folder) | `unlabeled` of the table, or its only stuff class; void where it has no stuff    |

Numbers that mean void (often 0 or 255) belong in `void_ids` of the table; a number that the table does not list is an
error.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int32, Int64, Integer, UInt8

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.common.folder_files import FOLDER, Layout, find_files
from panoptic_deeplab.data.formats.common.label_colors import (
    NO_CLASS,
    Color,
    ids_of_colors,
    objects_of_colors,
    table_colors,
)
from panoptic_deeplab.data.formats.common.listed import Labels, ListedSource
from panoptic_deeplab.data.label_files import check_same_size, read_colored_label
from panoptic_deeplab.data.labels import RawSegment, translate_labels
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import VOID_ID
from panoptic_deeplab.results.panoptic_result import Segment
from panoptic_deeplab.results.run_lengths import find_runs


class FolderSource(ListedSource):
    """Images with instance maps, semantic maps or both, in the layout above; see `ListedSource`.

    `split` is the name of `{split}.txt` or of the sub-folders. Dataset ids of the table are the numbers in the semantic
    maps; with instance maps alone it must have exactly one thing class, and at most one stuff class unless it has
    `unlabeled`.
    """

    layout: ClassVar[Layout] = FOLDER
    palette: ClassVar[bool] = False
    """Labels with a palette mean its colors; else its indices are numbers."""

    def _list(self, split: str, problems: Problems) -> Sequence[str]:
        self._files = find_files(self._root.folder, split, problems, self.layout)
        if list(self._files.labels) == ["instances"]:
            only_classes(self.categories)
        return list(self._files.images)

    def _image_path(self, index: int) -> Path:
        return self._root.listed(self._files.image_folder, self._files.images[self.image_ids[index]])

    def _labels(self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path) -> Labels:
        image_id = self.image_ids[index]
        maps: dict[str, Int32[np.ndarray, "H W"]] = {}
        label_paths: list[Path] = []
        for kind, labels in self._files.labels.items():
            folder = self._files.label_folders[kind]
            label_paths.append(labels.get(image_id, folder / f"{image_id}.png"))
            label_path = self._root.listed(folder, label_paths[-1])
            label = read_colored_label(label_path, palette=self.palette)
            check_same_size((image.shape[0], image.shape[1]), label, image_path=image_path, label_path=label_path)
            if label.ndim == 2:
                maps[kind] = label
            elif kind == "instances":
                maps[kind] = objects_of_colors(label)
            else:
                maps[kind] = ids_of_colors(label, self._colors, self.categories, where=label_path)
        if not maps:
            return None, []
        return labels_from_maps(
            maps.get("instances", np.zeros(image.shape[:2], np.int32)),
            maps.get("semantic"),
            categories=self.categories,
            where=" and ".join(str(path) for path in label_paths),
        )

    @cached_property
    def _colors(self) -> Mapping[Color, int]:
        """Dataset id of each color in class maps."""
        return table_colors(self.categories)

    def label_paths(self, image_id: str) -> list[Path]:
        """Where the labels of an image belong, one path a kind; kinds may be missing."""
        return [self._files.label_folders[kind] / f"{image_id}.png" for kind in self.layout.labels]


def labels_from_maps(
    instance_map: Int32[np.ndarray, "H W"],
    semantic_map: Int32[np.ndarray, "H W"] | None,
    *,
    categories: CategoryTable,
    where: str,
) -> tuple[Int32[np.ndarray, "H W"], list[Segment]]:
    """Join an instance map and a semantic map to a panoptic label, by the table in the module's docstring.

    Args:
        instance_map: 0 = no instance, other numbers one instance each.
        semantic_map: dataset ids; None = the only thing and stuff class of the table.
        categories: the table.
        where: the files, for messages.

    Returns:
        `panoptic_map` (instances keep their number) and `segments_info`.

    Raises:
        DatasetError: an instance has two classes or lies on stuff, or a number is not in the table.
    """
    if semantic_map is None:
        thing, stuff = only_classes(categories)
        semantic_map = np.where(instance_map > 0, thing, stuff)
    keys = instance_map.astype(np.int64) << 32 | (semantic_map.astype(np.int64) - NO_CLASS)
    runs = find_runs(keys)
    unique_keys, key_of_run = np.unique(runs.of(keys), return_inverse=True)
    instances, classes = unique_keys >> 32, (unique_keys & 2**32 - 1) + NO_CLASS
    _check_pairs(instances, classes, categories=categories, where=where)

    # Regions without an instance number get numbers above all instances.
    raw_ids = instances.copy()
    without_number = (instances == 0) & (classes != NO_CLASS)
    raw_ids[without_number] = instances.max(initial=0) + 1 + np.arange(without_number.sum())
    raw_map = runs.spread(raw_ids[key_of_run.reshape(-1)])
    raw_segments = {}
    for raw_id, instance, dataset_id in zip(raw_ids.tolist(), instances.tolist(), classes.tolist(), strict=True):
        if raw_id != VOID_ID:
            train_id = categories.train_id_by_dataset_id.get(dataset_id)
            iscrowd = instance == 0 and train_id is not None and categories[train_id].isthing
            raw_segments[raw_id] = RawSegment(raw_id, dataset_id, iscrowd)
    return translate_labels(raw_map, list(raw_segments.values()), categories=categories, where=where)


def _check_pairs(
    instances: Int64[np.ndarray, " P"], classes: Integer[np.ndarray, " P"], *, categories: CategoryTable, where: str
) -> None:
    """Raise where an instance has two classes of the table, or a stuff class."""
    train_id_of_instance: dict[int, int | None] = {}
    for instance, dataset_id in zip(instances.tolist(), classes.tolist(), strict=True):
        if instance == 0:
            continue
        if dataset_id == NO_CLASS:
            raise DatasetError(f"{where}: instance {instance} has no class. Expected one for all of its pixels.")
        train_id = categories.train_id_by_dataset_id.get(dataset_id)
        if train_id is not None and not categories[train_id].isthing:
            raise DatasetError(
                f"{where}: instance {instance} lies on the stuff class {categories[train_id].name!r} (id {dataset_id})."
                " Expected instance number 0 on stuff."
            )
        if train_id_of_instance.setdefault(instance, train_id) != train_id:
            of_instance = sorted({int(c) for c in classes[instances == instance]})
            raise DatasetError(
                f"{where}: instance {instance} has pixels of several categories {of_instance}. Expected one category an"
                " instance; give each instance a number of its own."
            )


def only_classes(categories: CategoryTable) -> tuple[int, int]:
    """Dataset ids of the only thing class, and of the class around it: `unlabeled`, or the only stuff class.

    Returns:
        The second is `NO_CLASS` where the table has no stuff: such pixels are void.

    Raises:
        DatasetError: the table has several thing classes, or several stuff classes none of which is `unlabeled`.
    """
    things = [c for c in categories.categories if c.isthing]
    stuff = [c for c in categories.categories if not c.isthing]
    if len(things) != 1 or (len(stuff) > 1 and categories.unlabeled is None):
        raise DatasetError(
            "Labels that say no classes need a table with one thing class, and one stuff class at most or its name in"
            f" `unlabeled`. Table {categories.name!r} has {len(things)} and {len(stuff)}; add a folder semantic/ or"
            " choose another."
        )
    thing, *around = [(c.dataset_ids or (c.id,))[0] for c in [*things, *stuff]]
    if categories.unlabeled_id is not None:
        return thing, categories.unlabeled_id
    return thing, around[0] if around else NO_CLASS
