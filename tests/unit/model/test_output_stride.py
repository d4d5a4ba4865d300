"""The weights of one output stride in the network of another (section 4.2)."""

from dataclasses import replace

import pytest
import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.config.io import config_from_dict, config_to_dict
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.images.read import read_image
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.backbones.build import build_backbone
from panoptic_deeplab.model.network import PanopticDeepLab, with_output_stride
from panoptic_deeplab.weights.folder import save_pretrained
from panoptic_deeplab.weights.open import open_pretrained


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50_beta", "xception71"])
def test_denser_features_hold_the_sparse_ones_in_their_place(backbone):
    config = ModelConfig(backbone=backbone, output_stride=16)
    sparse, dense = build_backbone(config).eval(), build_backbone(with_output_stride(config, 8)).eval()
    dense.load_state_dict(sparse.state_dict())
    images = torch.randn(1, 3, 97, 65)
    with torch.inference_mode():
        (sparse_deepest, sparse_low), (dense_deepest, dense_low) = sparse(images), dense(images)
    assert sparse_deepest.shape[-2:] == (7, 5)
    assert dense_deepest.shape[-2:] == (13, 9)
    scale = sparse_deepest.abs().max()
    assert scale > 0
    torch.testing.assert_close(dense_deepest[..., ::2, ::2] / scale, sparse_deepest / scale, atol=1e-5, rtol=1e-3)
    for ours, theirs in zip(dense_low, sparse_low, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_rates_of_the_aspp_double_so_that_it_sees_the_same_part_of_the_image(tiny_config):
    sparse = PanopticDeepLab(tiny_config.model, 3).eval()
    dense = PanopticDeepLab(with_output_stride(tiny_config.model, 8), 3).eval()
    dense.load_state_dict(sparse.state_dict())
    features = torch.randn(1, dense.backbone.deepest_channels, 41, 57)
    for ours, theirs in zip(dense.semantic_aspp.branches, sparse.semantic_aspp.branches, strict=True):
        with torch.inference_mode():
            torch.testing.assert_close(ours(features)[..., ::2, ::2], theirs(features[..., ::2, ::2]))


@pytest.mark.parametrize(
    ("config", "output_stride", "rates"),
    [
        (ModelConfig(output_stride=16), 8, None),
        (ModelConfig(output_stride=16, atrous_rates=(6, 12, 18)), 8, (12, 24, 36)),
        (ModelConfig(output_stride=32, atrous_rates=(3, 6, 9)), 16, (6, 12, 18)),
        (ModelConfig(output_stride=16, atrous_rates=(2, 4, 6)), 32, (1, 2, 3)),
    ],
)
def test_rates_that_were_chosen_are_scaled(config, output_stride, rates):
    changed = with_output_stride(config, output_stride)
    assert (changed.output_stride, changed.atrous_rates) == (output_stride, rates)


def test_rates_that_would_be_fractions_are_refused():
    with pytest.raises(ConfigError, match=r"`model.atrous_rates` \(3, 6, 9\) of output stride 16"):
        with_output_stride(ModelConfig(output_stride=16, atrous_rates=(3, 6, 9)), 32)


def test_a_saved_model_is_run_at_another_output_stride(tmp_path, tiny_config):
    categories = CategoryTable.load("synthetic")
    model = PanopticDeepLab(tiny_config.model, categories.num_classes)
    save_pretrained(tmp_path, model, config=tiny_config, categories=categories)
    plain, dense = (PanopticPredictor.from_pretrained(tmp_path, device="cpu", output_stride=s) for s in (None, 8))
    assert plain.config == tiny_config
    assert dense.config.model == with_output_stride(tiny_config.model, 8)
    for name, tensor in dense.engine.model.state_dict().items():
        assert torch.equal(tensor, plain.engine.model.state_dict()[name])
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    assert dense.engine.ready(read_image(image)).prepared.tensor.shape == (3, 57, 73)  # multiples of 8, plus 1
    (first, _), (second, maps) = plain.predict_with_maps(image), dense.predict_with_maps(image)
    assert first.size == second.size == (50, 70)
    assert maps.offset.shape == (2, 50, 70)


def test_a_stride_that_the_network_lacks_is_no_fault_of_the_folder(tmp_path, tiny_config):
    config = replace(tiny_config, model=replace(tiny_config.model, atrous_rates=(3, 6, 9)))
    categories = CategoryTable.load("synthetic")
    model = PanopticDeepLab(config.model, categories.num_classes)
    save_pretrained(tmp_path, model, config=config, categories=categories)
    with pytest.raises(ConfigError, match=r"^`model.atrous_rates` \(3, 6, 9\) of output stride 16 are no integers"):
        open_pretrained(tmp_path, output_stride=32)


def test_configurations_without_a_section_for_augmentation_still_load(tiny_config):
    """Models of earlier versions."""
    data = config_to_dict(tiny_config)
    del data["test_time_augmentation"]
    assert config_from_dict(data) == tiny_config
