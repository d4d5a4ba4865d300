"""Settings that follow from a labeled set: how large its objects are, how far apart, how many, and how many images.

    objects of about 36 pixels in the input      input.scale or input.longest_side
    black and white of the numbers               input.range
    a crop that holds the large objects          data.crop_size
    a sixth of an object                         target.sigma
    a fifth of a large object, or the            postprocess.nms_kernel
      distance to the next one, if less
    what most stuff regions exceed               postprocess.stuff_area_limit
    twice the fullest image                      postprocess.top_k, evaluation.max_detections
    whether objects lie against each other       postprocess.join_border_fraction

The fractions are those with which the packaged recipes `nuclei_lite0` and `coco27_lite0` were tuned, roughly; the
paper's own (sigma 8 for objects of about 100 pixels) are of the same kind. `budget.py` adds the number of steps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from panoptic_deeplab.config import Config, InputConfig
from panoptic_deeplab.data.object_sizes import Measures
from panoptic_deeplab.images.prepare import input_factor

OBJECT_SIZE = 36
"""Pixels of the input that the median object should have: nine cells of the maps at stride 4."""
CROPS = (257, 321, 385, 449, 513)
_FEW_IMAGES = 200
_LARGEST_SIDE = 1025
_JOINED = 0.15
"""The least border of two pieces of one object: chosen for photographs, docs/explanation/limits-on-instances.md."""
_TOUCHING = 0.01
"""Pieces are joined where at most this part of the objects would be taken for such."""
_WARNED_OF = ("postprocess.top_k", "evaluation.max_detections")
"""What `data check` itself holds against the numbers of objects."""
_MATTERS = 2.0
"""An existing recipe hears of a setting that is off by more than this factor."""


@dataclass(frozen=True)
class Advice:
    """A setting, and why."""

    setting: str
    """Dotted key, as `target.sigma`."""
    value: Any
    reason: str


def nested(advice: list[Advice]) -> dict[str, dict[str, Any]]:
    """The settings as sections, as in a YAML file; a later one wins."""
    sections: dict[str, dict[str, Any]] = {}
    for item in advice:
        section, _, name = item.setting.partition(".")
        sections.setdefault(section, {})[name] = item.value
    return sections


def setting_of(config: Config, setting: str) -> Any:
    """The value of a dotted key; tuples as lists, as YAML has them."""
    section, _, name = setting.partition(".")
    value = getattr(getattr(config, section), name)
    return list(value) if isinstance(value, tuple) else value


def objections(measures: Measures, config: Config) -> list[tuple[Any, Advice]]:
    """What the labels say against the settings of a recipe: those that are off by more than a factor of 2.

    Returns:
        The value that the recipe has, and what is advised.
    """
    found: list[tuple[Any, Advice]] = []
    if not measures.image_sizes:
        return found
    sizes = _in_input(measures, config.input, measures.object_sizes)
    if len(sizes) and not 1 / _MATTERS <= np.median(sizes) / OBJECT_SIZE <= 2 * _MATTERS:  # the paper's have 100
        found += [(setting_of(config, item.setting), item) for item in input_advice(measures)]
    for item in object_advice(measures, config.input):
        value = setting_of(config, item.setting)
        if item.setting in _WARNED_OF:
            continue
        if item.setting == "target.small_instance_area" and config.target.small_instance_weight == 1:
            continue
        low, high = sorted((float(value), float(item.value)))
        if high > _MATTERS * low and high >= 1:
            found.append((value, item))
    joined = config.postprocess.join_border_fraction
    if joined is not None and (share := _share_touching(measures, joined)) > _TOUCHING:
        reason = f"{share:.0%} of the objects share so much of their outline with another of their class"
        found.append((joined, Advice("postprocess.join_border_fraction", None, reason)))
    return found


def input_advice(measures: Measures) -> list[Advice]:
    """How large the network should see the images."""
    longest = np.array([max(size) for size in measures.image_sizes])
    usual = float(np.median(longest))
    sizes = _all(measures.object_sizes)
    if not len(sizes):
        side = _odd(min(usual, 641), 64)
        return [Advice("input.longest_side", side, "there are no objects whose size could say more")]
    median = float(np.median(sizes))
    factor = min(max(OBJECT_SIZE / median, 0.25), 4.0)
    if measures.has_no_up():  # a microscope's objects have a size of their own, whatever part of them an image shows
        scale = round(2 * factor) / 2 if factor >= 1 else round(8 * factor) / 8
        reason = f"the median object has {median:.0f} pixels across, and {median * scale:.0f} in the input"
        return [Advice("input.scale", scale, reason)]
    side = min(_odd(factor * usual, 64), _LARGEST_SIDE)
    seen = median * side / usual
    reason = f"the median object has {median:.0f} pixels across in images of {usual:.0f}, and {seen:.0f} in the input"
    return [Advice("input.longest_side", side, reason)]


def range_advice(measures: Measures) -> list[Advice]:
    """Black and white, where the type of the images does not say them: 12 bits in 16, or numbers beyond 0 to 1."""
    levels = measures.levels
    found = levels.of_set()
    if levels.fit_type or found is None:
        return []
    differ = levels.differ_by()
    if differ > _MATTERS:
        reason = f"bright images have {differ:.0f} times the contrast of dark ones: black and white of each image"
        return [Advice("input.range", "percentile", reason)]
    reason = f"percentiles {levels.percentiles[0]:g} and {levels.percentiles[1]:g} of the numbers of all images"
    return [Advice("input.range", list(found), reason)]


def crop_advice(measures: Measures, input_config: InputConfig, *, largest: int = CROPS[-1]) -> Advice:
    """The training crop: 0.6 of the image or more, 1.5 times as long as a large object, no longer than the image.

    Args:
        measures: sizes and numbers in the training images.
        input_config: the size of the input.
        largest: what there is time for.
    """
    longest = float(np.median([max(size) * input_factor(size, input_config) for size in measures.image_sizes]))
    sizes = _in_input(measures, input_config, measures.object_sizes)
    large = float(np.quantile(sizes, 0.95)) if len(sizes) else 0.0
    fitting = [crop for crop in CROPS if crop <= largest]
    side = next((crop for crop in fitting if crop >= max(1.5 * large, 0.6 * longest)), fitting[-1])
    side = min(side, _odd(longest, 32))
    said = f"large objects have {large:.0f} pixels in the input" if large else "there are no objects"
    return Advice("data.crop_size", [side, side], f"{said}, images {longest:.0f}")


def object_advice(measures: Measures, input_config: InputConfig) -> list[Advice]:
    """What belongs to the size of objects in the input, and to their number."""
    sizes = _in_input(measures, input_config, measures.object_sizes)
    advice = _stuff_advice(measures, input_config)
    if not len(sizes):
        return advice
    median, large = (float(v) for v in np.quantile(sizes, (0.5, 0.95)))
    apart = float(np.quantile(_in_input(measures, input_config, measures.distances), 0.25))
    sigma = float(min(max(round(median / 6), 1), 8))
    kernel = max(2 * int(min(large / 5, 2 * apart) / 2) + 1, 3)
    most = measures.most_objects
    advice += [
        Advice("target.sigma", sigma, f"a sixth of the median object's {median:.0f} pixels in the input"),
        Advice("target.small_instance_area", round(median**2), "half of the objects are smaller; they count more"),
        Advice(
            "postprocess.nms_kernel",
            kernel,
            f"large objects have {large:.0f} pixels, and a quarter of the centers one within {apart:.0f}",
        ),
        Advice("postprocess.top_k", max(200, _hundreds(2 * most)), f"at most {most} objects an image"),
        Advice(
            "evaluation.max_detections",
            max(100, _hundreds(2 * measures.most_of_a_class)),
            f"at most {measures.most_of_a_class} objects of a class in an image",
        ),
    ]
    return advice


def joining_advice(measures: Measures) -> list[Advice]:
    """Pieces of large objects are joined where no objects lie so close that they would be, too."""
    fractions = _all(measures.border_fractions)
    share = _share_touching(measures, _JOINED)
    if not len(fractions) or share > _TOUCHING:
        return []
    reason = f"{share:.1%} of the objects share so much of their outline with another of their class"
    return [Advice("postprocess.join_border_fraction", _JOINED, reason)]


def _share_touching(measures: Measures, fraction: float) -> float:
    fractions = _all(measures.border_fractions)
    return float((fractions >= fraction).mean()) if len(fractions) else 0.0


def training_advice(measures: Measures, *, num_images: int, num_classes: int) -> list[Advice]:
    """Symmetries, and how far the backbone's ImageNet weights are changed.

    Args:
        measures: sizes and numbers in some of the training images, or all.
        num_images: how many images there are to train on.
        num_classes: how many classes.
    """
    advice: list[Advice] = []
    if measures.has_no_up():
        advice += [
            Advice("data.vertical_flip_probability", 0.5, "nothing tells the upper half of the images from the lower"),
            Advice("data.rotate90", True, ""),
        ]
    if num_images < _FEW_IMAGES:
        reason = f"only {num_images} images: keep what ImageNet taught"
        advice.append(Advice("train.backbone_learning_rate_factor", 0.1, reason))
        advice.append(Advice("train.batch_norm", "frozen_backbone", ""))
    if num_classes <= 2:
        advice.append(Advice("target.small_instance_weight", 1.0, "one class of things: small ones are not rarer"))
    return advice


def _stuff_advice(measures: Measures, input_config: InputConfig) -> list[Advice]:
    counts = [len(areas) for areas in measures.stuff_areas]
    if max(counts, default=0) == 0:
        return []
    if max(counts) == 1:
        reason = "an image has at most one stuff class, and may show little of it"
        return [Advice("postprocess.stuff_area_limit", 0, reason)]
    areas = [np.sqrt(np.array(image, np.float64)) for image in measures.stuff_areas]
    small = float(np.quantile(_in_input(measures, input_config, areas), 0.15)) ** 2
    limit = min(2 ** round(np.log2(max(small, 1))), 4096)
    return [
        Advice("postprocess.stuff_area_limit", limit, f"15 % of the stuff regions have less than {small:.0f} pixels")
    ]


def _in_input(
    measures: Measures, input_config: InputConfig, lengths: list[Float64[np.ndarray, "_"]]
) -> Float64[np.ndarray, " M"]:
    """Lengths of all images together, in pixels of the input."""
    factors = [input_factor(size, input_config) for size in measures.image_sizes]
    return _all([length * factor for length, factor in zip(lengths, factors, strict=True)])


def _all(lengths: list[Float64[np.ndarray, "_"]]) -> Float64[np.ndarray, " M"]:
    return np.concatenate([np.zeros(0), *lengths])


def _odd(side: float, multiple: int) -> int:
    """A side of k * multiple + 1 pixels, as aligned corners like it."""
    return multiple * max(1, round(side / multiple)) + 1


def _hundreds(count: int) -> int:
    return -(-count // 100) * 100
