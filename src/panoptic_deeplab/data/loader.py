"""An endless stream of training batches that can start anywhere: `training_batches`.

The stream of training images is fixed by `config.train.seed`: one random order of all images after another. Position p
of the stream shows image `order(p // len)[p % len]` with an augmentation seeded by p, and batch n holds positions
n * batch_size to (n + 1) * batch_size - 1. Nothing else enters, so a run resumes at step n by asking for batch n, and
the number of workers or processes changes who makes an image but not what it looks like.
"""

import atexit
import signal
import weakref
from collections.abc import Generator, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from panoptic_deeplab.config import Config
from panoptic_deeplab.data.dataset import Example, PanopticDataset, SampleKey
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import DatasetError, PanopticDeepLabError
from panoptic_deeplab.maps import Targets


class Batch(NamedTuple):
    """Training examples, stacked."""

    images: Float32[Tensor, "B 3 H W"]
    targets: Targets
    """The targets, with a leading batch dimension."""
    image_ids: list[str]


def training_batches(
    source: PanopticSource, config: Config, *, rank: int, world_size: int, start_step: int = 0
) -> Generator[Batch, None, None]:
    """This process's share of batch `start_step`, `start_step + 1`, and so on without end.

    Closing the iterator (or dropping it) ends the worker processes.

    Args:
        source: labeled images; with workers it must be picklable.
        config: seed, batch size, workers, and what `PanopticDataset` needs.
        rank: number of this process; it gets the rank-th of `world_size` equal, contiguous slices of each batch.
        world_size: number of processes; it divides the batch size.
        start_step: first batch.

    Raises:
        DatasetError: the source has no image; or, while iterating, a sample is broken.
    """
    assert config.train.batch_size % world_size == 0
    if len(source) == 0:
        raise DatasetError("The training split has no image; see data.root and data.train_split.")
    loader = DataLoader(
        _ErrorsAsValues(PanopticDataset(source, config)),
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
        worker_init_fn=ignore_signals,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the loader draws a seed for its workers: leave the global generator alone
    )
    batches = _iterate(loader)
    if config.data.num_workers:
        # When Python exits, it sends SIGTERM to worker processes that are left, and waits for them.
        atexit.register(_close, weakref.ref(batches))
    return batches


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


class _ErrorsAsValues(Dataset[Example | PanopticDeepLabError]):
    """Hands on the errors of a data set: raised in a worker process, they would come with its traceback as message."""

    def __init__(self, dataset: PanopticDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: SampleKey) -> Example | PanopticDeepLabError:
        try:
            return self.dataset[key]
        except PanopticDeepLabError as error:
            return error


def _iterate(loader: DataLoader[Example | PanopticDeepLabError]) -> Generator[Batch, None, None]:
    for batch in loader:  # the loader's iterator lives in this frame, and its workers as long as the iterator
        if isinstance(batch, PanopticDeepLabError):
            raise batch
        yield batch


def _close(reference: "weakref.ref[Generator[Batch, None, None]]") -> None:
    batches = reference()
    if batches is not None:
        batches.close()


def ignore_signals(worker: int) -> None:
    """For worker processes: the training process decides when to stop, and ends its workers.

    Ctrl+C and most job schedulers send their signal to all processes at once; the death of a worker would be an error
    in the training process. The number of the worker does not matter.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@lru_cache(maxsize=4)
def _order(epoch: int, num_images: int, seed: int) -> Int64[np.ndarray, " images"]:
    return np.random.default_rng(_derived_seed(seed, (0, epoch))).permutation(num_images)


def _derived_seed(seed: int, purpose: tuple[int, int]) -> int:
    """An independent seed for each purpose, as SeedSequence mixes them."""
    return int(np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1, np.uint64)[0])


def _collate(examples: list[Example | PanopticDeepLabError]) -> Batch | PanopticDeepLabError:
    for example in examples:
        if isinstance(example, PanopticDeepLabError):
            return example
    images, targets, image_ids = default_collate(examples)
    return Batch(images=images, targets=targets, image_ids=list(image_ids))
