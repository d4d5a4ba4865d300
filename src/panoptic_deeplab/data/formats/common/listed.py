"""What the readers of files have in common: a list of images, and the way from files to a sample."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.common.panoptic_json import PanopticIndex
from panoptic_deeplab.data.label_files import (
    case_twin,
    check_same_size,
    read_id_label,
    read_image_channels,
    read_rgb_label,
    read_upright_image,
)
from panoptic_deeplab.data.labels import RawSegment, translate_labels
from panoptic_deeplab.data.problems import Problems, collected
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.data.set_root import SetRoot
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.images.intensity import viewable
from panoptic_deeplab.results.ids import rgb_to_id
from panoptic_deeplab.results.panoptic_result import Segment

Labels = tuple[Int32[np.ndarray, "H W"] | None, list[Segment]]
"""`panoptic_map` and `segments_info` of a sample; None and nothing without labels."""


class ListedSource(ABC):
    """A split of a set in files, which are listed once and read when they are asked for.

    A reader of a format says three things: which images there are (`_list`), where one lies (`_image_path`), and what
    its labels are (`_labels`).

    Args:
        root: folder of the set.
        split: name of the split; the reader says where it stands.
        categories: table to translate into.
        outside_root: names and links in the set may lead out of `root`.
        problems: takes what is wrong with the files; without it, that is raised.

    Raises:
        DatasetError: there is no such split, or its files cannot be read; or, where nobody collects `problems`, a file
            is missing, is wrong, or contradicts another one or the table.
    """

    image_ids: Sequence[str]

    def __init__(
        self,
        root: str | Path,
        split: str,
        categories: CategoryTable,
        *,
        outside_root: bool = False,
        problems: Problems | None = None,
    ) -> None:
        self.categories = categories
        self._root = SetRoot(Path(root), outside_root)
        with collected(problems) as found:
            self.image_ids = self._list(split, found)
        if problems is not None:
            self._remark(problems)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DatasetError: a file is missing, corrupt or contradicts another one.
        """
        image_path = self._image_path(index)
        channels = read_image_channels(image_path)
        pixels = read_upright_image(image_path) if channels is None else channels
        image = viewable(pixels, where=str(image_path))
        panoptic_map, segments_info = self._labels(index, image, image_path)
        return Sample(
            image_id=self.image_ids[index],
            image=image,
            panoptic_map=panoptic_map,
            segments_info=segments_info,
            image_path=image_path,
            has_channels=channels is not None,
            deep_image=None if pixels.dtype == np.uint8 and pixels.shape[2] == 3 else pixels,
        )

    @abstractmethod
    def _list(self, split: str, problems: Problems) -> Sequence[str]:
        """List the images of a split, and keep what the other methods need.

        Args:
            split: name of the split.
            problems: takes everything that can be known to be wrong without opening an image.

        Returns:
            The image ids.

        Raises:
            DatasetError: there is no such split, or its files cannot be read.
        """

    def _remark(self, problems: Problems) -> None:  # noqa: B027 (most formats have nothing to say)
        """Warn of what is no fault and takes long to find; only for somebody who collects `problems`."""

    @abstractmethod
    def _image_path(self, index: int) -> Path:
        """The file of image number `index`, links followed."""

    @abstractmethod
    def _labels(self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path) -> Labels:
        """Its labels."""

    def _id_label(
        self, folder: Path, path: Path, image: UInt8[np.ndarray, "H W 3"], image_path: Path
    ) -> Int32[np.ndarray, "H W"]:
        """Read a map of numbers, found in `folder`, for an image."""
        label_path = self._root.listed(folder, path)
        values = read_id_label(label_path)
        check_same_size(_size(image), values, image_path=image_path, label_path=label_path)
        return values

    def _translated(self, raw_map: Int32[np.ndarray, "H W"], segments: list[RawSegment], where: Path | str) -> Labels:
        return translate_labels(raw_map, segments, categories=self.categories, where=str(where))

    def _panoptic_labels(
        self,
        index: PanopticIndex,
        position: int,
        label_folder: Path,
        image: UInt8[np.ndarray, "H W 3"],
        image_path: Path,
    ) -> Labels:
        """Read label PNG number `position` of a panoptic JSON."""
        image_id, label_file = index.image_ids[position], index.label_files[position]
        if label_file is None:
            raise DatasetError(f"{index.path} lists image {image_id} without an annotation that can be used.")
        where = f"{index.path} (annotation of image {image_id})"
        label_path = self._root.inside(label_folder, label_file, where=where)
        if not label_path.is_file() and case_twin(label_path) is None and not label_path.is_dir():
            raise DatasetError(
                f"The label {label_path} of image {image_id} does not exist. COCO's archive holds zip files inside a"
                " zip file: extract those too, completely."
            )
        raw_map = rgb_to_id(read_rgb_label(label_path))
        check_same_size(_size(image), raw_map, image_path=image_path, label_path=label_path)
        index.check_size(position, _size(image), image_path)
        where = f"{label_path} (image {image_id} of {index.path.name})"
        return self._translated(raw_map, index.raw_segments(position), where)


