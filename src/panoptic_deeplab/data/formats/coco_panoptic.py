"""COCO panoptic format: one JSON a split, and one PNG an image whose colours are segment ids.

    root/
    ├── annotations/panoptic_{split}.json
    ├── annotations/panoptic_{split}/*.png      or root/panoptic_{split}/*.png: people put them in either place
    └── {split}/*.jpg                           or root/images/{split}/*.jpg

COCO itself has the splits `train2017` and `val2017`. A split without labels is read from
`annotations/image_info_{split}.json` (`test2017`, `test-dev2017`), COCO's list of images.
"""

from collections.abc import Sequence
from pathlib import Path

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.panoptic_json import PanopticIndex, read_panoptic_json
from panoptic_deeplab.data.label_files import check_same_size, read_image, read_rgb_label
from panoptic_deeplab.data.labels import translate_labels
from panoptic_deeplab.data.problems import Problems, collected
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.data.set_root import SetRoot
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.images.read import image_files
from panoptic_deeplab.results.ids import rgb_to_id


class CocoPanopticSource:
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
        self.categories = categories
        self._root = SetRoot(root, outside_root)
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
            listed = set(self.index.image_files)
            others = [path.name for path in image_files(self.image_folder) if path.name not in listed]
            if others:
                more = f" and {len(others) - 1} more" if len(others) > 1 else ""
                problems.warnings.append(
                    f"There are images in {self.image_folder} that {json_path} does not list: {others[0]}{more}. They"
                    " are not read."
                )

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DatasetError: a file is missing, corrupt or contradicts another one.
        """
        image_path = self._root.inside(
            self.image_folder,
            self.index.image_files[index],
            where=f"{self.index.path} (image {self.image_ids[index]})",
        )
        return read_panoptic_sample(
            self.index,
            index,
            image_path=image_path,
            label_folder=self.label_folder,
            root=self._root,
            categories=self.categories,
        )


def read_panoptic_sample(
    index: PanopticIndex,
    position: int,
    *,
    image_path: Path,
    label_folder: Path | None,
    root: SetRoot,
    categories: CategoryTable,
) -> Sample:
    """Read image and label PNG number `position` of a panoptic JSON; without a label folder, the image alone.

    Raises:
        DatasetError: a file is missing, corrupt or contradicts another one.
    """
    image_id = index.image_ids[position]
    image = read_image(image_path)
    if label_folder is None:
        return Sample(image_id=image_id, image=image, panoptic_map=None, segments_info=[], image_path=image_path)
    label_file = index.label_files[position]
    if label_file is None:
        raise DatasetError(f"{index.path} lists image {image_id} without an annotation that can be used.")
    label_path = root.inside(label_folder, label_file, where=f"{index.path} (annotation of image {image_id})")
    if not label_path.is_file():
        raise DatasetError(
            f"The label {label_path} of image {image_id} does not exist. COCO's archive holds zip files inside a zip"
            " file: extract those too, completely."
        )
    raw_map = rgb_to_id(read_rgb_label(label_path))
    check_same_size(image, raw_map, image_path=image_path, label_path=label_path)
    panoptic_map, segments_info = translate_labels(
        raw_map,
        index.raw_segments(position),
        categories=categories,
        where=f"{label_path} (image {image_id} of {index.path.name})",
    )
    return Sample(
        image_id=image_id,
        image=image,
        panoptic_map=panoptic_map,
        segments_info=segments_info,
        image_path=image_path,
    )


def _existing_folder(candidates: Sequence[Path], *, what: str) -> Path:
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise DatasetError(f"There is no folder of {what}. Expected one of: {', '.join(str(c) for c in candidates)}.")
