"""Checkpoints of deeplab2's Panoptic-DeepLab (TensorFlow), read without TensorFlow.

A variable's name there is its path through the attributes of the program (`common.py`: the first parts). `read_state`
gives it the entry's name in PyTorch and PyTorch's order of axes: `X/_conv/kernel` of shape (h, w, in, out) becomes
`X/_conv.weight` of shape (out, in, h, w), `X/_batch_norm/moving_mean` becomes `X/_batch_norm.running_mean`. Then the
names are, `{s}` being `semantic` or `instance`, `{n}` counting from 1, with `_conv` and `_batch_norm` behind them (ours
on the left):

    backbone.network.X                   encoder/X: see `_resnet_name`, `_mobilenet_name`
    {s}_aspp.branches.0, .{n}            {s}_decoder/_aspp/_conv_bn_act, /_aspp_conv{n}/_conv_bn_act
    {s}_aspp.image_pool, .project        {s}_decoder/_aspp/_aspp_pool/_conv_bn_act, /_proj_conv_bn_act
    {s}_decoder.projections.{n-1}        {s}_decoder/_low_level_conv{n}
    {s}_decoder.stages.{n-1}.{0,1}       {s}_decoder/_fusion_conv{n}/_conv1_bn_act/{_depthwise,_pointwise}
    semantic_head.conv, .predict         semantic_head_without_last_layer, semantic_last_layer
    {k}_head.conv, .predict              instance_{j}_head_without_last_layer, instance_{j}_head_last_layer,
                                         {k} being `center` or `offset`, {j} `center` or `regression`
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.converters.renaming import rename
from panoptic_deeplab.weights.converters.tensorflow_bundle import TensorBundle, open_bundle

_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_ROOTS = ("encoder/", "semantic_", "instance_")
"""How the names of the model's variables begin; the others belong to the training."""
_ENTRIES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_AXES = {"kernel": (3, 2, 0, 1), "depthwise_kernel": (2, 3, 0, 1)}
"""From (h, w, in, out), or for a depthwise convolution (h, w, channels, 1), to PyTorch's order."""
_LAST_LAYER = "semantic_last_layer"


def read_state(path: Path) -> dict[str, Tensor]:
    """The model's variables in a checkpoint that `open_bundle` takes, in PyTorch's form."""
    with open_bundle(path) as bundle:
        return state_of(bundle, where=str(path))


def state_of(bundle: TensorBundle, *, where: str) -> dict[str, Tensor]:
    """The model's variables in an open checkpoint, in PyTorch's form; something else is a `CheckpointError`."""
    state = {}
    for name in bundle.names:
        if not name.endswith(_VARIABLE) or not name.startswith(_ROOTS) or ".OPTIMIZER_SLOT" in name:
            continue
        module, _, entry = name.removesuffix(_VARIABLE).rpartition("/")
        values = bundle.read(name)
        if entry not in _ENTRIES or values.ndim != (4 if entry in _AXES else 1):
            raise CheckpointError(f"{where} holds {name} of shape {values.shape}, which no layer of deeplab2 has.")
        if entry in _AXES:
            values = values.transpose(_AXES[entry])
        state[f"{module}.{_ENTRIES[entry]}"] = torch.from_numpy(np.array(values, np.float32, order="C"))
    return state


def convert_state(state: Mapping[str, Tensor], model: PanopticDeepLab, config: Config, where: str) -> dict[str, Tensor]:
    """Rename the weights; see `Family.convert`.

    With COCO, the classes begin behind void, class 0, which the loss ignored: it was never a target, and is left out.
    """
    state = dict(state)
    if config.data.categories == "coco":
        for entry in (f"{_LAST_LAYER}.weight", f"{_LAST_LAYER}.bias"):
            if entry in state:
                state[entry] = state[entry][1:]
    encoder = _ENCODERS[config.model.backbone]
    return rename(state, model.state_dict(), lambda module: _their_name(module, encoder), where=where)


def _their_name(module: str, encoder: Callable[[str], str]) -> str:
    part, rest = module.split(".", 1)
    if part == "backbone":
        return f"encoder/{encoder(rest.removeprefix('network.'))}"
    branch, _, group = part.partition("_")
    if group == "head":
        return _head_name(branch, rest)
    if group == "aspp":
        return f"{branch}_decoder/_aspp/{_aspp_name(rest)}"
    stage, index, layer = rest.split(".", 2)
    number = int(index) + 1
    if stage == "projections":
        return f"{branch}_decoder/_low_level_conv{number}/{_layer(layer)}"
    return f"{branch}_decoder/_fusion_conv{number}/{_separable(layer)}"


