"""`open_pretrained`: from a name or folder to a trained network with what belongs to it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor, nn

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, ModelConfig
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.model.network import PanopticDeepLab, with_output_stride
from panoptic_deeplab.weights.folder import load_weights, read_folder_weights, read_settings
from panoptic_deeplab.weights.locations import model_folder
from panoptic_deeplab.weights.reading.size_limit import TooLargeError, at_most

_SIZE_FACTOR = 4
"""A network of float32 may come from numbers of one byte."""
_SIZE_OF_HEADS = 2**28
"""Bytes of what timm makes before a network is cut down to its features: classifiers."""


class Pretrained(NamedTuple):
    """A trained network, and what belongs to its weights."""

    network: PanopticDeepLab
    """The network in evaluation mode."""
    config: Config
    """The settings of its run: how images become its input (`input`), how its maps become results (`postprocess`)."""
    categories: CategoryTable
    """The classes that it predicts."""


def open_pretrained(
    model: str | Path, *, device: str = "cpu", output_stride: Literal[8, 16, 32] | None = None
) -> Pretrained:
    """Open a trained network.

    Args:
        model: a folder as `save_pretrained` or a training run wrote it; or the name of a bundled model, or of one of
            the zoo or of a repository on the hub, which are downloaded the first time (`locations.model_folder`).
        device: where the network is put.
        output_stride: put the weights into the network at another output stride than they were trained at
            (`network.with_output_stride`); the configuration says so.

    Raises:
        CheckpointError: a file is missing, truncated, or does not fit the others or its checksum; it says which.
        ConfigError: the network does not exist at `output_stride`.
    """
    folder = model_folder(model)
    config, categories = read_settings(folder)
    path, state = read_folder_weights(folder)
    if output_stride is None:
        try:
            network = _network_for(state, config.model, categories.num_classes, where=str(path))
        except ConfigError as error:
            raise CheckpointError(f"{folder} is not a usable model folder: {error}") from error
    else:  # errors from here on are no fault of the folder
        config = replace(config, model=with_output_stride(config.model, output_stride))
        network = _network_for(state, config.model, categories.num_classes, where=str(path))
    load_weights(network, state, where=str(path))
    return Pretrained(network.to(device).eval(), config, categories)


def fill_network(network: nn.Module, model: str | Path) -> tuple[Config, CategoryTable]:
    """Fill a network of your own with the weights of a model folder, as `train(network=...)` writes it.

    Args:
        network: like the one that was trained; it is left in evaluation mode.
        model: a folder or name, as for `open_pretrained`.

    Returns:
        The settings of the run and its classes, for `PanopticPredictor.from_network`.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights have other names or shapes.
    """
    folder = model_folder(model)
    config, categories = read_settings(folder)
    path, state = read_folder_weights(folder)
    load_weights(network, state, where=str(path))
    network.eval()
    return config, categories


def _network_for(state: Mapping[str, Tensor], config: ModelConfig, num_classes: int, *, where: str) -> PanopticDeepLab:
    """The network, unless its configuration asks for far more than `state` can fill."""
    size = sum(tensor.nbytes for tensor in state.values())
    limit = _SIZE_FACTOR * size + _SIZE_OF_HEADS
    try:
        with at_most(limit):
            return PanopticDeepLab(config, num_classes)
    except TooLargeError as error:
        raise CheckpointError(
            f"config.json asks for a network of more than {limit / 1e9:.1f} GB, and {where} holds {size / 1e6:.1f} MB:"
            " they do not belong together. Copy or download the model folder again."
        ) from error
