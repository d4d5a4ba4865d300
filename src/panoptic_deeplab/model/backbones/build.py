"""`build_backbone`: the encoder shared by both branches (section 3.1).

The encoder is "an ImageNet-pretrained neural network paired with atrous convolution for extracting denser feature maps
in its last block". Many networks of timm serve: `features_only` gives the features, `output_stride` the atrous
convolution. What they need is features at strides 4 and 8 and at the output stride, channels first, of images of any
size, rounded up; `docs/how-to/label-formats.md` lists families that have them and some that do not. Networks of the
paper and of published weights that timm lacks have a file of their own here (`OWN_NETWORKS`).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.errors import ConfigError, did_you_mean, quiet
from panoptic_deeplab.model.backbones.auto_deeplab import (
    auto_deeplab_l_plus,
    auto_deeplab_xl_plus,
    auto_deeplab_xl_plus_plus,
)
from panoptic_deeplab.model.backbones.deeplab2_resnet import deeplab2_resnet50, deeplab2_resnet50_beta
from panoptic_deeplab.model.backbones.hrnet import hrnet_w48_branches, hrnet_w48_plus, hrnet_wider_plus
from panoptic_deeplab.model.backbones.mobilenet_v3 import (
    deeplab2_mobilenet_v3_large,
    deeplab2_mobilenet_v3_small,
    mobilenet_v3_large_seg,
)
from panoptic_deeplab.model.backbones.multi_grid import use_multi_grid
from panoptic_deeplab.model.backbones.padding import pad_patches, use_symmetric_padding
from panoptic_deeplab.model.backbones.resnet_beta import resnet50_beta
from panoptic_deeplab.model.backbones.xception import xception

_NATIVE_STRIDE = 32
"""Stride of networks that are built without the argument `output_stride`."""

OWN_NETWORKS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "auto_deeplab_l_plus": auto_deeplab_l_plus,
    "auto_deeplab_xl_plus": auto_deeplab_xl_plus,
    "auto_deeplab_xl_plus_plus": auto_deeplab_xl_plus_plus,
    "deeplab2_mobilenet_v3_large": deeplab2_mobilenet_v3_large,
    "deeplab2_mobilenet_v3_small": deeplab2_mobilenet_v3_small,
    "deeplab2_resnet50": deeplab2_resnet50,
    "deeplab2_resnet50_beta": deeplab2_resnet50_beta,
    "hrnet_w48_branches": hrnet_w48_branches,
    "hrnet_w48_plus": hrnet_w48_plus,
    "hrnet_wider_plus": hrnet_wider_plus,
    "mobilenet_v3_large_seg": mobilenet_v3_large_seg,
    "resnet50_beta": resnet50_beta,
    "xception41": xception,
    "xception65": xception,
    "xception71": xception,
}
"""Networks by the name in `model.backbone`. Such a network has the attributes `strides` and `channels`, one entry a
feature, shallow to deep (the last one the deepest, at `output_stride`), and its `forward(images)` returns these
features as a list. Strides before the last are native ones, as in `Backbone`. Where timm has ImageNet weights of its
layers, it also has `timm_name` and `from_timm(state)`: see `weights/backbone.py`."""

_ADVICE = (
    "Choose a network that has features at strides 4, 8, 16 and 32 of images of any size, channels first."
    " EfficientNets, MobileNets, ResNets, RegNets, ConvNeXts and most convolutional ones of timm do; plain vision"
    " transformers do not."
)

_PROBE_SIZE = (64, 96)
"""`(height, width)` of the image that shows what a network's features are like, without the 1 of aligned corners."""


class _UnusableError(ConfigError):
    """A network of timm does not fit the settings, or none; what it says lacks the advice."""


class Features(NamedTuple):
    """What an encoder gives."""

    deepest: Float[Tensor, "B D h w"]
    """The feature at `output_stride`: the input of the ASPP."""
    low_level: tuple[Float[Tensor, "B d h w"], ...]
    """The features at `decoder_strides`, deep to shallow: the skips of the decoder."""


