"""What the readers of drawn annotations have in common: shapes of an image, and the way from them to a label."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int32, UInt8

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config.data import Overlap
from panoptic_deeplab.data.formats.common.listed import Labels, ListedSource
from panoptic_deeplab.data.formats.common.shapes import Painted, Shape, paint
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import ConfigError


class DrawnSource(ListedSource):
    """A split whose annotations are shapes that may overlap; a reader gives those of an image (`_shapes`).

    Args:
        root: folder of the set.
        split: name of the split; the reader says where it stands.
        categories: table to translate into; its `unlabeled` is the class of pixels that nobody annotated.
        outside_root: names and links in the set may lead out of `root`.
        overlap: who is on top where two annotations claim a pixel; see `shapes.py`.
        problems: takes what is wrong with the files; without it, that is raised.

    Raises:
        ConfigError: the rule is `z_order`, which the format does not have.
        DatasetError: as in `ListedSource`.
    """

    has_z_order: ClassVar[bool] = False

    def __init__(
        self,
        root: str | Path,
        split: str,
        categories: CategoryTable,
        *,
        outside_root: bool = False,
        overlap: Overlap = "smallest",
        problems: Problems | None = None,
    ) -> None:
        if overlap == "z_order" and not self.has_z_order:
            raise ConfigError("data.overlap is z_order, but this format has none. Expected smallest or file.")
        self._overlap: Overlap = overlap
        super().__init__(root, split, categories, outside_root=outside_root, problems=problems)

    @abstractmethod
    def _shapes(self, index: int, size: tuple[int, int]) -> list[Shape]:
        """The annotations of image number `index`, which has `(height, width)`, in the order of the file."""

    @abstractmethod
    def _where(self, index: int) -> str:
        """The file that annotates image number `index`, and the image, for messages."""

    def _semantic(
        self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path
    ) -> Int32[np.ndarray, "H W"] | None:
        """Category ids of the pixels that no annotation covers, where the set has a map of them."""
        return None

    def painted(self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path) -> Painted:
        """Paint the annotations of an image, and tell how far they overlap.

        Args:
            index: number of the image.
            image: its pixels.
            image_path: its file.
        """
        size = (image.shape[0], image.shape[1])
        semantic = self._semantic(index, image, image_path)
        return paint(
            self._shapes(index, size), size, overlap=self._overlap, categories=self.categories, semantic=semantic
        )

    def _labels(self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path) -> Labels:
        painted = self.painted(index, image, image_path)
        return self._translated(painted.raw_map, painted.segments, self._where(index))
