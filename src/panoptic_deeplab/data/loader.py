"""An endless stream of training batches that can start anywhere: `training_batches`.

The stream of training images is fixed by `config.train.seed`: one random order of all images after another. Position p
of the stream shows image `order(p // len)[p % len]` with an augmentation seeded by p, and batch n holds positions
n * batch_size to (n + 1) * batch_size - 1. Nothing else enters, so a run resumes at step n by asking for batch n, and
the number of workers or processes changes who makes an image but not what it looks like.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from panoptic_deeplab.config import Config
from panoptic_deeplab.data.dataset import Example, PanopticDataset, SampleKey
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import ConfigError, DatasetError
from panoptic_deeplab.maps import Targets


class Batch(NamedTuple):
    """Training examples, stacked."""

    images: Float32[Tensor, "B 3 H W"]
    targets: Targets
    """With a leading batch dimension."""
    image_ids: list[str]


def training_batches(
    source: PanopticSource, config: Config, *, rank: int, world_size: int, start_step: int = 0
) -> Iterator[Batch]:
    """This process's share of batch `start_step`, `start_step + 1`, and so on without end.

    Closing the iterator (or dropping it) ends the worker processes.

    Args:
        source: labelled images; with workers it must be picklable.
        config: seed, batch size, workers, and what `PanopticDataset` needs.
        rank: of this process; it gets the rank-th of `world_size` equal, contiguous slices of each batch.
        world_size: number of processes.
        start_step: first batch.

    Raises:
        ConfigError: the batch cannot be divided equally.
        DatasetError: the source has no image; or, while iterating, a sample is broken.
    """
    if config.train.batch_size % world_size:
        raise ConfigError(
            f"`train.batch_size` must be divisible by the number of processes, {world_size}."
            f" Got {config.train.batch_size} instead."
        )
    if len(source) == 0:
        raise DatasetError("The training split has no image; see data.root and data.train_split.")
    loader = DataLoader(
        PanopticDataset(source, config),
        batch_sampler=_KeySampler(
            num_images=len(source),
            seed=config.train.seed,
            batch_size=config.train.batch_size,
            rank=rank,
            world_size=world_size,
            start_step=start_step,
        ),
        num_workers=config.data.num_workers,  # PyTorch gives each worker one thread
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the loader draws a seed for its workers: leave the global generator alone
    )
    return _iterate(loader)


def sample_key(position: int, *, num_images: int, seed: int) -> SampleKey:
    """The image and the augmentation seed at a position of the stream."""
    epoch, place = divmod(position, num_images)
    return SampleKey(image_index=int(_order(epoch, num_images, seed)[place]), seed=_derived_seed(seed, (1, position)))


class _KeySampler(Sampler[list[SampleKey]]):
    """The keys of this process's part of each batch."""

    def __init__(
        self, *, num_images: int, seed: int, batch_size: int, rank: int, world_size: int, start_step: int
    ) -> None:
        self.num_images = num_images
        self.seed = seed
        self.batch_size = batch_size
        self.share = batch_size // world_size
        self.rank = rank
        self.start_step = start_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        position = self.start_step * self.batch_size + self.rank * self.share
        while True:
            yield [
                sample_key(p, num_images=self.num_images, seed=self.seed)
                for p in range(position, position + self.share)
            ]
            position += self.batch_size


def _iterate(loader: DataLoader[Example]) -> Iterator[Batch]:
    yield from loader  # the loader's iterator lives in this frame, and its workers as long as the iterator


@lru_cache(maxsize=4)
def _order(epoch: int, num_images: int, seed: int) -> Int64[np.ndarray, " images"]:
    return np.random.default_rng(_derived_seed(seed, (0, epoch))).permutation(num_images)


def _derived_seed(seed: int, purpose: tuple[int, int]) -> int:
    """An independent seed for each purpose, as SeedSequence mixes them."""
    return int(np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1, np.uint64)[0])


def _collate(examples: list[Example]) -> Batch:
    images, targets, image_ids = default_collate(examples)
    return Batch(images=images, targets=targets, image_ids=list(image_ids))
