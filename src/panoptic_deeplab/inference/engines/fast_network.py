"""How a PyTorch network runs for prediction: a copy of it in the form that is quickest.

    the user's model ─▶ copy ─▶ batch norm folded ─▶ precision ─▶ channels last ─▶ torch.compile, if asked
                        (folding.py)

The model itself stays as it is, but for the evaluation mode: it can be saved, exported and trained on. When its weights
change, the next prediction makes a new copy. The copy takes the memory of the weights once more, half of it in 16 bits.

`docs/explanation/speed.md` has the times.
"""

import copy
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from panoptic_deeplab.config import Precision
from panoptic_deeplab.errors import ConfigError, first_line
from panoptic_deeplab.inference.engines.folding import fold_batch_norm
from panoptic_deeplab.maps import RawMaps, Size, each_map
from panoptic_deeplab.model.depthwise import FastDepthwiseConv2d

_COMPILERS = ("g++", "clang++", "c++", "cl")


class FastNetwork:
    """Keeps the copy of a model in step with it.

    Args:
        model: `images -> RawMaps`. What is no `nn.Module` with parameters runs as it is, in 16 bits under autocast.
        device: where it runs; the model is there.
        precision: type of the copy's weights and activations.
        compile: with torch.compile, which takes minutes at the first image of each size; torch keeps what it compiled,
            see its `TORCHINDUCTOR_CACHE_DIR`.
        example_size: `(height, width)` of images that the model can take.

    Raises:
        ConfigError: the device cannot compute in this precision, or there is nothing to compile or no C++ compiler.
    """

    def __init__(
        self,
        model: Callable[[Tensor], RawMaps],
        *,
        device: torch.device,
        precision: Precision,
        compile: bool,  # noqa: A002 - torch's name
        example_size: Size,
    ) -> None:
        if precision == "float16" and device.type == "cpu":
            raise ConfigError("`precision` float16 is for GPUs. Got device cpu; use bfloat16 or float32 there.")
        is_network = isinstance(model, nn.Module) and any(True for _ in model.parameters())
        if compile and not is_network:
            raise ConfigError("`compile` is for PyTorch networks; this model has its own runtime. Leave it out.")
        if compile and device.type == "cpu":
            check_compiler()
        self._model = model
        self._device = device
        self._dtype: torch.dtype = getattr(torch, precision)
        self._compile = compile
        self._example_size = example_size
        self._is_network = is_network
        self._weights: tuple[tuple[int, int], ...] = ()
        self._held: list[Tensor] = []  # or a new tensor may get the address of an old one
        self._copy: nn.Module | None = None
        self._lock = threading.Lock()

    def current(self) -> Callable[[Tensor], RawMaps]:
        """What computes `images -> RawMaps` with the weights that the model has now; several threads may ask."""
        with self._lock:
            return self._current()

    def _current(self) -> Callable[[Tensor], RawMaps]:
        model = self._model
        was_training = isinstance(model, nn.Module) and model.training
        if isinstance(model, nn.Module):
            model.eval()
        if not self._is_network:
            return self._run_as_it_is
        assert isinstance(model, nn.Module)
        weights = _versions(model)
        if self._copy is None or was_training or weights != self._weights:  # a fused optimizer's steps are not counted
            self._copy = None  # frees the memory of the old one
            self._copy = self._make_copy(model)
            self._weights = weights
            self._held = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
        return self._copy

    def _make_copy(self, model: nn.Module) -> nn.Module:
        network = _ReadyNetwork(model, self._dtype, example_size=self._example_size)
        if not self._compile:
            return network
        compiled: Any = torch.compile(network, dynamic=False)
        return _CompiledNetwork(compiled)

    def _run_as_it_is(self, images: Float[Tensor, "B 3 H W"]) -> RawMaps:
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            return self._model(images)


