"""Every packaged recipe fits together, as far as can be seen without data and weights."""

import pytest
import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config_io import load_config, recipe_names
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.training.checks import check_batch
from panoptic_deeplab.training.optimizer import build_optimizer
from panoptic_deeplab.training.step import set_training_mode


@pytest.mark.parametrize("recipe", recipe_names())
def test_model_of_recipe_gives_maps_of_the_crop(recipe: str) -> None:
    config = load_config(recipe)
    check_batch(config, Process())
    categories = CategoryTable.load(config.data.categories)
    with torch.device("meta"):  # shapes without memory
        model = PanopticDeepLab(config.model, categories.num_classes)
        set_training_mode(model, config.train)
        build_optimizer(model, config.train)
        maps = model(torch.zeros(2, 3, *config.data.crop_size))
    size = tuple(-(-side // 4) for side in config.data.crop_size)
    assert maps.semantic_logits.shape == (2, len(categories), *size)
    assert maps.center_heatmap is not None
    assert maps.center_heatmap.shape == (2, 1, *size)
    assert maps.offset is not None
    assert maps.offset.shape == (2, 2, *size)
