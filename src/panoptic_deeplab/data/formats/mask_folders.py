"""Folders of masks that other programs write: what `folder` reads, at the places where they put it.

| format         | a mask holds                       | where it lies                                  |
|----------------|------------------------------------|------------------------------------------------|
| `label_images` | a number for each object, 0 = none | beside the image or in a folder of masks       |
| `color_masks`  | a class, by the table's colors     | the same                                       |
| `voc`          | both, in two files                 | `SegmentationObject/` and `SegmentationClass/` |

    root/{split}/a.tif, root/{split}/a_masks.tif          cellpose (`a_img.tif` and `a_masks.tif` too), Roboflow
    root/{split}/images/a.png, root/{split}/masks/a.png   StarDist; or `labels/`
    root/images/{split}/a.png, root/masks/{split}/a.png   or `labels/`; with a list `{split}.txt`, without `{split}`
    root/{split}/a.png, root/{split}_masks/a.png          or `{split}_labels`, `{split}annot` (CamVid)

    root/JPEGImages/a.jpg, root/SegmentationClass/a.png, root/SegmentationObject/a.png, and
    root/ImageSets/Segmentation/{split}.txt               Pascal VOC; CVAT's "Segmentation mask", with labelmap.txt

`label_images` needs a table with one thing class, as instance maps alone do everywhere. Masks with numbers in them are
read by `color_masks` too: they are category ids. Things of `color_masks` are crowd, since nothing tells two of them
apart.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

from panoptic_deeplab.data.formats.common.folder_files import Layout
from panoptic_deeplab.data.formats.common.label_colors import Color, labelmap_colors, table_colors
from panoptic_deeplab.data.formats.folder import FolderSource
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import existing_file

_IMAGES = ("images", "images/{}", "{}/images", "{}")
_MASKS = ("masks", "labels", "masks/{}", "labels/{}", "{}/masks", "{}/labels", "{}_masks", "{}_labels", "{}annot")


class LabelImagesSource(FolderSource):
    """Label images: a number for each object."""

    layout: ClassVar[Layout] = Layout(("{}.txt",), _IMAGES, {"instances": _MASKS}, beside=True)


class ColorMasksSource(FolderSource):
    """Class maps by color."""

    layout: ClassVar[Layout] = Layout(("{}.txt",), _IMAGES, {"semantic": _MASKS}, beside=True)
    palette: ClassVar[bool] = True


class VocSource(FolderSource):
    """Pascal VOC: a class map and an object map, by palette indices or colors."""

    layout: ClassVar[Layout] = Layout(
        ("ImageSets/Segmentation/{}.txt", "{}.txt"),
        ("JPEGImages",),
        {"semantic": ("SegmentationClass",), "instances": ("SegmentationObject",)},
    )

    @cached_property
    def _colors(self) -> Mapping[Color, int]:
        path = existing_file(self._root.folder / "labelmap.txt", error=DatasetError)
        return table_colors(self.categories) if path is None else labelmap_colors(path, self.categories)
