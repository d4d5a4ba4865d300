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

from panoptic_deeplab.data.formats.common.coco_entries import warn_of_unlisted
from panoptic_deeplab.data.formats.common.listed import Labels, ListedSource
from panoptic_deeplab.data.formats.common.panoptic_json import read_panoptic_json
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import existing_file


class CocoPanopticSource(ListedSource):
    """A split in COCO panoptic format; see `ListedSource`. The JSON is read once, images and labels when asked for.

    `split` is the name in the paths above, as `train2017`; dataset ids of the table are the `category_id`s of the JSON.
    """

    def _list(self, split: str, problems: Problems) -> Sequence[str]:
        root, annotations = self._root.folder, self._root.folder / "annotations"
        places = (annotations / f"panoptic_{split}.json", annotations / f"image_info_{split}.json")
        found = filter(None, (existing_file(path, error=DatasetError) for path in places))
        self.index = read_panoptic_json(next(found, places[0]), self.categories, self._root, problems)
        names = dict.fromkeys([split, split.replace("-dev", "")])  # the images of test-dev2017 are in test2017
        self.image_folder = _existing_folder(
            [folder for name in names for folder in (root / name, root / "images" / name)], what="images"
        )
        self.label_folder = (
            _existing_folder([annotations / f"panoptic_{split}", root / f"panoptic_{split}"], what="label PNG files")
            if self.index.has_labels
            else None
        )
        return self.index.image_ids

    def _remark(self, problems: Problems) -> None:
        if self.index.has_labels:
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
