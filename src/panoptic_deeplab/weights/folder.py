"""Weights on disk: the model folder. Nothing here executes code from a file.

best/                    what `from_pretrained` reads
├── model.safetensors    weights of PanopticDeepLab
├── ema.safetensors      the same names, averaged over training; preferred where present
├── config.json          the complete `Config` of the run
├── categories.json      the `CategoryTable`: names, colours, ids
└── README.md            the model card, for people
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file
from torch import Tensor, nn

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, ModelConfig
from panoptic_deeplab.config.io import config_from_dict, config_to_dict
from panoptic_deeplab.errors import CheckpointError, PanopticDeepLabError
from panoptic_deeplab.files import make_folder, read_json, user_path, write_json, write_text, written_whole
from panoptic_deeplab.model.network import PanopticDeepLab, with_output_stride
from panoptic_deeplab.weights.card import CARD_FILE, model_card
from panoptic_deeplab.weights.checksums import CHECKSUMS_FILE, check_files, read_checksums
from panoptic_deeplab.weights.locations import model_folder
from panoptic_deeplab.weights.size_limit import TooLargeError, at_most
from panoptic_deeplab.weights.tensors import check_entries, read_content

MODEL_FILE = "model.safetensors"
EMA_FILE = "ema.safetensors"
CONFIG_FILE = "config.json"
CATEGORIES_FILE = "categories.json"
_FIELDS = fields(ModelConfig)

_SIZE_FACTOR = 4
"""A network of float32 may come from numbers of one byte."""
_SIZE_OF_HEADS = 2**28
"""Bytes of what timm makes before a network is cut down to its features: classifiers."""


def save_pretrained(
    folder: str | Path,
    model: nn.Module,
    *,
    config: Config,
    categories: CategoryTable,
    card: str | None = None,
) -> None:
    """Write a model folder (see the tree above, without `ema.safetensors`); existing files are replaced.

    Args:
        folder: made where it does not exist.
        model: a `PanopticDeepLab`, on any device.
        config: of the run; `config.model` must be the model's.
        categories: of the classes that the model predicts.
        card: text of the model card; None writes one that knows nothing but `config` and `categories`.

    Raises:
        CheckpointError: the model is another network, or not that of `config` and `categories`; nothing is written.
        OutputError: the system refuses to write.
    """
    _check_belongs_together(model, config, categories)
    folder = make_folder(folder)
    (folder / CHECKSUMS_FILE).unlink(missing_ok=True)  # of other weights
    save_weights(folder / MODEL_FILE, model.state_dict())
    write_json(folder / CONFIG_FILE, config_to_dict(config), indent=2)
    write_json(folder / CATEGORIES_FILE, categories.to_json(), indent=2)
    write_text(folder / CARD_FILE, model_card(config, categories) if card is None else card)


def _check_belongs_together(model: nn.Module, config: Config, categories: CategoryTable) -> None:
    if not isinstance(model, PanopticDeepLab):
        raise CheckpointError(
            f"A model folder holds a PanopticDeepLab. Got {type(model).__name__} instead; pass the network itself,"
            " without a wrapper, or save another network with `safetensors.torch.save_model`."
        )
    if categories.num_classes != model.num_classes:
        raise CheckpointError(
            f"The model has {model.num_classes} classes, and category table {categories.name!r}"
            f" {categories.num_classes}. Pass the table that it was made for."
        )
    pairs = ((field.name, getattr(model.config, field.name), getattr(config.model, field.name)) for field in _FIELDS)
    differing = [f"{name} {own!r} of the model, {other!r} here" for name, own, other in pairs if own != other]
    if differing:
        raise CheckpointError(
            f"`config.model` is not the configuration of the model: {'; '.join(differing)}. Pass"
            " `dataclasses.replace(config, model=model.config)`."
        )


def load_pretrained(
    folder: str | Path, *, device: str = "cpu", output_stride: Literal[8, 16, 32] | None = None
) -> tuple[PanopticDeepLab, Config, CategoryTable]:
    """Read a model folder: the model in evaluation mode, its configuration and its categories.

    Args:
        folder: as `save_pretrained` or a training run wrote it; or the name of a model of the zoo or of a repository on
            the hub (`locations.model_folder`).
        device: of the model.
        output_stride: put the weights into the network at another output stride than they were trained at
            (`network.with_output_stride`); the configuration says so.

    Raises:
        CheckpointError: a file is missing, truncated, or does not fit the others or its checksum; it says which.
        ConfigError: the network does not exist at `output_stride`.
    """
    folder = model_folder(folder)
    config_path, categories_path = folder / CONFIG_FILE, folder / CATEGORIES_FILE
    try:
        config = config_from_dict(_read_json(config_path), where=str(config_path))
        categories = CategoryTable.from_json(_read_json(categories_path), where=str(categories_path))
        sums = read_checksums(folder)
        weights_path = folder / (EMA_FILE if EMA_FILE in sums or (folder / EMA_FILE).exists() else MODEL_FILE)
        if sums:
            check_files(folder, [weights_path.name], sums)
        state = read_weights(weights_path)
        if output_stride is None:
            model = _network_for(state, config.model, categories.num_classes, where=str(weights_path))
    except CheckpointError:
        raise
    except PanopticDeepLabError as error:
        raise CheckpointError(f"{folder} is not a usable model folder: {error}") from error
    if output_stride is not None:  # errors from here on are no fault of the folder
        config = replace(config, model=with_output_stride(config.model, output_stride))
        model = _network_for(state, config.model, categories.num_classes, where=str(weights_path))
    load_weights(model, state, where=str(weights_path))
    return model.to(device).eval(), config, categories


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


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, the file whole or not at all.

    Raises:
        OutputError: the system refuses to write.
    """
    with written_whole(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, temporary)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a `.safetensors` file, or a `.pth` state dict of plain tensors.

    Raises:
        CheckpointError: the file is missing, truncated, or holds something else than tensors.
    """
    state = read_content(user_path(path))
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} must hold a state dict: a dictionary of tensors. Got something else.")
    return state


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copy `state` into `model`; every name and shape has to fit.

    Only `num_batches_tracked` may be missing, as it is from older files; the model then keeps its own.

    Raises:
        CheckpointError: names the missing, unexpected and mis-shaped entries.
    """
    own = model.state_dict()
    check_entries(state, own, where=where, advice="Load it with the configuration it was trained with")
    model.load_state_dict({**own, **state})


def _read_json(path: Path) -> Any:
    if not path.exists():
        best = path.parent / "best"  # of a run
        advice = f" Did you mean {best}?" if (best / path.name).is_file() else ""
        raise CheckpointError(f"{path.parent} is not a model folder: {path.name} is missing.{advice}")
    return read_json(path, what="file", error=CheckpointError)
