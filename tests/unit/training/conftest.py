"""A run folder whose checkpoints are written without training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.evaluation import report_files
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.training import trainer
from panoptic_deeplab.training.checkpoints.read import load_checkpoint
from panoptic_deeplab.training.checkpoints.write import add_validation, save_checkpoint
from panoptic_deeplab.training.ema import ExponentialMovingAverage
from panoptic_deeplab.training.optimizer import build_optimizer
from panoptic_deeplab.training.state import TrainingState


class SmallRun:
    """Checkpoints of a tiny network in `folder`."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config
        self.categories = CategoryTable.load("synthetic")
        split = {"images": 4, "first": "a", "last": "d", "ids": "1", "files": "2"}
        self.dataset: dict[str, Any] = {"format": "folder", "splits": {"train": split}}

    def state(self, seed: int = 0) -> TrainingState:
        torch.manual_seed(seed)
        model = PanopticDeepLab(self.config.model, self.categories.num_classes).to(memory_format=torch.channels_last)
        return TrainingState(
            model=model,
            optimizer=build_optimizer(model, self.config.train),
            ema=ExponentialMovingAverage(model, decay=0.9),
        )

    def make_step(self, state: TrainingState) -> None:
        maps = state.model(torch.rand(2, 3, 33, 33))
        sum(map_.square().mean() for map_ in maps).backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        assert state.ema is not None
        state.ema.update(state.model, state.step)

    def save(self, state: TrainingState, *, quality: float | None = None) -> Path:
        folder = save_checkpoint(
            self.folder,
            state,
            config=self.config,
            categories=self.categories,
            dataset=self.dataset,
            model_card="# A model\n",
        )
        if quality is not None:
            self.validate(state, quality)
        return folder

    def validate(self, state: TrainingState, quality: float) -> None:
        metrics = {"PQ": quality, "mIoU": 0.9}
        add_validation(self.folder, state, metrics, metric="PQ", model_card="# A good model\n")

    def load(self, state: TrainingState, config: Config | None = None) -> bool:
        return load_checkpoint(self.folder, state, config=config or self.config, dataset=self.dataset)


@pytest.fixture
def small_run(tmp_path: Path, tiny_config: Config) -> SmallRun:
    return SmallRun(tmp_path, tiny_config)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take longer than these tiny runs."""
    for module, name in (
        (trainer, "draw_curves"),
        (trainer, "write_label_statistics"),
        (trainer, "write_training_batch"),
        (report_files, "draw_per_class"),
    ):
        monkeypatch.setattr(module, name, lambda *_, **__: None)
