"""The stream of batches: the same with any number of workers, processes and restarts."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import Config, DataConfig, TrainConfig
from panoptic_deeplab.data.loader import Batch, sample_key, training_batches
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.panoptic_result import Segment


class TinySource:
    """A few small images, each with one thing on stuff; the last one may be broken."""

    categories = CategoryTable(
        name="two",
        categories=(
            Category(id=1, name="ground", isthing=False, color=(0, 0, 0)),
            Category(id=2, name="ball", isthing=True, color=(255, 0, 0)),
        ),
    )

    def __init__(self, num_images: int = 5, *, broken: int | None = None) -> None:
        self.image_ids = [f"image_{i}" for i in range(num_images)]
        self.broken = broken

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        if index == self.broken:
            raise DatasetError(f"{self.image_ids[index]}.png is truncated.")
        rng = np.random.default_rng(index)
        panoptic_map = np.ones((12, 14), np.int32)
        panoptic_map[3:9, index : index + 6] = 2
        segments = [Segment(id=i, category_id=i, name="", isthing=i == 2, area=1, bbox=(0, 0, 1, 1)) for i in (1, 2)]
        return Sample(
            image_id=self.image_ids[index],
            image=rng.integers(0, 256, (12, 14, 3), np.uint8),
            panoptic_map=panoptic_map,
            segments_info=segments,
        )


def make_config(*, num_workers: int = 0, batch_size: int = 4, seed: int = 0) -> Config:
    return Config(
        data=DataConfig(crop_size=(9, 17), num_workers=num_workers), train=TrainConfig(batch_size=batch_size, seed=seed)
    )


def first_batches(
    count: int, *, start_step: int = 0, rank: int = 0, world_size: int = 1, **settings: int
) -> list[Batch]:
    batches = training_batches(
        TinySource(), make_config(**settings), rank=rank, world_size=world_size, start_step=start_step
    )
    return list(islice(batches, count))


def assert_equal(ours: Batch, expected: Batch) -> None:
    assert ours.image_ids == expected.image_ids
    assert torch.equal(ours.images, expected.images)
    assert all(torch.equal(a, b) for a, b in zip(ours.targets, expected.targets, strict=True))


def test_shapes() -> None:
    (batch,) = first_batches(1)
    assert batch.images.shape == (4, 3, 9, 17)
    assert batch.targets.semantic.shape == (4, 9, 17)
    assert batch.targets.offset.shape == (4, 2, 9, 17)
    assert isinstance(batch.image_ids, list)
    assert len(batch.image_ids) == 4


def test_every_epoch_shows_every_image_once_in_another_order() -> None:
    shown = [i for batch in first_batches(25, batch_size=2) for i in batch.image_ids]
    epochs = [shown[i : i + 5] for i in range(0, 50, 5)]
    assert all(sorted(epoch) == TinySource().image_ids for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5


def test_an_image_looks_different_in_the_next_epoch() -> None:
    one_image = make_config(batch_size=1)
    first, second = islice(training_batches(TinySource(1), one_image, rank=0, world_size=1), 2)
    assert first.image_ids == second.image_ids
    assert not torch.equal(first.images, second.images)


def test_batches_do_not_depend_on_workers() -> None:
    for ours, expected in zip(first_batches(5, num_workers=2), first_batches(5, num_workers=0), strict=True):
        assert_equal(ours, expected)


def test_the_stream_resumes_anywhere() -> None:
    for ours, expected in zip(first_batches(2, start_step=3), first_batches(5)[3:], strict=True):
        assert_equal(ours, expected)


def test_the_shares_of_two_processes_are_the_batch() -> None:
    shares = [first_batches(3, rank=rank, world_size=2) for rank in (0, 1)]
    for low, high, whole in zip(*shares, first_batches(3), strict=True):
        assert low.image_ids + high.image_ids == whole.image_ids
        assert torch.equal(torch.cat([low.images, high.images]), whole.images)
        assert torch.equal(torch.cat([low.targets.offset, high.targets.offset]), whole.targets.offset)


def test_the_seed_changes_order_and_augmentation() -> None:
    keys = [[sample_key(p, num_images=100, seed=seed) for p in range(100)] for seed in (0, 1)]
    assert [k.image_index for k in keys[0]] != [k.image_index for k in keys[1]]
    assert len({k.seed for k in keys[0] + keys[1]}) == 200


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    first_batches(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_closing_ends_the_workers() -> None:
    batches = training_batches(TinySource(), make_config(num_workers=2), rank=0, world_size=1)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    deadline = time.monotonic() + 5
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_sample_is_named_in_one_sentence(num_workers: int) -> None:
    batches = training_batches(TinySource(broken=3), make_config(num_workers=num_workers), rank=0, world_size=1)
    with pytest.raises(DatasetError) as caught:
        list(islice(batches, 3))
    assert str(caught.value) == "image_3.png is truncated."


def test_workers_leave_signals_to_the_training_process() -> None:
    batches = training_batches(TinySource(), make_config(num_workers=2), rank=0, world_size=1)
    for _ in range(2):  # one of each worker: both have started and know what signals to leave alone
        next(batches)
    for worker in multiprocessing.active_children():
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.pid or 0, number)
    assert len(list(islice(batches, 5))) == 5  # more than are prepared in advance
    assert len(multiprocessing.active_children()) == 2
    batches.close()


SCRIPT_THAT_FAILS = """
import test_loader as t
batches = t.training_batches(t.TinySource(), t.make_config(num_workers=1), rank=0, world_size=1)
next(batches)
raise RuntimeError("elsewhere")
"""


def test_a_script_that_fails_ends_with_its_workers() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT_THAT_FAILS],
        cwd=Path(__file__).parent,
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stderr.rstrip().endswith("RuntimeError: elsewhere")


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(DatasetError, match="no image"):
        training_batches(TinySource(0), make_config(), rank=0, world_size=1)