def _size(image: UInt8[np.ndarray, "H W 3"]) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


class PanopticPlace(NamedTuple):
    """The label of an image in a panoptic JSON."""

    listing: PanopticIndex
    position: int
    folder: Path
    """Holds the PNG files."""


class Item(NamedTuple):
    """One image of an `ItemSource`."""

    image_id: str
    image_path: Path
    label: Path | PanopticPlace | None
    """A map of numbers; a place in a panoptic JSON; or no label."""


class ItemSource(ListedSource):
    """A split of files that were found in folders of the layout; a reader says which (`_items`), and what a number in
    its maps means (`_numbered_labels`)."""

    items: list[Item]
    _depth = 0
    """Folders between a folder of the layout and a file."""

    def _list(self, split: str, problems: Problems) -> Sequence[str]:
        self.items = self._items(split, problems)
        return [item.image_id for item in self.items]

    @abstractmethod
    def _items(self, split: str, problems: Problems) -> list[Item]:
        """The images of a split and their labels; see `_list`."""

    def _image_path(self, index: int) -> Path:
        path = self.items[index].image_path
        return self._root.listed(path.parents[self._depth], path)

    def _labels(self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path) -> Labels:
        label = self.items[index].label
        if label is None:
            return None, []
        if isinstance(label, PanopticPlace):
            return self._panoptic_labels(label.listing, label.position, label.folder, image, image_path)
        values = self._id_label(label.parents[self._depth], label, image, image_path)
        return self._numbered_labels(values, label)

    @abstractmethod
    def _numbered_labels(self, values: Int32[np.ndarray, "H W"], label_path: Path) -> Labels:
        """The labels that are in a map of numbers."""


def paired_items(
    images: dict[str, Path],
    labels: dict[str, Path],
    problems: Problems,
    *,
    image_at: Callable[[str], Path],
    label_at: Callable[[str], Path],
) -> list[Item]:
    """Join images and label files of one name. What only one of them has is a problem.

    Args:
        images: by name.
        labels: by name.
        problems: takes what is missing.
        image_at: where the image of a name would be.
        label_at: where its label would be.
    """
    items = []
    for image_id in sorted(images.keys() | labels.keys()):
        item = Item(image_id, images.get(image_id, image_at(image_id)), labels.get(image_id, label_at(image_id)))
        if image_id not in images or image_id not in labels:
            path, missing = (images[image_id], "label") if image_id in images else (labels[image_id], "image")
            fault = f"is there, but its {missing} is not. Complete the download, or remove the file."
            problems.add(f"{label_at('')} no {missing}", path, fault, image_id=image_id)
        items.append(item)
    return items


def panoptic_items(
    images: dict[str, Path], index: PanopticIndex, folder: Path, image_folder: Path, problems: Problems, *, advice: str
) -> list[Item]:
    """Join images and a panoptic JSON. What only one of them has is a problem.

    Args:
        images: by name, which is the id in the JSON.
        index: the JSON.
        folder: where its PNG files are.
        image_folder: where the images are.
        problems: takes what is missing.
        advice: what to do about images that the JSON does not list.
    """
    unlisted = images.keys() - set(index.image_ids)
    if unlisted:
        fault = f"does not list {len(unlisted)} of the images in {image_folder}, among them {min(unlisted)}. {advice}"
        problems.add(f"{index.path} unlisted", index.path, fault)
    for image_id in index.image_ids:
        if image_id not in images:
            fault = f"is listed, but there is no image of this name in {image_folder}."
            problems.add(f"{index.path} no image", index.path, fault, place=f"image {image_id}", image_id=image_id)
    return [
        Item(image_id, images.get(image_id, image_folder / "*" / image_id), PanopticPlace(index, position, folder))
        for position, image_id in enumerate(index.image_ids)
    ]