def _head_name(branch: str, module: str) -> str:
    head = {"semantic": "semantic", "center": "instance_center_head", "offset": "instance_regression_head"}[branch]
    if module == "predict":
        return f"{head}_last_layer"
    without = "semantic_head_without_last_layer" if branch == "semantic" else f"{head}_without_last_layer"
    return f"{without}/{_separable(module.removeprefix('conv.'))}"


def _aspp_name(module: str) -> str:
    group, layer = module.split(".", 1)
    if group == "image_pool":
        return f"_aspp_pool/_conv_bn_act/{_layer(layer)}"
    if group == "project":
        return f"_proj_conv_bn_act/{_layer(layer)}"
    index, layer = layer.split(".", 1)
    place = "" if index == "0" else f"_aspp_conv{index}/"
    return f"{place}_conv_bn_act/{_layer(layer)}"


def _separable(module: str) -> str:
    """`0.0` to `1.1`: depthwise or pointwise, then convolution or BN."""
    part, layer = module.split(".")
    if part == "1":
        return f"_conv1_bn_act/_pointwise/{_layer(layer)}"
    return f"_conv1_bn_act/_depthwise/{_layer(layer, depthwise=True)}"


def _layer(index: str, *, depthwise: bool = False) -> str:
    if index == "1":
        return "_batch_norm"
    return "_depthwise_conv" if depthwise else "_conv"


def _resnet_name(module: str, *, stem: tuple[str, ...]) -> str:
    """`stem.{i}.{0,1}`, `stages.{s}.{b}.{conv1,conv2,conv3,shortcut}.{0,1}`."""
    path, _, layer = module.rpartition(".")
    group, index, *rest = path.split(".")
    if group == "stem":
        return f"_stem/{stem[int(index)]}{_layer(layer)}"
    block, convolution = rest
    return f"_stage{int(index) + 2}/_block{int(block) + 1}/{_BOTTLENECK[convolution]}/{_layer(layer)}"


def _mobilenet_name(module: str, *, stages: tuple[int, ...]) -> str:
    """`conv_stem`, `bn1`, `blocks.{stage}.{b}.X`, and behind the last stage one 1x1 convolution with its BN."""
    if not module.startswith("blocks."):
        return f"_blocks/0/{_STEM[module]}"
    _, stage, block, part = module.split(".", 3)
    place = f"_blocks/{1 + sum(stages[: int(stage)]) + int(block)}"
    if int(stage) == len(stages):
        return f"{place}/{_STEM[part]}"
    return f"{place}/{(_INVERTED_RESIDUAL if int(stage) else _FIRST_RESIDUAL)[part]}"


_BOTTLENECK = {"conv1": "_conv1_bn_act", "conv2": "_conv2_bn_act", "conv3": "_conv3_bn", "shortcut": "_shortcut"}
_STEM = {"conv_stem": "_conv", "conv": "_conv", "bn1": "_batch_norm"}
_SQUEEZE_EXCITE = {f"se.conv_{part}": f"_squeeze_excitation/_se_{part}" for part in ("reduce", "expand")}
_FIRST_RESIDUAL = _SQUEEZE_EXCITE | {
    "conv_dw": "_conv2_bn_act/_depthwise_conv",
    "bn1": "_conv2_bn_act/_batch_norm",
    "conv_pw": "_conv3_bn/_conv",
    "bn2": "_conv3_bn/_batch_norm",
}
"""It does not expand."""
_INVERTED_RESIDUAL = _SQUEEZE_EXCITE | {
    "conv_pw": "_conv1_bn_act/_conv",
    "bn1": "_conv1_bn_act/_batch_norm",
    "conv_dw": "_conv2_bn_act/_depthwise_conv",
    "bn2": "_conv2_bn_act/_batch_norm",
    "conv_pwl": "_conv3_bn/_conv",
    "bn3": "_conv3_bn/_batch_norm",
}
_ENCODERS: dict[str, Callable[[str], str]] = {
    "deeplab2_resnet50": partial(_resnet_name, stem=("",)),
    "deeplab2_resnet50_beta": partial(_resnet_name, stem=("_conv1_bn_act/", "_conv2_bn_act/", "_conv3_bn/")),
    "deeplab2_mobilenet_v3_small": partial(_mobilenet_name, stages=(1, 2, 3, 2, 3)),
    "deeplab2_mobilenet_v3_large": partial(_mobilenet_name, stages=(1, 2, 3, 4, 2, 3)),
}
"""Modules by `model.backbone`: our name of a module of the network -> theirs within the encoder."""
