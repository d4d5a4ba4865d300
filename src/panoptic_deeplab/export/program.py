"""From a model to a program of torch.export, which all formats start from."""

import copy
import warnings

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import ExportError, first_line
from panoptic_deeplab.export.graph.same_padding import use_integer_padding
from panoptic_deeplab.export.graph.whole import NetworkGraph, PanopticGraph, PanopticOutputs
from panoptic_deeplab.images.prepare import padded_size
from panoptic_deeplab.inference.exported.model_file import Kind
from panoptic_deeplab.maps import RawMaps, Size

INPUT_NAME = "images"

_LARGEST_SIDE = 2**14
_LARGEST_BATCH = 1024

_EXAMPLE_SIZE = (150, 200)
"""Size of the images that a program for any size is traced with; their padding is not empty."""


def trace(
    model: nn.Module, config: Config, categories: CategoryTable, *, kind: Kind, size: Size | None = None
) -> ExportedProgram:
    """Trace the network, or the whole pipeline.

    Args:
        model: `PanopticDeepLab`; it stays as it is.
        config: settings of the model.
        categories: classes of the model.
        kind: what the program does.
        size: size of the images, before padding; None = any size from 2 x 2 to 16384 x 16384 pixels. Batches are of any
            size, too.

    Returns:
        The program, on the CPU, with one input `images` and the outputs of `output_names`.

    Raises:
        ExportError: the network cannot be traced, or not for any size.
    """
    if size is None and config.model.image_pool_size is not None:
        raise ExportError(
            f"The network's image pool has a window of {config.model.image_pool_size} pixels, which runtimes need to"
            " know for the size of the image. Name a size: --size HEIGHT WIDTH."
        )
    if size is not None and not 2 <= min(size) <= max(size) <= _LARGEST_SIDE:
        raise ExportError(
            f"`size` must be from 2 x 2 to {_LARGEST_SIDE} x {_LARGEST_SIDE} pixels. Got {size[0]} x {size[1]} instead."
        )
    model = copy.deepcopy(model).cpu().eval()
    use_integer_padding(model)
    stride, extra = config.model.output_stride, int(config.model.align_corners)
    height, width = size or _EXAMPLE_SIZE
    dimensions: dict[int, object] = {0: Dim.DYNAMIC(min=1, max=_LARGEST_BATCH)}
    if kind == "panoptic":
        graph: nn.Module = PanopticGraph(model, config, categories)
        images = torch.zeros(2, height, width, 3, dtype=torch.uint8)
        if size is None:
            dimensions |= dict.fromkeys((1, 2), Dim.DYNAMIC(min=2, max=_LARGEST_SIDE))
    else:
        graph = NetworkGraph(model)
        images = torch.zeros(2, 3, *network_size((height, width), config))
        if size is None:
            rows, columns = (Dim(name, min=1, max=_LARGEST_SIDE // stride) for name in ("rows", "columns"))
            dimensions |= {2: stride * rows + extra, 3: stride * columns + extra}
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of torch's own deprecated functions
            program = torch.export.export(graph, (images,), dynamic_shapes={INPUT_NAME: dimensions}, strict=False)
    except Exception as error:  # torch raises many kinds for what it cannot trace
        raise ExportError(
            f"The network {config.model.backbone!r} cannot be traced{'' if size else ' for any size'}"
            f" ({type(error).__name__}: {first_line(error)})."
            f"{'' if size else ' Try a fixed size: --size HEIGHT WIDTH.'}"
        ) from error
    return program


def network_size(size: Size, config: Config) -> Size:
    """Size of the network's input: an image of this size, padded as `prepare_image` does."""
    minimum = config.input.pad_to or size
    return padded_size(
        (max(size[0], minimum[0]), max(size[1], minimum[1])),
        config.model.output_stride,
        align_corners=config.model.align_corners,
    )


def output_names(kind: Kind, config: Config) -> list[str]:
    """Names of the outputs, in their order."""
    if kind == "panoptic":
        return list(PanopticOutputs._fields)
    return list(RawMaps._fields if config.model.instance_branch else RawMaps._fields[:1])
