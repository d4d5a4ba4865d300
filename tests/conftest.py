"""Fixtures for all tests."""

import csv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch

from panoptic_deeplab.config import Config, DataConfig, ModelConfig, TrainConfig

torch.set_num_threads(1)  # pytest-xdist has a test on every core; more threads than cores wait for one another

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("untimed")

SHARED_FOLDER = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared_folder() -> Path:
    """The folder with real images and fixtures beside the project; the test is skipped where it is absent."""
    if not SHARED_FOLDER.is_dir():
        pytest.skip("needs the folder ../shared beside the project (real images and recorded fixtures)")
    return SHARED_FOLDER


@pytest.fixture(scope="session")
def read_metrics() -> Callable[[Path], list[dict[str, float]]]:
    """The rows of metrics.csv in a run folder, each with its non-empty columns."""

    def read(run_folder: Path) -> list[dict[str, float]]:
        with (run_folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]

    return read


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """A whole run that takes seconds on one core: synthetic images, a network of 0.1 M parameters, no dropout."""
    return Config(
        data=DataConfig(
            format="synthetic",
            categories="synthetic",
            train_split="train:4",
            val_split="val:1",
            crop_size=(65, 129),
            num_workers=0,
        ),
        model=ModelConfig(
            backbone="test_resnet",
            aspp_channels=16,
            instance_aspp_channels=16,
            aspp_dropout=0.0,
            decoder_channels=16,
            instance_decoder_channels=8,
            projections=(8, 8),
            instance_projections=(8, 8),
            head_channels=16,
            instance_head_channels=8,
        ),
        train=TrainConfig(max_steps=6, batch_size=2, log_every=2, validate_every=3),
    )


@pytest.fixture(scope="session")
def check_four_threads() -> Callable[[Any], None]:
    """See that each of four threads gets from one predictor what it would get alone."""

    def check(predictor: Any) -> None:
        generator = np.random.default_rng(0)
        sizes = [(int(height), int(width)) for height, width in generator.integers(33, 120, (8, 2))]
        images = [generator.integers(0, 255, (*size, 3)).astype(np.uint8) for size in sizes]
        alone = [predictor.predict(image) for image in images]
        assert sum(len(result.instances()) for result in alone) > 5
        together = Barrier(4)

        def work(thread: int) -> None:
            together.wait()
            for index in np.random.default_rng(thread).permutation(len(images)):
                result = predictor.predict(images[index])
                assert np.array_equal(result.panoptic_map, alone[index].panoptic_map)
                assert result.segments_info == alone[index].segments_info

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))  # raises what a thread has raised

    return check
