"""A model on disk."""

from pathlib import Path

import pytest
import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained


@pytest.fixture(scope="session")
def tiny_model(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a network with random weights."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    categories = CategoryTable.load("synthetic")
    network = PanopticDeepLab(tiny_config.model, num_classes=len(categories))
    torch.nn.init.normal_(network.semantic_head.predict.weight)
    save_pretrained(folder, network, config=tiny_config, categories=categories)
    return folder
