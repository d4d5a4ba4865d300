"""Batch normalization folded into the convolution before it: the same function, with less to compute and to store.

In evaluation mode, batch normalization is a factor and a summand for each channel, and so are weights and bias of a
convolution. Which convolution feeds which normalization is read off the autograd graph of one run, not off names or
the order of modules. So this holds for any network of timm and for ours, and a convolution whose output something else
reads too (networks that normalize first, taps for the decoder) is seen and left alone.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

_Layer = nn.Conv2d | _BatchNorm


def fold_batch_norm(network: nn.Module, images: Float[Tensor, "B 3 H W"]) -> int:
    """Fold what can be folded, in place.

    Args:
        network: in evaluation mode, in float32; gives a sequence of tensors and None. Its parameters lose their
            `requires_grad`.
        images: input for one run; small ones do.

    Returns:
        How many normalizations are gone.
    """
    rest: dict[nn.Module, nn.Module] = {}
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        for convolution, norm in _pairs_of(network, images):
            _fold(convolution, norm)
            rest[norm] = _rest(norm)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if child in rest:
                setattr(module, name, rest[child])
    network.requires_grad_(False)
    return len(rest)


def _pairs_of(network: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, _BatchNorm]]:
    """Convolutions, each with the normalization that alone reads its output."""
    network.requires_grad_(True)
    owners: dict[int, _Layer] = {
        id(m.weight): m for m in network.modules() if isinstance(m, _Layer) and m.weight is not None
    }
    with torch.inference_mode(mode=False), torch.enable_grad():
        outputs = network.forward(images)  # a hook of the user on the whole network waits for images of his
        ends = [output.grad_fn for output in outputs if output is not None and output.grad_fn is not None]
        return list(_pairs(ends, owners))  # while `outputs` keeps the graph


def _pairs(ends: Sequence[Node], owners: Mapping[int, _Layer]) -> Iterator[tuple[nn.Conv2d, _BatchNorm]]:
    nodes, uses = _graph(ends)
    for node in nodes:
        if "BatchNormBackward" not in node.name():
            continue
        (source, _), (scale, _), *_ = node.next_functions  # of input, weight and bias; so for convolutions
        if source is None or scale is None or source.name() != "ConvolutionBackward0":
            continue
        weight = source.next_functions[1][0]
        convolution, norm = _owner(weight, owners), _owner(scale, owners)
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, _BatchNorm) or norm.running_mean is None:
            continue
        if uses[source] == uses[weight] == uses[scale] == 1:  # a layer that runs twice has two graph nodes
            yield convolution, norm


def _graph(ends: Sequence[Node]) -> tuple[list[Node], Counter[Node | None]]:
    """All nodes, and how many inputs of others, or results, each one's output is."""
    uses: Counter[Node | None] = Counter(ends)
    nodes = list(uses)
    for node in nodes:  # grows meanwhile
        assert node is not None
        for source, _ in node.next_functions:
            if source is not None and uses[source] == 0:
                nodes.append(source)
            uses[source] += 1
    return [node for node in nodes if node is not None], uses


def _owner(weight: Node | None, owners: Mapping[int, _Layer]) -> _Layer | None:
    """The layer of a parameter; None where the weight is not the parameter itself (standardized weights)."""
    parameter = getattr(weight, "variable", None)
    return None if parameter is None else owners.get(id(parameter))


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: _BatchNorm) -> None:
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: PT018
    mean, variance = norm.running_mean, norm.running_var
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )


def _rest(norm: _BatchNorm) -> nn.Module:
    """What a normalization does besides: those of timm have an activation."""
    after: list[Callable[[Tensor], Tensor] | None] = [getattr(norm, "drop", None), getattr(norm, "act", None)]
    layers = [layer for layer in after if isinstance(layer, nn.Module) and not isinstance(layer, nn.Identity)]
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)
