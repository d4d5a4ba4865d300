"""Checkpoints of detectron2's projects/Panoptic-DeepLab, and of the models trained with it elsewhere.

A convolution owns its normalization there: `X.weight`, `X.norm.weight`, where we have `X.0.weight`, `X.1.weight`. Their
names, `{h}` being `sem_seg_head` or `ins_embed_head`, `{f}` the feature (`res4`, `res3`, `res2`; ours on the left):

    backbone.network.X                 backbone.X: their own names for ResNets, those of `bowenc0221.py` for others
    {s}_aspp.branches.i                {h}.decoder.res5.project_conv.convs.i, separable: .depthwise, .pointwise
    {s}_aspp.image_pool                {h}.decoder.res5.project_conv.convs.4.1
    {s}_aspp.project                   {h}.decoder.res5.project_conv.project
    {s}_decoder.projections.i          {h}.decoder.{f}.project_conv
    {s}_decoder.stages.i.{0,1}         {h}.decoder.{f}.fuse_conv.{0,1}, separable: .depthwise, .pointwise
    semantic_head.{conv,predict}       sem_seg_head.{head,predictor}
    {k}_head.{conv,predict}            ins_embed_head.{k}_{head,predictor}, {k} being `center` or `offset`
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from panoptic_deeplab.config import Config, ModelConfig
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.converters import bowenc0221
from panoptic_deeplab.weights.converters.renaming import rename

_HEADS = {"semantic": "sem_seg_head", "instance": "ins_embed_head"}
_PARTS = {"0": "depthwise", "1": "pointwise"}
"""Parts of a separable convolution."""
_STEM = {
    "conv1.0": "stem.conv1",
    "conv1.1": "stem.conv1.norm",
    "conv1.3": "stem.conv2",
    "conv1.4": "stem.conv2.norm",
    "conv1.6": "stem.conv3",
    "bn1": "stem.conv3.norm",
}


def convert_state(state: Mapping[str, Tensor], model: PanopticDeepLab, config: Config, where: str) -> dict[str, Tensor]:
    """Rename the weights; see `Family.convert`.

    Older versions keep `pixel_mean` and `pixel_std` among them, which are compared with those of `config`.
    """
    state = dict(state)
    _check_pixels("pixel_mean", state.pop("pixel_mean", None), config.input.pixel_mean, where)
    _check_pixels("pixel_std", state.pop("pixel_std", None), config.input.pixel_std, where)
    return rename(state, model.state_dict(), lambda module: _their_name(module, config.model), where=where)


def _their_name(module: str, config: ModelConfig) -> str:
    if module.startswith("backbone.network."):
        layer = module.removeprefix("backbone.network.")
        if config.backbone.startswith("resnet"):
            return f"backbone.{_resnet_name(layer)}"
        return f"backbone.{bowenc0221.backbone_name(layer, config.backbone)}"
    part, rest = module.split(".", 1)
    branch, _, kind = part.partition("_")
    if kind == "head":
        return _head_name(branch, rest, config)
    head = f"{_HEADS[branch]}.decoder"
    if kind == "aspp":
        return f"{head}.res5.project_conv.{_aspp_name(rest, config)}"
    group, index, layer = rest.split(".", 2)
    feature = {16: "res4", 8: "res3", 4: "res2"}[config.decoder_strides[int(index)]]
    if group == "projections":
        return _convolution(f"{head}.{feature}.project_conv", layer)
    return _pair(f"{head}.{feature}.fuse_conv", layer, separable=config.decoder_conv == "separable")


def _head_name(branch: str, module: str, config: ModelConfig) -> str:
    prefix = "sem_seg_head." if branch == "semantic" else f"ins_embed_head.{branch}_"
    if module == "predict":
        return f"{prefix}predictor"
    kind = config.compat.center_head_conv if branch == "center" else config.decoder_conv
    return _pair(f"{prefix}head", module.removeprefix("conv."), separable=kind == "separable")


def _aspp_name(module: str, config: ModelConfig) -> str:
    group, layer = module.split(".", 1)
    if group == "image_pool":
        return "convs.4.1"
    if group == "project":
        return _convolution("project", layer)
    index, layer = layer.split(".", 1)
    if index == "0" or config.atrous_conv == "dense":
        return _convolution(f"convs.{index}", layer)
    return _pair(f"convs.{index}", layer, separable=True)


def _pair(theirs: str, layer: str, *, separable: bool) -> str:
    """Two convolutions with normalization, `layer` being `0.0` to `1.1`."""
    index, layer = layer.split(".")
    return _convolution(f"{theirs}.{_PARTS[index] if separable else index}", layer)


def _convolution(theirs: str, layer: str) -> str:
    """A convolution with normalization, `layer` being `0` or `1`."""
    return theirs if layer == "0" else f"{theirs}.norm"


def _resnet_name(module: str) -> str:
    """timm's `layer1.0.bn2` is their `res2.0.conv2.norm`."""
    if module in _STEM:
        return _STEM[module]
    block, unit, layer = module.removeprefix("layer").split(".", 2)
    if layer.startswith("downsample."):
        layer = _convolution("shortcut", layer.removeprefix("downsample."))
    elif layer.startswith("bn"):
        layer = f"conv{layer.removeprefix('bn')}.norm"
    return f"res{int(block) + 1}.{unit}.{layer}"


def _check_pixels(name: str, stored: Tensor | None, expected: tuple[float, float, float], where: str) -> None:
    if stored is None:
        return
    values = stored.flatten().double() / 255
    if values.shape != (3,) or not torch.allclose(values, torch.tensor(expected, dtype=torch.float64), atol=1e-5):
        raise CheckpointError(
            f"{where} was trained with {name} {[round(float(v) * 255, 3) for v in values]}, but the model that it was"
            f" said to hold has {[round(v * 255, 3) for v in expected]}. Name the model that the file does hold."
        )
