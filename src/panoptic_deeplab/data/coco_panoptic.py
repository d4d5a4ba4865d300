"""COCO panoptic format: one JSON a split, and one PNG an image whose colours are segment ids.

    root/
    ├── annotations/panoptic_{split}.json
    ├── annotations/panoptic_{split}/*.png      or root/panoptic_{split}/*.png: people put them in either place
    └── {split}/*.jpg                           or root/images/{split}/*.jpg

COCO itself has the splits `train2017` and `val2017`. A split without labels is read from
`annotations/image_info_{split}.json` (`test2017`, `test-dev2017`), COCO's list of images.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.images import check_same_size, read_image, read_rgb_label
from panoptic_deeplab.data.labels import RawSegment, translate_labels
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.encoding import rgb_to_id
from panoptic_deeplab.errors import DatasetError


@dataclass(frozen=True, kw_only=True, eq=False)
class PanopticIndex:
    """The contents of a panoptic JSON that loading needs, in arrays: COCO's 118,287 images take about 40 MB."""

    path: Path
    image_ids: list[str]
    image_files: list[str]
    """`file_name` of each image."""
    label_files: list[str | None]
    """`file_name` of each PNG; None where the JSON has no annotation for the image."""
    segment_ranges: Int64[np.ndarray, "images 2"]
    """Where an image's rows of `segments` begin and end."""
    segments: Int64[np.ndarray, "segments 4"]
    """`id, category_id, iscrowd, area` as written in the file; area is -1 where absent."""
    has_labels: bool

    def raw_segments(self, index: int) -> list[RawSegment]:
        """Segments of image number `index`."""
        begin, end = self.segment_ranges[index]
        return [RawSegment(id_, category, bool(crowd)) for id_, category, crowd, _ in self.segments[begin:end].tolist()]


class CocoPanopticSource:
    """A split in COCO panoptic format. The JSON is read once, images and labels when they are asked for.

    Args:
        root: folder of the set.
        split: name in the paths above, as `train2017`.
        categories: table to translate into; its dataset ids are the `category_id`s of the JSON.

    Raises:
        DatasetError: the JSON or a folder is missing, the JSON is no panoptic JSON, or its categories contradict the
            table.
    """

    def __init__(self, root: str | Path, split: str, categories: CategoryTable) -> None:
        root = Path(root)
        self.categories = categories
        annotations = root / "annotations"
        json_path = annotations / f"panoptic_{split}.json"
        if not json_path.is_file() and (annotations / f"image_info_{split}.json").is_file():
            json_path = annotations / f"image_info_{split}.json"
        self.index = read_panoptic_json(json_path, categories)
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

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DatasetError: a file is missing, corrupt or contradicts another one.
        """
        image_path = self.image_folder / self.index.image_files[index]
        return read_panoptic_sample(
            self.index, index, image_path=image_path, label_folder=self.label_folder, categories=self.categories
        )


def read_panoptic_sample(
    index: PanopticIndex,
    position: int,
    *,
    image_path: Path,
    label_folder: Path | None,
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
        raise DatasetError(f"{index.path} lists image {image_id} ({image_path.name}) without an annotation.")
    label_path = label_folder / label_file
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


def read_panoptic_json(path: Path, categories: CategoryTable) -> PanopticIndex:
    """Read a panoptic JSON and hold its categories against the table.

    A JSON without the key `annotations` is a list of images without labels.

    Raises:
        DatasetError: the file is missing or no panoptic JSON, lists an image or annotation twice, or names a category
            differently than the table.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path} does not exist. Expected the COCO panoptic format: annotations/panoptic_<split>.json in the root"
            " folder of the set."
        )
    try:
        data = json.loads(path.read_bytes())
        check_categories(data.get("categories", []), categories, path)
        return _index(data, path)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(
            f"{path} is no panoptic JSON ({type(error).__name__}: {error}). Expected `images` (id, file_name),"
            " `annotations` (image_id, file_name, segments_info) and `categories`."
        ) from error


def _index(data: Mapping[str, Any], path: Path) -> PanopticIndex:
    images = data["images"]
    image_ids = [str(image["id"]) for image in images]
    position = {image_id: i for i, image_id in enumerate(image_ids)}
    if len(position) < len(image_ids):
        raise DatasetError(f"{path} lists an image id twice; {len(image_ids) - len(position)} entries are repeated.")

    label_files: list[str | None] = [None] * len(images)
    ranges = np.zeros((len(images), 2), np.int64)
    rows: list[tuple[int, int, int, int]] = []
    for annotation in data.get("annotations", []):
        image_id = str(annotation["image_id"])
        if image_id not in position:
            raise DatasetError(f"{path} has an annotation for image {image_id}, which is not among its images.")
        i = position[image_id]
        if label_files[i] is not None:
            raise DatasetError(f"{path} has two annotations for image {image_id}. Expected one an image.")
        label_files[i] = str(annotation["file_name"])
        begin = len(rows)
        rows.extend(
            (int(s["id"]), int(s["category_id"]), int(s.get("iscrowd", 0)), int(s.get("area", -1)))
            for s in annotation["segments_info"]
        )
        ranges[i] = begin, len(rows)
    return PanopticIndex(
        path=path,
        image_ids=image_ids,
        image_files=[str(image["file_name"]) for image in images],
        label_files=label_files,
        segment_ranges=ranges,
        segments=np.array(rows, np.int64).reshape(-1, 4),
        has_labels="annotations" in data,
    )


def check_categories(rows: Iterable[Mapping[str, Any]], categories: CategoryTable, path: Path) -> None:
    """A table of another set would give every segment a wrong name without any other sign."""
    for row in rows:
        train_id = categories.train_id_by_dataset_id.get(int(row["id"]))
        if train_id is None:
            continue  # an error only when a segment uses the id, and then the image is named
        category = categories[train_id]
        isthing = bool(row.get("isthing", category.isthing))
        name = str(row.get("name", category.name))
        renamed = not category.dataset_ids and name.lower() != category.name.lower()
        if renamed or isthing != category.isthing:
            raise DatasetError(
                f"{path} calls category {row['id']} {name!r} ({'thing' if isthing else 'stuff'}), but the table"
                f" {categories.name!r} has {category.name!r} ({'thing' if category.isthing else 'stuff'}) there."
                " Choose the table of this data set (data.categories)."
            )


def _existing_folder(candidates: Sequence[Path], *, what: str) -> Path:
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise DatasetError(f"There is no folder of {what}. Expected one of: {', '.join(str(c) for c in candidates)}.")
