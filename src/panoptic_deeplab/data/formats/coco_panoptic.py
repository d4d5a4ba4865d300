"""COCO panoptic format: one JSON a split, and one PNG an image whose colors are segment ids.

    root/
    ├── annotations/panoptic_{split}.json
    ├── annotations/panoptic_{split}/*.png      or root/panoptic_{split}/*.png: people put them in either place
    └── {split}/*.jpg                           or root/images/{split}/*.jpg

COCO itself has the splits `train2017` and `val2017`. A split without labels is read from
`annotations/image_info_{split}.json` (`test2017`, `test-dev2017`), COCO's list of images.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.coco_entries import warn_of_unlisted
from panoptic_deeplab.data.formats.listed import Labels, ListedSource
from panoptic_deeplab.data.formats.panoptic_json import read_panoptic_json
from panoptic_deeplab.data.problems import Problems, collected
from panoptic_deeplab.errors import DatasetError


class CocoPanopticSource(ListedSource):
    """A split in COCO panoptic format. The JSON is read once, images and labels when they are asked for.

    Args:
        root: folder of the set.
        split: name in the paths above, as `train2017`.
        categories: table to translate into; its dataset ids are the `category_id`s of the JSON.
        outside_root: names and links in the set may lead out of `root`.
        problems: takes what is wrong with the JSON; without it, that is raised.

    Raises:
        DatasetError: the JSON or a folder is missing, or the JSON is no panoptic JSON; or, where nobody collects
            `problems`, an entry is wrong or contradicts another one or the table.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        categories: CategoryTable,
        *,
        outside_root: bool = False,
        problems: Problems | None = None,
    ) -> None:
        root = Path(root)
        super().__init__(root, categories, outside_root=outside_root)
        annotations = root / "annotations"
        json_path = annotations / f"panoptic_{split}.json"
        if not json_path.is_file() and (annotations / f"image_info_{split}.json").is_file():
            json_path = annotations / f"image_info_{split}.json"
        with collected(problems) as found:
            self.index = read_panoptic_json(json_path, categories, self._root, found)
        self.image_ids: Sequence[str] = self.index.image_ids
        names = dict.fromkeys([split, split.replace("-dev", "")])  # the images of test-dev2017 are in test2017
        self.image_folder = _existing_folder(
            [folder for name in names for folder in (root / name, root / "images" / name)], what="images"
        )
        self.label_folder = (
            _existing_folder([annotations / f"panoptic_{split}", root / f"panoptic_{split}"], what="label PNG files")
            if self.index.has_labels
            else None
        )
        if problems is not None and self.index.has_labels:
            warn_of_unlisted(self.image_folder, self.index, problems)

    def _image_path(self, index: int) -> Path:
        where = f"{self.index.path} (image {self.image_ids[index]})"
        return self._root.inside(self.image_folder, self.index.image_files[index], where=where)

    def _labels(self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path) -> Labels:
        if self.label_folder is None:
            self.index.check_size(index, (image.shape[0], image.shape[1]), image_path)
            return None, []
        return self._panoptic_labels(self.index, index, self.label_folder, image, image_path)


def _existing_folder(candidates: Sequence[Path], *, what: str) -> Path:
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise DatasetError(f"There is no folder of {what}. Expected one of: {', '.join(str(c) for c in candidates)}.")
