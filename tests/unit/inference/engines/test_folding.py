"""Batch normalization goes into convolutions where that changes nothing, and stays where it would."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from panoptic_deeplab.config import CompatConfig
from panoptic_deeplab.inference.engines.folding import fold_batch_norm
from panoptic_deeplab.model.network import PanopticDeepLab

IMAGES = torch.linspace(-1, 1, 2 * 3 * 33 * 65, dtype=torch.float64).view(2, 3, 33, 65).sin()


def with_statistics(network):
    """As if trained, in float64: there, two ways to compute the same differ by nothing that could hide a fault."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                tensor.uniform_(low, high, generator=generator)
    return network.double().eval()


def norms(network):
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


@pytest.mark.parametrize(
    ("backbone", "left"),
    [
        ("test_resnet", 0),
        ("tf_efficientnet_lite0", 0),  # timm's normalization with an activation in it
        ("resnet50_beta", 0),
        ("mobilenet_v3_large_seg", 0),
        (
            "resnetv2_18",
            8,
        ),  # normalizes before it convolves: only the second of two in a block has a convolution before
    ],
)
def test_the_network_stays_the_same_function(tiny_config, backbone, left):
    compat = CompatConfig(separable_mid_norm=True)
    config = replace(tiny_config.model, backbone=backbone, compat=compat, output_stride=32)
    network = with_statistics(PanopticDeepLab(config, 4))
    expected = network(IMAGES)
    before = norms(network)
    assert fold_batch_norm(network, IMAGES[:1, :, :17, :33]) == before - left
    assert norms(network) == left
    for ours, theirs in zip(network(IMAGES), expected, strict=True):
        assert not ours.requires_grad
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


class Traps(nn.Module):
    """Where folding would change the answer."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.twice, self.result = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(5))
        self.of_batch = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, images):
        tap = self.first(images)
        after = self.norms[0](tap) + tap  # read twice
        after = self.norms[1](self.second(after).clamp(max=0.1))  # something in between
        after = self.norms[2](self.twice(self.norms[2](self.twice(after))))  # runs twice
        result = self.result(after)  # is an answer itself
        other = self.of_batch(self.third(after))  # has no statistics
        return result, self.norms[3](result), self.norms[4](other)


def test_what_something_else_depends_on_stays():
    network = Traps().double()
    network.of_batch.running_mean = network.of_batch.running_var = None
    for norm in network.norms:
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    network.eval()
    expected = network(IMAGES)
    assert fold_batch_norm(network, IMAGES) == 0
    for ours, theirs in zip(network(IMAGES), expected, strict=True):
        assert torch.equal(ours, theirs)
