"""Weights on disk: the model folder. Nothing here executes code from a file.

best/                    what `open_pretrained` reads
├── model.safetensors    weights of PanopticDeepLab
├── ema.safetensors      the same names, averaged over training; preferred where present
├── config.json          the complete `Config` of the run
├── categories.json      the `CategoryTable`: names, colors, ids
└── README.md            the model card, for people
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, ModelConfig
from panoptic_deeplab.config.io import config_from_dict, config_to_dict
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.files import make_folder, read_json, user_path, write_json, write_text, written_whole
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.card import CARD_FILE, model_card
from panoptic_deeplab.weights.checksums import CHECKSUMS_FILE, check_files, read_checksums
from panoptic_deeplab.weights.reading.tensors import check_entries, read_content

MODEL_FILE = "model.safetensors"
EMA_FILE = "ema.safetensors"
CONFIG_FILE = "config.json"
CATEGORIES_FILE = "categories.json"
_FIELDS = fields(ModelConfig)

_IF_CHANGED = f" Copy or download it again; if the change is yours, delete {CHECKSUMS_FILE}."


def save_pretrained(
    folder: str | Path, model: nn.Module, *, config: Config, categories: CategoryTable, card: str | None = None
) -> None:
    """Write a model folder (see the tree above, without `ema.safetensors`); existing files are replaced.

    Args:
        folder: made where it does not exist.
        model: a `PanopticDeepLab`, on any device.
        config: configuration of the run; `config.model` must be the model's.
        categories: table of the classes that the model predicts.
        card: text of the model card; None writes one that knows nothing but `config` and `categories`.

    Raises:
        CheckpointError: the model is another network, or not that of `config` and `categories`; nothing is written.
        OutputError: the system refuses to write.
    """
    _check_belongs_together(model, config, categories)
    write_folder(folder, model, config=config, categories=categories, card=card)


def write_folder(
    folder: str | Path, model: nn.Module, *, config: Config, categories: CategoryTable, card: str | None = None
) -> None:
    """Write a model folder as `save_pretrained` does, of any network: `open.fill_network` reads its weights again."""
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


def read_settings(folder: Path) -> tuple[Config, CategoryTable]:
    """Read what a model folder says of its model: the configuration of the run, and the classes.

    Raises:
        CheckpointError: a file is missing or damaged, or what it says is no configuration or table.
    """
    config_path, categories_path = folder / CONFIG_FILE, folder / CATEGORIES_FILE
    try:
        config = config_from_dict(_read_json(config_path), where=str(config_path))
        return config, CategoryTable.from_json(_read_json(categories_path), where=str(categories_path))
    except ConfigError as error:
        raise CheckpointError(f"{folder} is not a usable model folder: {error}") from error


def read_folder_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """Read the weights of a model folder: the file, averaged where there is one, and its tensors by name.

    Raises:
        CheckpointError: the file is missing, truncated, or does not fit its checksum.
    """
    sums = read_checksums(folder)
    path = folder / (EMA_FILE if EMA_FILE in sums or (folder / EMA_FILE).exists() else MODEL_FILE)
    if sums:
        check_files(folder, [path.name], sums, advice=_IF_CHANGED)
    return path, read_weights(path)


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, the file whole or not at all, or raise an `OutputError`."""
    with written_whole(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, temporary)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a `.safetensors` file, or a `.pth` state dict of plain tensors; anything else is a `CheckpointError`."""
    state = read_content(user_path(path))
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} must hold a state dict: a dictionary of tensors. Got something else.")
    return state


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copy `state` into `model`; every name and shape has to fit, or a `CheckpointError` names those that do not.

    Only `num_batches_tracked` may be missing, as it is from older files; the model then keeps its own.
    """
    own = model.state_dict()
    check_entries(state, own, where=where, advice="Load it with the configuration it was trained with")
    model.load_state_dict({**own, **state})


def _read_json(path: Path) -> Any:
    if not path.exists():
        of_a_run = (path.parent / name for name in ("best", "last"))
        advice = next((f" Did you mean {folder}?" for folder in of_a_run if (folder / path.name).is_file()), "")
        raise CheckpointError(f"{path.parent} is not a model folder: {path.name} is missing.{advice}")
    return read_json(path, what="file", error=CheckpointError)
