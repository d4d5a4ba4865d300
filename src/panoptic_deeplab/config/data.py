"""Which images, and how they become the input of the network."""

from dataclasses import dataclass
from typing import Literal

from panoptic_deeplab.config.checks import check, check_at_least_0, check_positive, expand_home

Overlap = Literal["smallest", "file", "z_order"]
"""Rules for pixels that two annotations claim."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images and labels, and how they are augmented for training."""

    format: Literal["coco_panoptic", "coco_instances", "cityscapes", "mapillary_vistas", "folder", "synthetic"] = (
        "coco_panoptic"
    )
    """Layout on disk; see `data/`."""
    root: str = "datasets"
    """Folder of the data set (ignored by `synthetic`)."""
    categories: str = "coco"
    """Name of a packaged category table, or a path to a JSON file."""
    outside_root: bool = False
    """Read files outside of `root` too, where the set names them: absolute names, `..`, and links."""
    overlap: Overlap = "smallest"
    """Which of two annotations that overlap gets the pixels, in formats of polygons and masks (`coco_instances`): the
    one with fewer pixels, the later one in the file, or the one with the larger z, where the format has one."""
    train_split: str = "train"
    val_split: str = "val"
    crop_size: tuple[int, int] = (1025, 2049)
    """Training crop. Section 4: whole Cityscapes images; k * output_stride + 1 with `model.align_corners`."""
    min_scale: float = 0.5
    """Random scale, section 4 ("random scale data augmentation"); range of DeepLab's public recipes."""
    max_scale: float = 2.0
    scale_step: float = 0.1
    """Scales are drawn from min_scale, min_scale + step, ..., max_scale; 0 draws from the whole interval."""
    shortest_side: int | None = None
    """Training resizes so that the shortest side has this many pixels times the random scale, instead of by the rule of
    `input` (detectron2's COCO: 640, while its prediction makes the longest side 640)."""
    longest_side_limit: int | None = None
    """With `shortest_side`: scale less where the longest side would have more pixels (detectron2's COCO: 960)."""
    padding: Literal["random", "bottom_right"] = "random"
    """Where an image smaller than the crop gets its margin, which has the mean color: divided at random between both
    sides, which the authors found good for the instance branch, or as in prediction (detectron2)."""
    flip_probability: float = 0.5
    """Left-right."""
    vertical_flip_probability: float = 0.0
    """Only for images without an up, as microscopy; with `rotate90` all eight symmetries of the square."""
    rotate90: bool = False
    """Rotate by a random multiple of 90 degrees."""
    color_jitter: float = 0.0
    """Strength of brightness, contrast and saturation jitter; 0 = off, as in the paper."""
    grayscale_probability: float = 0.0
    num_workers: int = 2
    """Loader processes; 0 loads in the training process. The batches do not depend on it."""

    def __post_init__(self) -> None:
        expand_home(self, "root", "categories")
        check(min(self.crop_size) > 0, "data.crop_size", "two positive numbers", self.crop_size)
        check(0 < self.min_scale <= self.max_scale, "data.min_scale", "positive and at most max_scale", self.min_scale)
        for name in ("flip_probability", "vertical_flip_probability", "grayscale_probability"):
            check(0 <= getattr(self, name) <= 1, f"data.{name}", "between 0 and 1", getattr(self, name))
        check(0 <= self.color_jitter < 1, "data.color_jitter", "at least 0 and below 1", self.color_jitter)
        check_at_least_0(self, "data", "scale_step", "num_workers")
        check_positive(self, "data", "shortest_side", "longest_side_limit")
        check(
            self.longest_side_limit is None or self.shortest_side is not None,
            "data.longest_side_limit",
            "null when data.shortest_side is null",
            self.longest_side_limit,
        )


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """From an image to what the network sees; the same in training, validation and prediction."""

    longest_side: int | None = None
    """Resize so that the longest side has this many pixels (section 4: 2177 Mapillary, 1025 or 641 COCO)."""
    scale: float = 1.0
    """Resize by this factor (enlarge small objects); not together with `longest_side`."""
    pad_to: tuple[int, int] | None = None
    """Pad at the bottom and on the right, with the mean color, to at least this size; null pads only to whole strides.
    The public implementations predict at the size of the training crop, and Table 9 counts 641 x 641 and 2177 x 2177
    inputs: the image pool of the ASPP then sees as much margin as in training."""
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from RGB in [0, 1]."""
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divided by afterwards."""

    def __post_init__(self) -> None:
        check_positive(self, "input", "scale")
        check(self.longest_side is None or self.longest_side > 1, "input.longest_side", "above 1", self.longest_side)
        check(
            self.longest_side is None or self.scale == 1,
            "input.scale",
            "1 when input.longest_side is set",
            self.scale,
        )
        check(self.pad_to is None or min(self.pad_to) > 0, "input.pad_to", "two positive numbers", self.pad_to)
        check(min(self.pixel_std) > 0, "input.pixel_std", "three positive numbers", self.pixel_std)
