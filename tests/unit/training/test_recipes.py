"""Every packaged recipe fits together, as far as can be seen without data and weights."""

import dataclasses

import pytest
import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.config.io import load_config, recipe_names
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.training.checks import check_batch
from panoptic_deeplab.training.optimizer import build_optimizer
from panoptic_deeplab.training.step import set_training_mode


def one_recipe_a_network() -> list[str]:
    """Recipes that differ in layers; the size of the image pool and the weights to start from make no difference."""
    recipe_of_network: dict[ModelConfig, str] = {}
    for name in recipe_names():
        network = dataclasses.replace(
            load_config(name).model, image_pool_size=None, backbone_weights=None, weights=None, reset_heads=False
        )
        recipe_of_network.setdefault(network, name)
    return sorted(recipe_of_network.values())


@pytest.mark.parametrize("recipe", recipe_names())
def test_batch_can_be_split(recipe: str) -> None:
    check_batch(load_config(recipe), Process())


def maps_fit_the_crop(recipe: str) -> None:
    config = load_config(recipe)
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


@pytest.mark.parametrize(
    "recipe",
    [  # the networks of the others are those of the paper's tables and of published models, which have their tests
        "cityscapes_xception71",
        "cityscapes_bowenc0221_resnet50",
        "cityscapes_detectron2_resnet52",
        "cityscapes_deeplab2_resnet50",
        "coco27_lite0",
        "facades_lite0",
        "demo",
        "demo_nuclei",
        "nuclei_lite0",
    ],
)
def test_model_of_recipe_gives_maps_of_the_crop(recipe: str) -> None:
    maps_fit_the_crop(recipe)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", one_recipe_a_network())
def test_model_of_every_recipe_gives_maps_of_the_crop(recipe: str) -> None:
    maps_fit_the_crop(recipe)
