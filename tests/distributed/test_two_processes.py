"""Two processes with half of each batch follow one process with all of it.

Started by torchrun, this file is one of the processes: test_two_processes.py CONFIG.yaml RUN_FOLDER.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from panoptic_deeplab.config import Config
from panoptic_deeplab.config_io import load_config, save_config
from panoptic_deeplab.training import trainer, validation
from panoptic_deeplab.training.tracking import read_metrics


def _stay_in_eval_mode(self: nn.Module, mode: bool = True) -> nn.Module:
    self.training = False
    return self


def _train(config: Config, run_folder: Path) -> None:
    """Train without plots (they take longer than the run), and with batch normalisation by stored statistics.

    Statistics of a batch depend on how it is split over processes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.BatchNorm2d, "train", _stay_in_eval_mode)
        for module, name in (
            (trainer, "draw_curves"),
            (trainer, "write_label_statistics"),
            (validation, "draw_per_class"),
        ):
            patch.setattr(module, name, lambda *_: None)
        trainer.train(config, run_folder=run_folder, device="cpu")


def _train_with_torchrun(num_processes: int, config: Config, run_folder: Path) -> str:
    path = run_folder.with_suffix(".yaml")
    save_config(config, path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    finished = subprocess.run(
        [*command, __file__, str(path), str(run_folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stderr


def test_two_processes_follow_one(tiny_config: Config, tmp_path: Path) -> None:
    config = dataclasses.replace(
        tiny_config,
        data=dataclasses.replace(tiny_config.data, val_split="val:3"),
        train=dataclasses.replace(
            tiny_config.train,
            max_steps=3,
            batch_size=4,
            log_every=1,
            validate_every=0,
            optimizer="sgd",  # Adam's first step is the sign of the gradient, which rounding decides where it is zero
            learning_rate=1e-4,
            ema_decay=0.9,
        ),
    )
    accumulating = dataclasses.replace(config, train=dataclasses.replace(config.train, accumulation_steps=2))
    messages = _train_with_torchrun(2, accumulating, tmp_path / "two")
    assert "Warning" not in messages
    _train(config, tmp_path / "one")

    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert len(one) == len(two) == 3
    for row_one, row_two in zip(one, two, strict=True):
        for name in ("loss", "loss_semantic", "loss_center", "loss_offset"):
            assert row_two[name] == pytest.approx(row_one[name], rel=1e-5), f"{name} of step {row_one['step']}"
    for name in ("PQ", "mIoU"):
        assert two[-1][name] == pytest.approx(one[-1][name], abs=1e-3)
    for name in ("model.safetensors", "ema.safetensors"):
        expected, actual = (load_file(tmp_path / folder / "last" / name) for folder in ("one", "two"))
        for key, value in expected.items():
            torch.testing.assert_close(actual[key], value, rtol=1e-4, atol=1e-5, msg=key)


if __name__ == "__main__":
    torch.set_num_threads(1)
    _train(load_config(sys.argv[1]), Path(sys.argv[2]))
