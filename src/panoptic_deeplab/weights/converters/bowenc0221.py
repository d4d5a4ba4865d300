"""Checkpoints of github.com/bowenc0221/panoptic-deeplab, the author's PyTorch version.

Their names, `{s}` being `semantic` or `instance` (ours on the left):

    backbone.network.X                       backbone.X, with names of torchvision, HRNet or their Xception
    {s}_aspp.branches.0-3.{0,1}              decoder.{s}_decoder.aspp.convs.0-3.{0,1}
    {s}_aspp.image_pool.0                    decoder.{s}_decoder.aspp.convs.4.aspp_pooling.1
    {s}_aspp.project.{0,1}                   decoder.{s}_decoder.aspp.project.{0,1}
    {s}_decoder.projections.i.{0,1}          decoder.{s}_decoder.project.i.{0,1}
    {s}_decoder.stages.i.{0.0,0.1,1.0,1.1}   decoder.{s}_decoder.fuse.i.0.{0.0,0.1,1,2}
    semantic_head.conv. ..., predict         decoder.semantic_head.classifier.semantic.{0.0. ..., 1}
    center_head, offset_head                 decoder.instance_head.classifier.{center,offset}
"""

import re
from collections.abc import Mapping

from torch import Tensor

from panoptic_deeplab.config import Config
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.converters.renaming import rename

_SEPARABLE = {"0.0": "0.0", "0.1": "0.1", "1.0": "1", "1.1": "2"}
"""Depthwise convolution, its BN, pointwise convolution, its BN."""

_CLASSIFIERS = {
    "semantic_head": "decoder.semantic_head.classifier.semantic",
    "center_head": "decoder.instance_head.classifier.center",
    "offset_head": "decoder.instance_head.classifier.offset",
}

_MOBILENET_UNITS = (1, 2, 3, 4, 3, 3, 1)
"""Units of the seven blocks of MobileNetV2; torchvision numbers all units in one row, behind the stem."""

_MOBILENET_LAYERS = {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"}
_MOBILENET_FIRST_LAYERS = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}
"""Layers of the first unit, which does not expand."""

_XCEPTION_STEM = {"stem_0.conv": "conv1", "stem_0.bn": "bn1", "stem_1.conv": "conv2", "stem_1.bn": "bn2"}
_XCEPTION_LAYERS = {"conv_dw": "depthwise", "bn_dw": "bn_depth", "conv_pw": "pointwise", "bn_pw": "bn_point"}


def convert_state(state: Mapping[str, Tensor], model: PanopticDeepLab, config: Config, where: str) -> dict[str, Tensor]:
    """Rename the weights; see `Family.convert`."""

    def their_name(module: str) -> str:
        if module.startswith("backbone.network."):
            return "backbone." + backbone_name(module.removeprefix("backbone.network."), config.model.backbone)
        part, rest = module.split(".", 1)
        if part in _CLASSIFIERS:
            return f"{_CLASSIFIERS[part]}.{_head_name(rest)}"
        branch, _, kind = part.partition("_")
        decoder = f"decoder.{branch}_decoder"
        return f"{decoder}.aspp.{_aspp_name(rest)}" if kind == "aspp" else f"{decoder}.{_decoder_name(rest)}"

    return rename(state, model.state_dict(), their_name, where=where)


def backbone_name(module: str, backbone: str) -> str:
    """Their name of one of the layers of our backbone, both without a prefix."""
    if backbone == "mobilenetv2_100":
        return _mobilenet_name(module)
    if backbone.startswith("xception"):
        return _xception_name(module)
    return module  # ResNets have torchvision's names in both, HRNet those of its authors


def _aspp_name(module: str) -> str:
    if module == "image_pool.0":
        return "convs.4.aspp_pooling.1"
    return module.replace("branches.", "convs.")


def _decoder_name(module: str) -> str:
    kind, index, layer = module.split(".", 2)
    return f"project.{index}.{layer}" if kind == "projections" else f"fuse.{index}.0.{_SEPARABLE[layer]}"


def _head_name(module: str) -> str:
    return "1" if module == "predict" else f"0.0.{_SEPARABLE[module.removeprefix('conv.')]}"


def _mobilenet_name(module: str) -> str:
    if not module.startswith("blocks."):
        return {"conv_stem": "features.0.0", "bn1": "features.0.1"}[module]
    block, unit, layer = re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+)", module).groups()  # type: ignore[union-attr]
    number = 1 + sum(_MOBILENET_UNITS[: int(block)]) + int(unit)
    layers = _MOBILENET_FIRST_LAYERS if number == 1 else _MOBILENET_LAYERS
    return f"features.{number}.conv.{layers[layer]}"


def _xception_name(module: str) -> str:
    if module in _XCEPTION_STEM:
        return _XCEPTION_STEM[module]
    block, rest = module.removeprefix("blocks_").split(".", 1)
    number = int(block) + 1
    if rest.startswith("shortcut."):
        return f"block{number}.{rest.removeprefix('shortcut.')}"
    convolution, layer = rest.removeprefix("stack.").split(".")
    return f"block{number}.sep_{convolution}.block.{_XCEPTION_LAYERS[layer]}"
