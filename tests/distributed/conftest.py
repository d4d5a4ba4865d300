"""The command `train` on the CPU, in this process and in others."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from panoptic_deeplab.cli import main
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import save_config


def _arguments(config: Config, run_folder: Path, options: tuple[str, ...]) -> list[str]:
    path = run_folder.with_suffix(".yaml")
    save_config(config, path)
    return ["train", str(path), "--run-folder", str(run_folder), "--device", "cpu", *options]


@pytest.fixture
def start_training() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start the command in another process, with one thread and a process group of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(
        config: Config, run_folder: Path, *options: str, launcher: tuple[str, ...] = ()
    ) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *launcher, "-m", "panoptic_deeplab", *_arguments(config, run_folder, options)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:  # the test failed
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture(scope="session")
def train_here() -> Callable[..., None]:
    """Run the command in this process, which has loaded everything already."""

    def run(config: Config, run_folder: Path, *options: str) -> None:
        main(_arguments(config, run_folder, options))

    return run
