"""One predictor, several threads: each gets what it would get alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, TestTimeAugmentationConfig
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab

CATEGORIES = CategoryTable.load("synthetic")

SCALES = TestTimeAugmentationConfig(scales=(0.5, 1.0, 1.5), flip=True)


def network_predictor(config: Config, *, seed: int = 0, window: tuple[int, int] | None = None) -> PanopticPredictor:
    """Random weights whose maps are lively enough for instances."""
    torch.manual_seed(seed)
    config = replace(config, model=replace(config.model, image_pool_size=window))
    model = PanopticDeepLab(config.model, CATEGORIES.num_classes).eval()
    assert model.center_head is not None
    assert model.offset_head is not None
    with torch.no_grad():
        for head in (model.semantic_head, model.center_head, model.offset_head):
            head.predict.weight.normal_(std=0.5)
        model.center_head.predict.bias.fill_(0.2)
    return PanopticPredictor.from_network(model, CATEGORIES, config, device="cpu")


def plain(config: Config) -> PanopticPredictor:
    return network_predictor(config)


def averaged(config: Config) -> PanopticPredictor:
    """The image pool has a window, which is another one for each scale."""
    return network_predictor(replace(config, test_time_augmentation=SCALES), window=(33, 33))


def ensemble(config: Config) -> PanopticPredictor:
    averages = replace(config, test_time_augmentation=SCALES)
    return PanopticPredictor.ensemble(
        [network_predictor(config), network_predictor(averages, seed=1, window=(33, 33))],
    )


@pytest.mark.parametrize("make", [plain, averaged, ensemble])
def test_four_threads(
    tiny_config: Config, make: Callable[[Config], PanopticPredictor], check_four_threads: Callable[..., None]
) -> None:
    check_four_threads(make(tiny_config))
