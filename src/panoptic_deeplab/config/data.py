"""Which images, and how they become the input of the network."""

from dataclasses import dataclass
from typing import Literal

from panoptic_deeplab.config.checks import check_fields, expand_home

Overlap = Literal["smallest", "file", "z_order"]
"""Rules for pixels that two annotations claim."""

Format = Literal[
    "coco_panoptic",
    "coco_instances",
    "cityscapes",
    "mapillary_vistas",
    "folder",
    "label_images",
    "color_masks",
    "voc",
    "object_masks",
    "labelme",
    "cvat",
    "yolo",
    "synthetic",
]
"""Layouts on disk; `data/formats/` has a reader for each."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images and labels, and how they are augmented for training."""

    format: Format = "coco_panoptic"
    """Layout on disk; see `data/formats/`."""
    root: str = "datasets"
    """Folder of the data set (ignored by `synthetic`)."""
    categories: str = "coco"
    """Name of a packaged category table, or a path to a JSON file."""
    outside_root: bool = False
    """Read files outside of `root` too, where the set names them: absolute names, `..`, and links."""
    void_ids: tuple[int, ...] | None = None
    """Ids in the files that mean "no label", in place of those of the table; null = those of the table."""
    overlap: Overlap = "smallest"
    """Which of two annotations that overlap gets the pixels, in formats of polygons and masks (`coco_instances`): the
    one with fewer pixels, the later one in the file, or the one with the larger z, where the format has one."""
    train_split: str = "train"
    val_split: str = "val"
    held_out: str | None = None
    """For a set with one split: a text file with an image id a line. These images of `train_split` are the split that
    `val_split` names, and training does without them."""
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
    hue_jitter: float = 0.0
    """Turn all hues by up to this part of the color circle, either way (0.5 = any hue): stains differ."""
    invert_probability: float = 0.0
    """Negative: dark objects on bright ground become bright ones on dark, as between stain and fluorescence."""
    gamma_jitter: float = 0.0
    """Brightness to the power of e^-g to e^g, at random, g the strength."""
    blur: float = 0.0
    """Gaussian blur of up to this standard deviation, in pixels of the network's input."""
    noise: float = 0.0
    """Gaussian noise of up to this standard deviation, white being 1; a third of its variance is gray."""
    num_workers: int = 2
    """Loader processes; 0 loads in the training process. The batches do not depend on it."""

    def __post_init__(self) -> None:
        expand_home(self, "root", "categories", "held_out")
        probabilities = (
            "flip_probability",
            "vertical_flip_probability",
            "grayscale_probability",
            "invert_probability",
        )
        check_fields(
            self,
            "data",
            at_least_0="scale_step num_workers gamma_jitter blur noise",
            positive="shortest_side longest_side_limit",
            val_split=(
                self.held_out is None or self.train_split != self.val_split,
                "another name than data.train_split when data.held_out is set",
            ),
            crop_size=(min(self.crop_size) > 0, "two positive numbers"),
            min_scale=(0 < self.min_scale <= self.max_scale, "positive and at most max_scale"),
            hue_jitter=(0 <= self.hue_jitter <= 0.5, "between 0 and 0.5"),
            color_jitter=(0 <= self.color_jitter < 1, "at least 0 and below 1"),
            longest_side_limit=(
                self.longest_side_limit is None or self.shortest_side is not None,
                "null when data.shortest_side is null",
            ),
            **{name: (0 <= getattr(self, name) <= 1, "between 0 and 1") for name in probabilities},
        )


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """From an image to what the network sees; the same in training, validation and prediction."""

    range: Literal["type", "percentile"] | tuple[float, float] = "type"
    """What is black and white: 0 and the highest number of the type (255, 65535, 1.0); or `percentiles` of each image,
    for images whose brightness means nothing, as a microscope's; or two numbers, as the files have them, for all images
    (`data check` measures them over a set). With the latter two, 16-bit files keep their depth (`images/intensity.py`).
    """
    percentiles: tuple[float, float] = (0.1, 99.9)
    """With `range` percentile, these of all numbers of an image become 0 and 255; `data check` and `data init` measure
    these of a set."""
    channels: tuple[int, int, int] | None = None
    """Channels of an image, from 0, that the network sees as red, green and blue: `[2, 0, 0]` of a microscope's. Null =
    gray or RGB as they are. A gray image counts as three equal channels."""
    longest_side: int | None = None
    """Resize so that the longest side has this many pixels (section 4: 2177 Mapillary, 1025 or 641 COCO)."""
    scale: float = 1.0
    """Resize by this factor (enlarge small objects); not together with `longest_side`."""
    object_size: float | None = None
    """Typical diameter of the objects in the training images, in pixels (of a disk of their area), before `scale`: with
    it, `--object-size` of `predict` finds the scale at which objects of another size look as they did in training."""
    pad_to: tuple[int, int] | None = None
    """Pad at the bottom and on the right, with the mean color, to at least this size; null pads only to whole strides.
    The public implementations predict at the size of the training crop, and Table 9 counts 641 x 641 and 2177 x 2177
    inputs: the image pool of the ASPP then sees as much margin as in training."""
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from RGB in [0, 1]."""
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divided by afterwards."""

    def __post_init__(self) -> None:
        low, high = self.percentiles
        levels = (0.0, 1.0) if isinstance(self.range, str) else self.range
        check_fields(
            self,
            "input",
            positive="scale object_size",
            range=(levels[0] < levels[1], "type, percentile or two rising numbers"),
            channels=(self.channels is None or min(self.channels) >= 0, "three numbers from 0 on"),
            percentiles=(0 <= low < high <= 100, "two rising numbers from 0 to 100"),
            longest_side=(self.longest_side is None or self.longest_side > 1, "above 1"),
            scale=(self.longest_side is None or self.scale == 1, "1 when input.longest_side is set"),
            pad_to=(self.pad_to is None or min(self.pad_to) > 0, "two positive numbers"),
            pixel_std=(min(self.pixel_std) > 0, "three positive numbers"),
        )
