"""`MemoryNeed`: what an image will take in the network, known before it is taken.

A small file can hold an image of any size, and a system that has no memory left ends the process without a word. The
network runs once without values (on the device `meta`, a second), and the largest sum of its tensors is counted. On
processors, what a prediction really takes, with post-processing, was 10 to 20 % less: normalization is folded there.
"""

import copy
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from panoptic_deeplab.config import Config, Precision
from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.images.prepare import padded_size, resized_size
from panoptic_deeplab.maps import RawMaps, Size

_SIDE = 256
"""Side of the image that is counted, before padding."""
_MOST_OF_A_PIXEL = 4096
"""Bytes that no network of the paper needs (Xception-71: 500); for images that fit even so, nothing is counted."""
_SHARE_IN_16_BITS = 0.6
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
"""Where containers say what they may take, in version 2."""


class MemoryNeed:
    """Compares what an image takes in `model` (of what is no `nn.Module` nothing is known) with what there is."""

    def __init__(
        self, model: Callable[[Tensor], RawMaps], config: Config, *, device: torch.device, precision: Precision
    ) -> None:
        self._model = model
        self._config = config
        self._device = device
        self._share = 1.0 if precision == "float32" else _SHARE_IN_16_BITS
        self._of_a_pixel: float | None = None

    def check(self, size: Size, *, where: str) -> None:
        """See that an image can be predicted; see `Engine.check_memory`."""
        if not isinstance(self._model, nn.Module):
            return
        free = _free(self._device)
        pixels = self._pixels(size)
        if free is None or pixels * _MOST_OF_A_PIXEL <= free:
            return
        if self._of_a_pixel is None:
            self._of_a_pixel = self._count(self._model)
        need = pixels * self._of_a_pixel * self._share
        if need > free:
            raise ImageError(
                f"{where} has {size[0]} x {size[1]} pixels (height x width), for which this model needs about"
                f" {need / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free on {self._device}. Predict it in tiles"
                " (`predict --tile 1024`, `PanopticPredictor.predict_tiled`), or let it be made smaller, by"
                " `input.longest_side`."
            )

    def _pixels(self, size: Size) -> float:
        """Number of pixels of the network's input, in the largest view."""
        augmentation = self._config.test_time_augmentation
        height, width = resized_size(size, self._config.input)
        least = self._config.input.pad_to or (0, 0)
        scale = 1.0 if augmentation.is_plain else max(1.0, *augmentation.scales)
        return max(height, least[0]) * max(width, least[1]) * scale**2

    def _count(self, model: nn.Module) -> float:
        """Bytes for each pixel."""
        height, width = padded_size(
            (_SIDE, _SIDE), self._config.model.output_stride, align_corners=self._config.model.align_corners
        )
        without_values = _without_values(model).eval()
        try:
            with torch.no_grad(), _LiveTensors() as tensors:
                without_values(torch.empty(1, 3, height, width, device="meta"))
        except (NotImplementedError, RuntimeError):  # it looks at values, which are not there
            return 0.0
        return float(tensors.most / (height * width))


def _free(device: torch.device) -> int | None:
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return available_memory() if device.type == "cpu" else None


def _without_values(model: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and nothing else; the model itself is only looked at."""
    known: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        bare = tensor.detach().to("meta")
        known[id(tensor)] = nn.Parameter(bare, requires_grad=False) if isinstance(tensor, nn.Parameter) else bare
    return copy.deepcopy(model, known)


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the memory of all tensors that are made in it and not yet freed.

    Attributes:
        most: bytes at the worst moment.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._tensors_of_storage: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._add(storage._cdata, storage.nbytes())
                weakref.finalize(tensor, self._free, storage._cdata, storage.nbytes())
        return made

    def _add(self, storage: int, size: int) -> None:
        known = self._tensors_of_storage.get(storage, 0)
        self._tensors_of_storage[storage] = known + 1
        if not known:
            self._now += size
            self.most = max(self.most, self._now)

    def _free(self, storage: int, size: int) -> None:
        self._tensors_of_storage[storage] -= 1
        if not self._tensors_of_storage[storage]:
            self._now -= size


def available_memory() -> int | None:
    """Bytes that this process can still take without swapping; None where the system does not tell.

    Linux tells what is free or can be freed, for the machine and for the container. macOS tells only what is built in.
    """
    if sys.platform == "darwin":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kilobytes = _table(_MEMINFO).get("MemAvailable:")
    found = [size for size in (None if kilobytes is None else 1024 * kilobytes, _of_container()) if size is not None]
    return min(found, default=None)


def _of_container() -> int | None:
    limit, used = (_number(_CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit is None or used is None:
        return None
    details = _table(_CGROUP / "memory.stat")
    files = details.get("inactive_file", 0) + details.get("active_file", 0)  # kept of files, and given up when needed
    return max(limit - used + files, 0)


def _number(path: Path) -> int | None:
    """None for `max`, which is no limit, too."""
    try:
        text = path.read_text("ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _table(path: Path) -> dict[str, int]:
    """Name -> number, of lines such as `MemAvailable: 5 kB`."""
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines]
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}
