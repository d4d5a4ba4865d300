"""The command line is killed and resumed: on the CPU the weights are those of a run that never stopped."""

import dataclasses
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from panoptic_deeplab.config import Config
from panoptic_deeplab.training.checkpoints import run_folder as run_folder_module

StartTraining = Callable[..., "subprocess.Popen[str]"]
TrainHere = Callable[..., None]
ReadMetrics = Callable[[Path], list[dict[str, float]]]


@pytest.fixture(scope="module")
def config(tiny_config: Config) -> Config:
    """Everything that could make resuming inexact: dropout, an average, passes, an unfinished epoch."""
    return dataclasses.replace(
        tiny_config,
        model=dataclasses.replace(tiny_config.model, aspp_dropout=0.3),
        train=dataclasses.replace(
            tiny_config.train,
            max_steps=8,
            batch_size=6,
            images_at_once=3,
            ema_decay=0.9,
            log_every=1,
            validate_every=4,
        ),
    )


@pytest.fixture(scope="module")
def reference(config: Config, train_here: TrainHere, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "reference"
    train_here(config, folder)
    return folder


def _wait(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _num_rows(run_folder: Path) -> int:
    path = run_folder / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def _assert_equal_runs(folder: Path, reference: Path, read_metrics: ReadMetrics) -> None:
    assert (folder / "last").readlink() == (reference / "last").readlink()
    for name in ("last/model.safetensors", "last/ema.safetensors", "best/ema.safetensors"):
        ours, theirs = load_file(folder / name), load_file(reference / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    validations = [
        {row["step"]: (row["PQ"], row["mIoU"]) for row in rows if "PQ" in row}
        for rows in map(read_metrics, (folder, reference))
    ]
    assert validations[0] == validations[1]
    assert [row["step"] for row in read_metrics(folder)] == [row["step"] for row in read_metrics(reference)]


def test_kill_during_validation(
    config: Config,
    reference: Path,
    tmp_path: Path,
    start_training: StartTraining,
    train_here: TrainHere,
    read_metrics: ReadMetrics,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run_folder = tmp_path / "run"
    process = start_training(config, run_folder)
    _wait((run_folder / "last").exists, process)
    process.kill()
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert (run_folder / "last").resolve().name == "step_000004"
    assert not (run_folder / "best").exists()
    capfd.readouterr()
    train_here(config, run_folder, "--resume")
    assert capfd.readouterr().out == f"{run_folder / 'best'}\n"
    _assert_equal_runs(run_folder, reference, read_metrics)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_whole_process_group(
    number: signal.Signals,
    config: Config,
    reference: Path,
    tmp_path: Path,
    start_training: StartTraining,
    train_here: TrainHere,
    read_metrics: ReadMetrics,
) -> None:
    run_folder = tmp_path / "run"
    process = start_training(config, run_folder, "--data.num-workers", "2")
    _wait(lambda: _num_rows(run_folder) >= 2, process)
    os.killpg(process.pid, number)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 128 + number, messages
    assert "Interrupted after step" in messages
    assert "worker" not in messages
    step = int((run_folder / "last").resolve().name.removeprefix("step_"))
    assert 2 <= step < config.train.max_steps
    train_here(config, run_folder, "--resume")
    _assert_equal_runs(run_folder, reference, read_metrics)


def test_a_second_training_in_the_folder_is_refused_and_the_first_loses_nothing(
    config: Config,
    reference: Path,
    tmp_path: Path,
    start_training: StartTraining,
    train_here: TrainHere,
    read_metrics: ReadMetrics,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_folder_module, "_SECONDS_FOR_WORKERS", 0.1)
    run_folder = tmp_path / "run"
    process = start_training(config, run_folder)
    _wait(lambda: _num_rows(run_folder) >= 2, process)
    process.send_signal(signal.SIGSTOP)  # so that it does not end meanwhile
    for options in ((), ("--resume",)):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            train_here(config, run_folder, *options)
        assert caught.value.code == 2
        message = f"The run folder {run_folder} is in use by another training (process {process.pid} on "
        assert message in capfd.readouterr().err
    process.send_signal(signal.SIGCONT)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    _assert_equal_runs(run_folder, reference, read_metrics)


@pytest.mark.slow
def test_kills_at_any_time(
    config: Config, reference: Path, tmp_path: Path, start_training: StartTraining, read_metrics: ReadMetrics
) -> None:
    run_folder, draw, kills = tmp_path / "run", random.Random(0), 0
    while True:
        process = start_training(config, run_folder, "--resume")
        num_rows, seconds = _num_rows(run_folder), draw.uniform(0, 1.5)
        while process.poll() is None and _num_rows(run_folder) == num_rows:  # until it trains
            time.sleep(0.005)
        try:
            _, messages = process.communicate(timeout=seconds if kills < 10 else 300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate(timeout=300)
            kills += 1
        else:
            assert process.returncode == 0, messages
            break
    assert kills >= 2
    _assert_equal_runs(run_folder, reference, read_metrics)
