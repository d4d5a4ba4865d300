"""Fine-tuning: the weights of a trained model as the start of a training."""

import logging
from dataclasses import fields
from operator import attrgetter

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import CompatConfig, Config, InputConfig, ModelConfig
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import load_weights
from panoptic_deeplab.weights.open import open_pretrained

logger = logging.getLogger(__name__)

_LAST_LAYER = "semantic_head.predict."
"""The only layer whose numbers belong to classes; `model.reset_heads` leaves its random values."""

_MAY_DIFFER = frozenset({"weights", "reset_heads", "backbone_weights", "aspp_dropout", "norm_momentum", "compat"})
"""Fields of `ModelConfig` that do not change what the network computes from given weights, and `compat`, whose fields
are compared one by one."""


def load_initial_weights(model: PanopticDeepLab, config: Config, categories: CategoryTable) -> None:
    """Fill a new model with the weights that `config.model.weights` names.

    Settings that fit the weights' shapes and still change what the network computes from them (`align_corners`, atrous
    rates, the input's mean) are compared, and a warning names those that differ.

    Raises:
        CheckpointError: the model cannot be read, does not fit this one, or has other classes while
            `config.model.reset_heads` is false.
    """
    source = config.model.weights
    assert source is not None
    trained, trained_config, trained_categories = open_pretrained(source)
    difference = _different_classes(trained_categories, categories)
    reset = config.model.reset_heads
    if difference is not None and not reset:
        raise CheckpointError(f"`model.weights` {source}: {difference} Pass --model.reset-heads to fine-tune.")
    _warn_of_differing_settings(source, trained_config, config)
    state = trained.state_dict()
    if reset:
        own = model.state_dict()
        state |= {name: own[name] for name in own if name.startswith(_LAST_LAYER)}
    load_weights(model, state, where=source)
    if reset:
        logger.info(
            "Starting from the weights of %s (%d classes, %s), but for the last layer of the semantic head: it starts"
            " at random, with %d classes (%s).",
            *(source, trained_categories.num_classes, trained_categories.name, categories.num_classes, categories.name),
        )
    else:
        logger.info("Starting from the weights of %s.", source)


def _different_classes(trained: CategoryTable, wanted: CategoryTable) -> str | None:
    """How the meaning of the logits differs; ids and colors do not matter to the network."""
    if trained.num_classes != wanted.num_classes:
        return (
            f"the checkpoint has {trained.num_classes} classes ({trained.name}), the dataset has"
            f" {wanted.num_classes} ({wanted.name})."
        )
    for train_id, (ours, theirs) in enumerate(zip(wanted.categories, trained.categories, strict=True)):
        if (ours.name, ours.isthing) != (theirs.name, theirs.isthing):
            kinds = ["thing" if category.isthing else "stuff" for category in (theirs, ours)]
            return (
                f"class {train_id} of the checkpoint ({trained.name}) is {theirs.name!r} ({kinds[0]}), of the dataset"
                f" ({wanted.name}) {ours.name!r} ({kinds[1]})."
            )
    return None


def _warn_of_differing_settings(source: str, trained: Config, wanted: Config) -> None:
    keys = [f"model.{field.name}" for field in fields(ModelConfig) if field.name not in _MAY_DIFFER]
    keys += [f"model.compat.{field.name}" for field in fields(CompatConfig)]
    keys += [f"input.{field.name}" for field in fields(InputConfig) if field.name.startswith("pixel_")]
    differing = []
    for key in keys:
        before, now = attrgetter(key)(trained), attrgetter(key)(wanted)
        if key == "model.backbone":  # timm's resnet50.tv_in1k is its resnet50; the ending names ImageNet weights
            before, now = before.partition(".")[0], now.partition(".")[0]
        if before != now:
            differing.append(f"{key} {before!r} before, {now!r} now")
    if differing:
        logger.warning(
            "The weights of %s were trained with other settings of the network: %s. Its own are in its config.json,"
            " which can be the recipe of this training.",
            source,
            "; ".join(differing),
        )
