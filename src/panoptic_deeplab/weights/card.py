"""The model card: README.md beside the weights, in the format of model hubs.

What the model is, how good it is and who says so, by which settings it came about, what may be done with it, how to use
it. Machines read the block in front (YAML), people the rest. What comes from data stands there as text, not as markup.
"""

from dataclasses import dataclass
from typing import Any

import yaml

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import config_to_dict
from panoptic_deeplab.weights.bundled import bundled_models
from panoptic_deeplab.weights.markdown import code_span, escaped, fenced, one_line
from panoptic_deeplab.weights.zoo_list import is_zoo_family

CARD_FILE = "README.md"
PLACE = "path/of/this/folder"
"""What the example loads; a hub writes its own name over it."""

_HIDDEN = ("data.root", "data.num_workers", "model.backbone_weights", "model.weights")
"""Settings that say something about a machine, not about the model."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Numbers, and where they come from."""

    metrics: dict[str, float]
    """Measures by name (PQ, mIoU, ...), in [0, 1]."""
    provenance: str
    """Who measured what with which program, as a sentence."""
    source: str | None = None
    """Address of the page that says so, where it is not this card."""
    table: str | None = None
    """More numbers, as text."""


def model_card(
    config: Config,
    categories: CategoryTable,
    *,
    origin: str | None = None,
    results: Results | None = None,
    license_text: str | None = None,
) -> str:
    """The text of the card.

    Args:
        config: configuration of the model.
        categories: classes of the model.
        origin: where the weights come from, as a sentence or more.
        results: None = not measured.
        license_text: what may be done with the weights, as a sentence or more; None = not stated.
    """
    name = one_line(f"Panoptic-DeepLab, {config.model.backbone}, {categories.name}")
    settings = yaml.safe_dump(_settings(config), sort_keys=False, default_flow_style=None, width=100)
    front = yaml.safe_dump(_front_matter(name, config, categories, results, license_text), sort_keys=False, width=1000)
    things = [escaped(c.name) for c in categories.categories if c.isthing]
    stuff = [escaped(c.name) for c in categories.categories if not c.isthing]
    what = " ".join(sentence for sentence in ("", origin, _start(config)) if sentence is not None)
    return f"""---
{front}---

# {escaped(name)}

Panoptic segmentation: one class for every pixel, and an id for every object.{what}

## Results

{_results_text(results)}

## Use

```python
from panoptic_deeplab import PanopticPredictor, draw_panoptic

predictor = PanopticPredictor.from_pretrained("{PLACE}")
result = predictor.predict("image.jpg")
draw_panoptic("image.jpg", result).save("overlay.png")
```

## Recipe

`config.json` holds every setting. Those that differ from the defaults of the package:

{fenced(settings, "yaml")}

## Classes

Things: {", ".join(things) or "none"}.

Stuff: {", ".join(stuff) or "none"}.

## License

{license_text or "Not stated. The terms of the images that the model learned from apply too."}

## Limits

The model knows what its training images show. Objects of other kinds are given one of the classes above, or none.
"""


def _start(config: Config) -> str | None:
    """Whose weights the training began with: their license goes on. A path would say something about a machine."""
    weights = config.model.weights
    if weights is None:
        return None
    is_name = weights.startswith("hf://") or is_zoo_family(weights) or weights in bundled_models()
    return f"Training began with the weights of {code_span(weights) if is_name else 'another model'}."


def _front_matter(
    name: str, config: Config, categories: CategoryTable, results: Results | None, license_text: str | None
) -> dict[str, Any]:
    front: dict[str, Any] = {
        "library_name": "panoptic-deeplab",
        "pipeline_tag": "image-segmentation",
        "tags": ["panoptic-segmentation", "panoptic-deeplab"],
    }
    if license_text is not None:
        front["license"] = "other"  # see the section of that name
    if results is not None and results.metrics:
        dataset = one_line(categories.name)
        result: dict[str, Any] = {
            "task": {"type": "image-segmentation", "name": "Panoptic segmentation"},
            "dataset": {"type": dataset, "name": dataset, "split": one_line(config.data.val_split)},
            "metrics": [{"type": key.lower(), "name": key, "value": value} for key, value in results.metrics.items()],
        }
        if results.source is not None:
            result["source"] = {"name": results.provenance, "url": results.source}
        front["model-index"] = [{"name": name, "results": [result]}]
    return front


def _results_text(results: Results | None) -> str:
    if results is None:
        return "These weights were not measured."
    paragraphs = [results.provenance if results.source is None else f"{results.provenance} See {results.source}."]
    if results.table is not None:
        paragraphs.append(fenced(results.table))
    elif results.metrics:
        names = " | ".join(results.metrics)
        values = " | ".join(f"{100 * value:.1f}" for value in results.metrics.values())
        lines = " | ".join("---:" for _ in results.metrics)
        paragraphs.append(f"| {names} |\n| {lines} |\n| {values} |")
    return "\n\n".join(paragraphs)


def _settings(config: Config) -> dict[str, Any]:
    """What differs from the defaults, by section."""
    return _different(config_to_dict(config), config_to_dict(Config()), "")


def _different(values: dict[str, Any], usual: dict[str, Any], prefix: str) -> dict[str, Any]:
    different: dict[str, Any] = {}
    for key, value in values.items():
        if value == usual[key] or f"{prefix}{key}" in _HIDDEN:
            continue
        below = _different(value, usual[key], f"{prefix}{key}.") if isinstance(value, dict) else value
        if below != {}:
            different[key] = below
    return different
