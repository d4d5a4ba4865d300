"""From the `data` section of a configuration to the reader of its format."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.data.formats.cityscapes import CityscapesSource
from panoptic_deeplab.data.formats.coco_instances import CocoInstancesSource
from panoptic_deeplab.data.formats.coco_panoptic import CocoPanopticSource
from panoptic_deeplab.data.formats.common.drawn import DrawnSource
from panoptic_deeplab.data.formats.cvat import CvatSource
from panoptic_deeplab.data.formats.folder import FolderSource
from panoptic_deeplab.data.formats.labelme import LabelmeSource
from panoptic_deeplab.data.formats.mapillary_vistas import MapillaryVistasSource
from panoptic_deeplab.data.formats.mask_folders import ColorMasksSource, LabelImagesSource, VocSource
from panoptic_deeplab.data.formats.object_masks import ObjectMasksSource
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.formats.yolo import YoloSource
from panoptic_deeplab.data.held_out import part_of
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import ConfigError, DatasetError

FORMATS: Mapping[str, Callable[..., PanopticSource]] = MappingProxyType(
    {
        "coco_panoptic": CocoPanopticSource,
        "coco_instances": CocoInstancesSource,
        "cityscapes": CityscapesSource,
        "mapillary_vistas": MapillaryVistasSource,
        "folder": FolderSource,
        "label_images": LabelImagesSource,
        "color_masks": ColorMasksSource,
        "voc": VocSource,
        "object_masks": ObjectMasksSource,
        "labelme": LabelmeSource,
        "cvat": CvatSource,
        "yolo": YoloSource,
    }
)
"""The reader of each format on disk, `(root, split, categories, *, outside_root, problems)`; a `DrawnSource` takes
`overlap` too. A new one is a `ListedSource`, a line here and its name in `DataConfig.format`; one of your own goes to
`train` and `evaluate` as a source, without a name."""

SYNTHETIC_TRAIN_IMAGES = 400
SYNTHETIC_OTHER_IMAGES = 40


def open_source(data: DataConfig, split: str, problems: Problems | None = None) -> PanopticSource:
    """Open a split of the set that a configuration names.

    The synthetic set has any split: its name chooses the scenes (`train` and `val` share none), and a number after a
    colon how many there are (`val:16`). Without one, `data.train_split` has 400 and every other split 40.

    Args:
        data: format, root and category table.
        split: name of the split.
        problems: takes what is wrong with the files of the split; without it, that is raised.

    Raises:
        ConfigError: the category table does not exist or cannot be used with the format.
        DatasetError: there is no folder of the set, or the files of the split cannot be found or are wrong.
    """
    categories = CategoryTable.load(data.categories)
    if data.void_ids is not None:
        categories = replace(categories, void_ids=data.void_ids)
    if data.held_out is not None and split in (data.train_split, data.val_split):
        whole = open_source(replace(data, held_out=None), data.train_split, problems)
        return part_of(whole, Path(data.held_out), held_out=split == data.val_split)
    if data.format == "synthetic":
        return _synthetic(data, split, categories)
    root = Path(data.root).expanduser()
    if not root.is_dir():
        raise DatasetError(f"There is no folder {root.absolute()}. Set data.root to the folder of the set.")
    reader = FORMATS[data.format]
    drawn = {"overlap": data.overlap} if isinstance(reader, type) and issubclass(reader, DrawnSource) else {}
    return reader(root, split, categories, outside_root=data.outside_root, problems=problems, **drawn)


def _synthetic(data: DataConfig, split: str, categories: CategoryTable) -> SyntheticSource:
    name, _, count = split.partition(":")
    if count and not (count.isdecimal() and int(count) > 0):
        raise ConfigError(f"Split {split!r} of the synthetic set must be a name or `name:count`, as `val:16`.")
    default = SYNTHETIC_TRAIN_IMAGES if split == data.train_split else SYNTHETIC_OTHER_IMAGES
    return SyntheticSource(int(count or default), seed=zlib.crc32(name.encode()), categories=categories)
