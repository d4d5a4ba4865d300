"""What an image takes is known before it is taken, and said."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, InputConfig, ModelConfig, TestTimeAugmentationConfig
from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.inference import memory_need
from panoptic_deeplab.inference.memory_need import MemoryNeed
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.model.network import PanopticDeepLab

CONFIG = Config(model=ModelConfig(align_corners=False, output_stride=32))
CPU = torch.device("cpu")
FREE = 10**9


class _ThreeMaps(nn.Module):
    """Holds 3 + 8 + 8 floats of a pixel at once: its input, and two features; of the views none counts."""

    def forward(self, images: Tensor) -> RawMaps:
        first = images.new_ones(1, 8, *images.shape[2:])
        second = first.flatten().view_as(first) * 2
        del first
        second = second[:, :4] + 1  # 3 + 8 + 4
        return RawMaps(semantic_logits=second, center_heatmap=None, offset=None)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    return lambda size: monkeypatch.setattr(memory_need, "available_memory", lambda: size)


def _need(config: Config = CONFIG) -> MemoryNeed:
    return MemoryNeed(_ThreeMaps(), config, device=CPU, precision="float32")


def test_tensors_that_live_at_once_are_counted(free: Callable[[int | None], None]) -> None:
    of_a_pixel = 4 * (3 + 8 + 8)
    side = 1000
    free(of_a_pixel * side**2)
    _need().check((side, side), where="a.png")
    free(of_a_pixel * side**2 - 1)
    with pytest.raises(
        ImageError, match=r"^a\.png has 1000 x 1000 pixels .* needs about 0\.1 GB of memory; 0\.1 GB are"
    ):
        _need().check((side, side), where="a.png")


def test_what_counts_is_the_input_of_the_network(free: Callable[[int | None], None]) -> None:
    free(4 * 19 * 1000**2)
    smaller = Config(model=CONFIG.model, input=InputConfig(longest_side=1000))
    _need(smaller).check((5000, 5000), where="")
    for config in (
        Config(model=CONFIG.model, input=InputConfig(scale=2)),
        Config(model=CONFIG.model, input=InputConfig(pad_to=(1001, 1000))),
        Config(model=CONFIG.model, test_time_augmentation=TestTimeAugmentationConfig(scales=(0.5, 2.0))),
    ):
        with pytest.raises(ImageError, match="needs about"):
            _need(config).check((1000, 1000), where="")


def test_where_nothing_is_known_every_image_passes(free: Callable[[int | None], None]) -> None:
    free(None)
    _need().check((10**6, 10**6), where="")
    free(1)
    MemoryNeed(lambda images: _ThreeMaps()(images), CONFIG, device=CPU, precision="float32").check((9, 9), where="")


def test_a_predictor_refuses_before_it_predicts(free: Callable[[int | None], None]) -> None:
    config = Config(model=ModelConfig(backbone="test_efficientnet", aspp_channels=8, instance_aspp_channels=8))
    categories = CategoryTable.load("synthetic")
    model = PanopticDeepLab(config.model, len(categories))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predictor = PanopticPredictor.from_network(model, categories, config, device="cpu")
    image = np.zeros((300, 200, 3), np.uint8)
    free(2_000_000)
    with pytest.raises(ImageError, match=r"^The image has 300 x 200 pixels .*by `input\.longest_side`\.$"):
        predictor.predict(image)
    free(FREE)
    assert predictor.predict(image).size == (300, 200)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
