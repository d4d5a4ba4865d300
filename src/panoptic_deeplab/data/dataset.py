"""A source of labeled images as training examples: `PanopticDataset`.

An example is a pure function of a `SampleKey`, the image's index and the seed of its augmentation, so that which
process makes it, and when, does not matter. `loader.py` chooses the keys.
"""

import operator
from typing import NamedTuple, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float32, Int32, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from panoptic_deeplab.config import Config, InputConfig
from panoptic_deeplab.data.augment import apply_transforms, training_transforms
from panoptic_deeplab.data.sample import PanopticSource, Sample
from panoptic_deeplab.data.targets import make_targets
from panoptic_deeplab.errors import DatasetError, ImageError
from panoptic_deeplab.images.prepare import image_tensor, in_range
from panoptic_deeplab.maps import Targets


class SampleKey(NamedTuple):
    """Which training example."""

    image_index: int
    """Place of the image in the source."""
    seed: int
    """Seed of the random augmentation, 0 to 2**64 - 1."""


class Example(NamedTuple):
    """One training example."""

    image: Float32[Tensor, "3 H W"]
    """Augmented and normalized, of `DataConfig.crop_size`."""
    targets: Targets
    """The targets, without a batch dimension."""
    image_id: str


class PanopticDataset(Dataset[Example]):
    """Augmented images with their targets.

    `dataset[key]` makes the example of a `SampleKey`. `dataset[i]` makes one of image `i`, with the same augmentation
    each time, so that a plain `DataLoader(dataset, batch_size, shuffle=True)` works: with PyTorch's own collation, a
    batch is an `Example` of stacked tensors. Training draws a new key for each visit (`loader.training_batches`).

    Args:
        source: labeled images; its category table defines the train ids.
        config: `data` and `input` define the transforms, `target` the targets.
    """

    def __init__(self, source: PanopticSource, config: Config) -> None:
        self.source = source
        self.config = config
        self.transforms = training_transforms(config.data, config.input)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey | SupportsIndex) -> Example:
        """Make one example.

        Raises:
            IndexError: there is no such image.
            DatasetError: the sample has no labels, or labels that contradict themselves or the category table.
        """
        if not isinstance(key, SampleKey):
            key = self._fixed_key(operator.index(key))
        sample = self.source[key.image_index]
        panoptic_map = _checked_map(sample)
        pixels = network_pixels(sample, self.config.input)
        with torch.random.fork_rng(devices=[]):
            # Not `torch.manual_seed`: it would also reset the generators of the GPUs, and with them dropout.
            torch.default_generator.manual_seed(key.seed)
            image, cropped_map = apply_transforms(
                self.transforms,
                image_tensor(pixels),
                torch.from_numpy(panoptic_map),
            )
        try:
            targets = make_targets(
                cropped_map, sample.segments_info, categories=self.source.categories, config=self.config.target
            )
        except DatasetError as error:
            raise DatasetError(f"{sample.image_id}: {error}") from error
        return Example(image=image, targets=targets, image_id=sample.image_id)

    def _fixed_key(self, index: int) -> SampleKey:
        """The one key of an image that is asked for by its index; negative ones count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"There is no image {index}: the set has {len(self)}.")
        image_index = index % len(self)
        return SampleKey(image_index=image_index, seed=(self.config.train.seed + image_index) % 2**64)


def network_pixels(sample: Sample, input_config: InputConfig) -> UInt8[np.ndarray, "H W 3"]:
    """The image as the network sees it, before its size changes: three channels, black and white.

    Raises:
        DatasetError: it has no such channels, or numbers that the range does not take.
    """
    if sample.has_channels and input_config.channels is None:
        raise DatasetError(
            f"{sample.image_id} has {sample.pixels.shape[2]} channels that are no colors. Name the three that become"
            " red, green and blue with `input.channels`."
        )
    try:
        return in_range(sample.pixels, input_config)
    except ImageError as error:
        raise DatasetError(f"{sample.image_id}: {error}") from error


def _checked_map(sample: Sample) -> Int32[np.ndarray, "H W"]:
    """The label map, writable as torch wants it; checked here, where the name of the image is still known."""
    if sample.panoptic_map is None:
        raise DatasetError(
            f"{sample.image_id} has no labels. Training needs a split with labels; see data.train_split."
        )
    return np.require(sample.panoptic_map, requirements=["C", "W"])
