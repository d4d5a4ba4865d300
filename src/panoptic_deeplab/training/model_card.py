"""README.md beside the weights: what the model is, how good, and how to use it."""

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config


def model_card(config: Config, categories: CategoryTable, *, step: int, table: str | None) -> str:
    """The text of the card, in the format of model hubs.

    Args:
        config: of the run.
        categories: classes of the model.
        step: optimizer steps made.
        table: numbers of the validation at this step; None where there was none.
    """
    things = [c.name for c in categories.categories if c.isthing]
    stuff = [c.name for c in categories.categories if not c.isthing]
    average = "" if config.train.ema_decay is None else f", averaged with decay {config.train.ema_decay}"
    numbers = (
        f"Measured on the split `{config.data.val_split}`:\n\n```\n{table.strip()}\n```"
        if table
        else "These weights were not measured."
    )
    return f"""---
library_name: panoptic-deeplab
pipeline_tag: image-segmentation
tags: [panoptic-segmentation, panoptic-deeplab]
---

# Panoptic-DeepLab, {config.model.backbone}, {categories.name}

Panoptic segmentation: one class for every pixel, and an id for every object. Weights after {step} of
{config.train.max_steps} steps{average}. `config.json` holds every setting of the run.

{numbers}

## Use

```python
from panoptic_deeplab import PanopticPredictor, draw_panoptic

predictor = PanopticPredictor.from_pretrained("path/of/this/folder")
result = predictor.predict("image.jpg")
draw_panoptic("image.jpg", result).save("overlay.png")
```

## Classes

Things: {", ".join(things) or "none"}.

Stuff: {", ".join(stuff) or "none"}.

## Limits

The model knows what its training images show. Objects of other kinds are given one of the classes above, or none.
"""
