"""`Callback`: what else should happen in a training, for `train(callbacks=...)`; `loggers/` holds some."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from panoptic_deeplab.config import Config
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.evaluation.evaluate import EvaluationReport


class Callback:
    """Hears of a training in its main process; override what you need.

    All methods return before the next step begins. What they raise ends the training, in all processes; the newest
    checkpoint stays, and `resume` goes on from it.
    """

    def on_start(self, run_folder: Path, config: Config, start_step: int) -> None:
        """Hear, before anything else, where files go and how; `start_step` steps were made by the run resumed."""

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hear, after so many optimizer steps, what is logged: every `train.log_every`, and before a validation.

        `metrics` are losses, learning rate and speed since the last call, by the columns of `metrics.csv`.
        """

    def on_validation(self, step: int, report: EvaluationReport) -> None:
        """Hear of a validation after so many steps, of all processes, whose numbers are in the checkpoint."""

    def on_end(self, best: Path) -> None:
        """Hear that the last step is made, and which folder has the best checkpoint."""

    def on_close(self) -> None:
        """Hear that the training is over: after `on_end`, or after an error, a signal, or `on_start` that failed."""


@contextmanager
def closed_at_the_end(callbacks: Sequence[Callback], process: Process) -> Iterator[None]:
    """At the end of the context, however it comes, callbacks hear `on_close`."""
    with ExitStack() as stack:
        for callback in callbacks if process.is_main else ():
            stack.callback(callback.on_close)
        yield