class Backbone(nn.Module):
    """A feature extractor, reduced to the features that the decoder reads.

    Args:
        network: gives a list of features, shallow to deep.
        strides: strides of these features.
        channels: channels of these features.
        decoder_strides: strides of the low-level features, deep to shallow. They name the *native* stride of a stage;
            with output stride 8, the later stages have stride 8 too, and the first of them is the tap.

    Attributes:
        deepest_channels: channels of `Features.deepest`.
        low_level_channels: channels of each of `Features.low_level`.
    """

    def __init__(
        self, network: nn.Module, *, strides: Sequence[int], channels: Sequence[int], decoder_strides: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.network = network
        absent = [s for s in decoder_strides if s not in strides[:-1]]
        if absent:
            raise ConfigError(
                f"`model.backbone` must have features at the strides {decoder_strides} before its last stage."
                f" This network's are at {list(strides)}; choose another one, or set `model.decoder_strides`."
            )
        self._taps = tuple(strides.index(s) for s in decoder_strides)
        self.deepest_channels = channels[-1]
        self.low_level_channels = tuple(channels[i] for i in self._taps)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Features:
        """Encode normalized images."""
        features = self.network(images)
        return Features(deepest=features[-1], low_level=tuple(features[i] for i in self._taps))


def build_backbone(config: ModelConfig, network: nn.Module | None = None) -> Backbone:
    """Make the encoder, with random weights (`load_backbone_weights` fills those of a network with a name).

    Args:
        config: names the network, and the strides that are needed of it.
        network: takes the place of the one that `config.backbone` names: `strides` and `channels` have one number a
            feature, shallow to deep, the last one at `config.output_stride`, and `forward(images)` returns the
            features in this order, `(B, channels, ceil(H / stride), ceil(W / stride))` each.

    Raises:
        ConfigError: timm has no such network, or not at this output stride, or its features are no maps
            `(B, D, h, w)` of images of any size.
    """
    try:
        return _build(config, network)
    except _UnusableError as error:
        advice = _what_works(config) if network is None else ""
        raise ConfigError(f"{error} {advice}".rstrip()) from error


def _build(config: ModelConfig, given: nn.Module | None = None) -> Backbone:
    name = config.backbone if given is None else type(given).__name__
    if given is not None:
        network: Any = given
        strides, channels = getattr(given, "strides", ()), getattr(given, "channels", ())
        if not strides or len(strides) != len(channels) or strides[-1] != config.output_stride:
            raise ConfigError(
                f"A backbone of your own must have `strides` and `channels`, one number a feature, shallow to deep, and"
                f" end at `model.output_stride` {config.output_stride}. {name} has {strides} and {channels}."
            )
    elif config.backbone in OWN_NETWORKS:
        network = OWN_NETWORKS[config.backbone](config)
        strides, channels = network.strides, network.channels
    else:
        network = create_timm_network(config)
        pad_patches(network, align_corners=config.align_corners)
        use_symmetric_padding(network)
        strides, channels = network.feature_info.reduction(), network.feature_info.channels()
    if config.compat.multi_grid is not None:
        rate = _NATIVE_STRIDE // config.output_stride
        use_multi_grid(network, config.compat.multi_grid, rate=rate, name=name)
    backbone = Backbone(network, strides=strides, channels=channels, decoder_strides=config.decoder_strides)
    _check_features(network, config, name=name, strides=strides, channels=channels)
    return backbone


def create_timm_network(config: ModelConfig, *, state_dict: dict[str, Tensor] | None = None) -> nn.Module:
    """The timm network with `features_only`.

    Args:
        config: names the network and its output stride.
        state_dict: weights of the whole classification network, as timm names them; None = random.

    Raises:
        ConfigError: timm has no such network, or not at this output stride.
    """
    import timm

    name = config.backbone
    if not timm.is_model(name):
        raise ConfigError(
            f"`model.backbone` must be a network of timm or one of our own. {name!r} is none. {_similar_networks(name)}"
        )
    stride: dict[str, Any] = {}
    if config.output_stride != _NATIVE_STRIDE:  # many networks know no such argument
        stride["output_stride"] = config.output_stride
    try:
        with quiet("timm.models._builder"):
            network: nn.Module = timm.create_model(
                name,
                features_only=True,
                pretrained=state_dict is not None,
                pretrained_cfg_overlay={"state_dict": state_dict},
                **stride,
            )
    except (AssertionError, TypeError, RuntimeError, ValueError) as error:
        if state_dict is not None:
            raise
        raise _UnusableError(
            f"`model.backbone` {name!r} cannot give features at output stride {config.output_stride}"
            f" (timm: {type(error).__name__} {error})."
        ) from error
    last = network.feature_info.reduction()[-1]  # type: ignore[union-attr, operator]
    if last != config.output_stride:
        raise _UnusableError(
            f"`model.backbone` {name!r} ends at stride {last}, not at `model.output_stride` {config.output_stride}."
        )
    return network


def set_norm(network: nn.Module, *, eps: float | None, momentum: float) -> None:
    """Set `eps` (None = leave) and `momentum` of every batch normalization below `network`."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum
            if eps is not None:
                module.eps = eps


def _check_features(
    network: nn.Module, config: ModelConfig, *, name: str, strides: Sequence[int], channels: Sequence[int]
) -> None:
    """Encode a small image: some networks put channels last, others take images of one size only."""
    if any(parameter.is_meta for parameter in network.parameters()):
        return  # a network without values, made to be counted
    height, width = (side + int(config.align_corners) for side in _PROBE_SIZE)  # sizes that it is going to see
    network.eval()
    try:
        with torch.no_grad():
            features = network(torch.zeros(1, 3, height, width))
    except Exception as error:  # whatever a network raises that wants another size
        raise _UnusableError(
            f"`model.backbone` {name!r} cannot encode an image of {height} x {width} pixels"
            f" ({type(error).__name__}: {error})."
        ) from error
    finally:
        network.train()
    if len(features) != len(strides):
        raise _UnusableError(f"`model.backbone` {name!r} gives {len(features)} features. Expected {len(strides)}.")
    for feature, depth, stride in zip(features, channels, strides, strict=True):
        expected = (1, depth, -(-height // stride), -(-width // stride))
        if tuple(feature.shape) != expected:
            raise _UnusableError(
                f"`model.backbone` {name!r} gives features of shape {tuple(feature.shape)} for an image of {height} x"
                f" {width} pixels. Expected {expected}, channels first."
            )


def _what_works(config: ModelConfig) -> str:
    """Advice for a network that is of no use with these settings: those with which it is, found by trying."""
    coarse, unaligned = {"output_stride": _NATIVE_STRIDE}, {"align_corners": False}
    for changes in (coarse, unaligned, coarse | unaligned):
        changed = replace(config, **changes)
        with suppress(ConfigError):
            if changed != config:
                _build(changed)
                settings = " and ".join(f"`model.{name}` {str(value).lower()}" for name, value in changes.items())
                return f"This network works with {settings}."
    return _ADVICE


def _similar_networks(name: str) -> str:
    import timm

    names = [*OWN_NETWORKS, *timm.list_models()]
    if get_close_matches(name, names, n=1):
        return did_you_mean(name, names)
    return f"timm.list_models() has all names. Networks of our own are {', '.join(OWN_NETWORKS)}."
