"""Two processes with half of each batch, started by torchrun, against one process with all of it."""

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from panoptic_deeplab.config import Config
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.evaluation.evaluate import evaluate
from panoptic_deeplab.inference.predictor import PanopticPredictor

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def _config(config: Config, **train: Any) -> Config:
    """Three steps, and a validation of three images."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, val_split="val:3"),
        train=dataclasses.replace(
            config.train, max_steps=3, batch_size=4, log_every=1, validate_every=0, ema_decay=0.9, **train
        ),
    )


def _messages(process: "subprocess.Popen[str]") -> str:
    """What a successful process wrote to stderr."""
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    return messages


def test_two_processes_follow_one(
    tiny_config: Config,
    tmp_path: Path,
    start_training: Callable[..., Any],
    train_here: Callable[..., None],
    read_metrics: Callable[..., Any],
) -> None:
    config = _config(
        tiny_config,
        batch_norm="frozen",  # statistics of a batch depend on how it is split
        optimizer="sgd",  # Adam's first step is the sign of the gradient, which rounding decides where it is zero
        learning_rate=1e-4,
    )
    two = start_training(config, tmp_path / "two", "--train.images-at-once", "1", launcher=TORCHRUN)
    train_here(config, tmp_path / "one")
    assert "Warning" not in _messages(two)

    rows_of_one, rows_of_two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert len(rows_of_one) == len(rows_of_two) == 3
    for row_one, row_two in zip(rows_of_one, rows_of_two, strict=True):
        for name in ("loss", "loss_semantic", "loss_center", "loss_offset"):
            assert row_two[name] == pytest.approx(row_one[name], rel=1e-5), f"{name} of step {row_one['step']}"
    for name in ("PQ", "mIoU"):
        assert rows_of_two[-1][name] == pytest.approx(rows_of_one[-1][name], abs=1e-3)
    for name in ("model.safetensors", "ema.safetensors"):
        expected, actual = (load_file(tmp_path / folder / "last" / name) for folder in ("one", "two"))
        for key, value in expected.items():
            torch.testing.assert_close(actual[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_two_processes_agree_when_the_time_is_over(
    tiny_config: Config, tmp_path: Path, start_training: Callable[..., Any]
) -> None:
    config = _config(tiny_config, max_minutes=0.02)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, max_steps=100_000))
    _messages(start_training(config, tmp_path / "run", launcher=TORCHRUN))
    start = json.loads((tmp_path / "run" / "environment.json").read_text())[-1]
    assert start["end"] == "its 0.02 minutes are over (train.max_minutes)"
    assert 0 < start["end_step"] < 100_000
    assert (tmp_path / "run" / "best" / "ema.safetensors").exists()


def test_all_processes_validate_the_weights_that_are_saved(
    tiny_config: Config, tmp_path: Path, start_training: Callable[..., Any]
) -> None:
    config = _config(tiny_config)
    # Statistics of batch normalization are those of the last steps, and so differ much between processes.
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, norm_momentum=0.9))
    _messages(start_training(config, tmp_path / "run", launcher=TORCHRUN))
    reported = json.loads((tmp_path / "run" / "validation" / "step_000003" / "report.json").read_text())
    predictor = PanopticPredictor.from_pretrained(tmp_path / "run" / "last", device="cpu")
    source = open_source(config.data, config.data.val_split)
    expected = evaluate(predictor, source, config=config.evaluation).to_json()
    assert expected["semantic"]["pixel_accuracy"] > 0
    for part in ("panoptic", "semantic", "instances"):
        assert reported[part] == expected[part]
