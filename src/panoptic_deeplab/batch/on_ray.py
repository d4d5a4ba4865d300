"""`run_on_ray`: the loop of `run.py` on Ray Data, on all machines of a cluster.

Actors read and predict images; what they say comes back to this process, which alone writes to the `ResultStore`. So
the results and the guarantee are those of `run_batch`, and no other machine needs the folder of the results: where an
actor or a machine dies, its images are predicted again, and what comes twice is dropped; where this process dies, the
same call goes on. An image whose process dies each time, also when it is alone with it, is an error.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from panoptic_deeplab.batch.actors import ask_actors
from panoptic_deeplab.batch.inputs import Item, is_url
from panoptic_deeplab.batch.keep import Keeper, Outcome, Picture, Progress
from panoptic_deeplab.batch.run import outcomes
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.inference.predictor import PanopticPredictor

_IMAGES = 16
"""Images of a question, which are kept together and, after a death, predicted again together."""

_SHARES = 4
"""Questions of an actor where there are few images."""


def run_on_ray(
    load: Callable[[], PanopticPredictor],
    items: Sequence[Item],
    store: ResultStore,
    *,
    actors: int,
    gpus: int = 0,
    pictures: Sequence[Picture] = (),
    batch_size: int = 1,
    readers: int = 2,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Predict what is not finished yet; see `run_batch`. `on_ray` must be open.

    Args:
        load: loads the model; is pickled, and called in each actor.
        items: all images of the job; each machine reads them by their paths or URLs.
        store: open.
        actors: processes that hold the model.
        gpus: GPUs of each.
        pictures: what to write beside the tables.
        batch_size: images of one prepared size that go through the network together.
        readers: threads in each actor that read and resize images ahead.
        on_progress: is called after each image.

    Raises:
        CheckpointError: the model cannot be loaded there, or predicts what it cannot.
        ClusterError: Ray gave up; all that came back before is finished.
        OutputError: the system refuses to write.
        UnreachableError: as for `run_batch`.
    """
    keeper = Keeper(store, items, on_progress)
    make = functools.partial(_Predicting, load, pictures=pictures, batch_size=batch_size, readers=readers)
    together = max(batch_size, min(_IMAGES, -(-len(keeper.left()) // (_SHARES * actors))))
    # What is left after the first round did not answer, or was together with an image that kills its process.
    for images, tries, is_last_try in ((together, 2, False), (1, 3, True)):
        left = [_anywhere(item) for item in keeper.left()]
        questions = [left[first : first + images] for first in range(0, len(left), images)]
        for _, found in ask_actors(make, questions, actors=actors, gpus=gpus, tries=tries):
            keeper.keep(found, is_last_try=is_last_try)
    for item in keeper.left():
        reason = f"{item.key} ended each process that predicted it, the last three times alone."
        keeper.keep([Outcome(item, None, {}, reason)], is_last_try=True)


def _anywhere(item: Item) -> Item:
    """The item with a place that does not depend on the folder in which a process runs."""
    return item if is_url(item.place) else Item(item.key, str(Path(item.place).absolute()))


class _Predicting:
    """Predicts lists of items."""

    def __init__(
        self, load: Callable[[], PanopticPredictor], *, pictures: Sequence[Picture], batch_size: int, readers: int
    ) -> None:
        self._predict = functools.partial(outcomes, load(), pictures=pictures, batch_size=batch_size, readers=readers)

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        return list(self._predict(items))