class _ReadyNetwork(nn.Module):
    """The copy; takes float32 images in any memory format and gives float32 maps."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, *, example_size: Size) -> None:
        super().__init__()
        with torch.inference_mode(mode=False):  # tensors made in that mode are not for the autograd graph
            self.network = copy.deepcopy(model).eval().float()
            for module in self.network.modules():
                if isinstance(module, FastDepthwiseConv2d):  # which adds its bias in a second step
                    module.__class__ = nn.Conv2d  # type: ignore[assignment]
            device = next(self.network.parameters()).device
            fold_batch_norm(self.network, torch.zeros(1, 3, *example_size, device=device))
            if dtype != torch.float32:
                with _some_layers_in_float32(self.network):
                    self.network.to(dtype)
            self.network.to(memory_format=torch.channels_last)
        self.dtype = dtype
        self.eval()

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> RawMaps:
        maps = self.network(images.to(dtype=self.dtype, memory_format=torch.channels_last))
        return each_map(maps, Tensor.float)


class _InFloat32(nn.Module):
    """A layer with float32 weights among others; with `keep` it gives float32 instead of the type that came."""

    def __init__(self, layer: nn.Module, *, keep: bool) -> None:
        super().__init__()
        self.layer = layer
        self.keep = keep

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N h w"]:
        result: Tensor = self.layer(features.float())
        return result if self.keep else result.to(features.dtype)


@contextmanager
def _some_layers_in_float32(network: nn.Module) -> Iterator[None]:
    """Within it, the type of the network can be changed without that of a few layers.

    The heads' last ones: scores rounded to 8 bits have many equal maxima, and an offset of 100 pixels would be rounded
    to half a pixel. And atrous depthwise convolutions on the CPU, which are faster in float32 (`model/depthwise.py`).
    """
    from panoptic_deeplab.model.heads import Head
    from panoptic_deeplab.model.hrnet_head import PointwiseHead  # brings timm, which exported files do not need

    chosen: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in network.modules():
        for name, layer in parent.named_children():
            if isinstance(parent, Head | PointwiseHead) and name == "predict":
                chosen.append((parent, name, _InFloat32(layer, keep=True)))
            elif isinstance(layer, nn.Conv2d) and _is_slow_in_bfloat16(layer):
                chosen.append((parent, name, _InFloat32(layer, keep=False)))
    for parent, name, _ in chosen:
        setattr(parent, name, nn.Identity())
    yield
    for parent, name, layer in chosen:
        setattr(parent, name, layer)


def _is_slow_in_bfloat16(layer: nn.Conv2d) -> bool:
    is_depthwise = layer.groups == layer.in_channels > 1
    return layer.weight.device.type == "cpu" and is_depthwise and layer.dilation != (1, 1)


class _CompiledNetwork(nn.Module):
    """Says in one sentence what torch says in pages."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> RawMaps:
        from torch._dynamo.exc import TorchDynamoException

        try:
            maps: RawMaps = self.network(images)
        except TorchDynamoException as error:
            raise ConfigError(
                f"The network cannot be compiled ({type(error).__name__}: {first_line(error)}). Leave out `compile`."
            ) from error
        return maps


def check_compiler() -> None:
    """See that there is a C++ compiler, which torch.compile needs on the CPU.

    Raises:
        ConfigError: there is none.
    """
    chosen = os.environ.get("CXX")
    names = (chosen,) if chosen else _COMPILERS
    if not any(shutil.which(name) for name in names):
        raise ConfigError(
            f"`compile` needs a C++ compiler, {'the one in CXX, ' if chosen else 'one of '}{', '.join(names)}. Install"
            " one, or leave `compile` out."
        )


def _versions(model: nn.Module) -> tuple[tuple[int, int], ...]:
    """Changes whenever a parameter or buffer does, in place or by another tensor.

    Not seen is what goes through `.data`, what changes tensors that were made in inference mode, and the step of a
    fused optimizer, unless the model was in training mode.
    """
    return tuple(
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        for tensor in (*model.parameters(), *model.buffers())
    )
