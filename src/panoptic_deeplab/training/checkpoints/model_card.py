"""The model card of a checkpoint in training (`weights/card.py` writes it)."""

from collections.abc import Mapping

from panoptic_deeplab import __version__
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.training.precision import VALIDATION_PRECISION
from panoptic_deeplab.weights.card import Results, model_card
from panoptic_deeplab.weights.markdown import code_span


def training_card(
    config: Config,
    categories: CategoryTable,
    *,
    step: int,
    metrics: Mapping[str, float] | None = None,
    table: str | None = None,
) -> str:
    """The text of the card.

    Args:
        config: configuration of the run.
        categories: classes of the model.
        step: optimizer steps made.
        metrics: result of the validation at this step, by name, in [0, 1]; None where there was none.
        table: result of the same validation, as text.
    """
    average = "" if config.train.ema_decay is None else f", averaged with decay {config.train.ema_decay}"
    results = None
    if metrics is not None:
        results = Results(
            metrics=dict(metrics),
            provenance=f"Measured on the split {code_span(config.data.val_split)} in {VALIDATION_PRECISION}, at one"
            f" scale, by panoptic-deeplab {__version__}.",
            table=table,
        )
    return model_card(
        config, categories, origin=f"Weights after {step} of {config.train.max_steps} steps{average}.", results=results
    )
