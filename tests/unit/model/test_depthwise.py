"""The fast ways of depthwise convolution against PyTorch's own."""

import copy
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from panoptic_deeplab.model.depthwise import FastDepthwiseConv2d, use_fast_depthwise


def _both(**settings: object) -> Iterator[nn.Conv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, groups=6, **settings)  # type: ignore[arg-type]
    fast = copy.deepcopy(plain)
    use_fast_depthwise(fast)
    assert type(fast) is FastDepthwiseConv2d
    yield plain
    yield fast


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(9, 14), (2, 3), (17, 8), (8, 2)])
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1, "bias": True},
        {"kernel_size": 5, "padding": 2, "bias": False},
        {"kernel_size": 5, "padding": 2, "stride": 2, "bias": True},
        {"kernel_size": 7, "padding": 3, "stride": 2},
        {"kernel_size": (3, 4), "padding": (1, 3)},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "stride": 2},
        {"kernel_size": 3, "padding": 6, "dilation": 6, "bias": True},
        {"kernel_size": 3, "padding": (12, 18), "dilation": (12, 18)},
        {"kernel_size": 5, "padding": 4, "dilation": (1, 2)},
    ],
)
def test_equals_pytorch(settings: dict[str, object], size: tuple[int, int], dtype: torch.dtype) -> None:
    """Outputs and all gradients, in float64's accuracy of the reference."""
    results = []
    for module, run_dtype in zip(_both(**settings), (torch.float64, dtype), strict=True):
        module.to(dtype).to(run_dtype)  # weights that both can hold
        features = torch.randn(3, 6, *size, generator=torch.manual_seed(1)).to(dtype).to(run_dtype)
        features = features.contiguous(memory_format=torch.channels_last).requires_grad_()
        output = module(features)
        factor = torch.randn(output.shape, generator=torch.manual_seed(2)).to(dtype).to(run_dtype)
        (output * factor).sum().backward()
        assert output.dtype == run_dtype
        results.append([output, features.grad, *(parameter.grad for parameter in module.parameters())])
    for wanted, got in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), wanted, atol=1e-5 if dtype == torch.float32 else 0.1, rtol=1e-2)


def test_autocast_computes_in_its_precision() -> None:
    plain, fast = _both(kernel_size=5, padding=2)
    features = torch.randn(2, 6, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        wanted, got = plain(features), fast(features)
    assert got.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(got, wanted, atol=0.02, rtol=0.02)
    got.float().sum().backward()
    assert fast.weight.grad is not None
    assert fast.weight.grad.dtype == torch.float32


def test_other_convolutions_stay() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Conv2d(4, 4, 3, groups=4, padding="same"),
        nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(4, 4, 3, groups=4),
    )
    use_fast_depthwise(model)
    assert not any(isinstance(module, FastDepthwiseConv2d) for module in model)


class Shapes(TorchDispatchMode):
    """Counts the operators whose result has the shape of the weights or of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[torch.Size] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        self.seen.update(t.shape for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor))
        return result


@pytest.mark.parametrize("dilation", [1, 2])
def test_no_gradient_where_none_is_wanted(dilation: int) -> None:
    """The first convolution of a backbone sees images; a frozen one needs no gradient of its weights."""
    _, fast = _both(kernel_size=3, padding=0, dilation=dilation)
    features = torch.randn(2, 6, 9, 9)
    output = fast(features)
    with Shapes() as without_features:
        output.backward(torch.ones_like(output))
    assert fast.weight.grad is not None
    assert features.shape not in without_features.seen
    fast.requires_grad_(False)
    features.requires_grad_()
    output = fast(features)
    with Shapes() as without_weight:
        output.backward(torch.ones_like(output))
    assert features.grad is not None
    assert fast.weight.shape not in without_weight.seen


def test_float64_is_not_rounded() -> None:
    plain, fast = (layer.double() for layer in _both(kernel_size=3, padding=2, dilation=2))
    features = torch.randn(1, 6, 9, 9, dtype=torch.float64, requires_grad=True)
    assert torch.equal(plain(features), fast(features))
    assert torch.autograd.gradcheck(fast, features)
