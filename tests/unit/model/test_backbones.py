"""The encoder: which features are tapped, and that padding the image does not move them."""

import pytest
import torch

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.model.backbones.build import build_backbone


@pytest.mark.parametrize(
    ("output_stride", "low_level"), [(8, (728, 256)), (16, (728, 256)), (32, (728, 256))], ids=["os8", "os16", "os32"]
)
def test_taps_of_xception(output_stride: int, low_level: tuple[int, ...]) -> None:
    """FACTS 1.2: 256 channels at stride 4, 728 at stride 8, whatever the output stride."""
    with torch.device("meta"):
        backbone = build_backbone(ModelConfig(backbone="xception71", output_stride=output_stride))  # type: ignore[arg-type]
    assert (backbone.deepest_channels, backbone.low_level_channels) == (2048, low_level)


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "test_efficientnet", "resnet18"])
def test_features_stay_in_place_when_the_image_is_padded(backbone: str) -> None:
    """TensorFlow's "same" padding fails this: it moves features when the parity of the size changes."""
    network = build_backbone(ModelConfig(backbone=backbone)).eval()
    image = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        features = network(image)
        padded = network(torch.nn.functional.pad(image, (0, 33, 0, 33)))
    for small, large in zip(features.low_level, padded.low_level, strict=True):
        inner = small.shape[-1] // 2 - 4  # beyond, the border is within the receptive field
        torch.testing.assert_close(small[..., :inner, :inner], large[..., :inner, :inner], rtol=1e-4, atol=1e-5)


def test_output_stride_keeps_the_resolution() -> None:
    for output_stride, side in ((8, 17), (16, 9), (32, 5)):
        network = build_backbone(ModelConfig(backbone="test_efficientnet", output_stride=output_stride)).eval()  # type: ignore[arg-type]
        features = network(torch.rand(1, 3, 129, 129))
        assert features.deepest.shape[-1] == side
        assert [f.shape[-1] for f in features.low_level] == [17, 33]
