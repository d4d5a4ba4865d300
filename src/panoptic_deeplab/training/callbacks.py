"""`Callback`: what else should happen in a training, for `train(callbacks=...)`."""

from collections.abc import Mapping
from pathlib import Path

from panoptic_deeplab.evaluation.evaluate import EvaluationReport


class Callback:
    """Hears of a training in its main process; override what you need.

    All methods return before the next step begins. What they raise ends the training, in all processes; the newest
    checkpoint stays, and `resume` goes on from it.
    """

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hear, after so many optimizer steps, what is logged: every `train.log_every`, and before a validation.

        `metrics` are losses, learning rate and speed since the last call, by the columns of `metrics.csv`.
        """

    def on_validation(self, step: int, report: EvaluationReport) -> None:
        """Hear of a validation after so many steps, of all processes, whose numbers are in the checkpoint."""

    def on_end(self, best: Path) -> None:
        """Hear that the last step is made, and which folder has the best checkpoint."""
