"""`model.weights` in a training."""

from dataclasses import replace
from pathlib import Path

import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.training.trainer import train
from panoptic_deeplab.weights.folder import save_pretrained
from panoptic_deeplab.weights.open import open_pretrained


def test_training_starts_from_the_weights_of_a_model(tiny_config: Config, tmp_path: Path) -> None:
    categories = CategoryTable.load("synthetic")
    model = PanopticDeepLab(tiny_config.model, categories.num_classes)
    save_pretrained(tmp_path / "model", model, config=tiny_config, categories=categories)
    config = replace(
        tiny_config,
        model=replace(tiny_config.model, weights=str(tmp_path / "model")),
        # A step of this learning rate changes no weight by more than rounding.
        train=replace(tiny_config.train, max_steps=1, learning_rate=1e-12, batch_norm="frozen", seed=5),
    )
    trained, stored, _ = open_pretrained(train(config, run_folder=tmp_path / "run", device="cpu"))
    assert stored.model.weights == str(tmp_path / "model")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=0, atol=1e-9, msg=name)
