"""`run_on_ray`: the loop of `run.py` on Ray Data, on all machines of a cluster.

Actors hold the model and predict; their rows come back to this process, which alone writes to the `ResultStore`. So the
guarantee is that of the store, whatever Ray repeats: a row of an image that is finished is dropped. Where an actor or a
machine dies, Ray Data predicts its images again; where this process dies, the same call goes on.

Images must be readable on every machine: on a shared disk, or by URL.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from panoptic_deeplab.batch.inputs import Item
from panoptic_deeplab.batch.run import Progress, Speed, predict_row
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.errors import require
from panoptic_deeplab.inference.predictor import PanopticPredictor

_ROWS = 16
"""Images of a block, which is predicted and, after a loss, predicted again as one."""


def run_on_ray(
    load: Callable[[], PanopticPredictor],
    items: Sequence[Item],
    store: ResultStore,
    *,
    actors: int,
    gpus: float = 0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Predict what is not finished yet.

    Args:
        load: loads the model; is called once in each actor, so what it needs must be there.
        items: all images of the job.
        store: open; only this process writes to it.
        actors: processes that hold the model.
        gpus: GPUs of each.
        on_progress: is called after each image.

    Raises:
        MissingDependencyError: Ray is not installed.
        RayError: the model cannot be loaded, or the cluster is lost; all rows before are finished.
    """
    ray = require("ray", extra="ray", purpose="Predicting on a cluster")
    data = require("ray.data", extra="ray", purpose="Predicting on a cluster")
    left = [item for item in items if item.key not in store.finished]
    speed = Speed(store, items)
    if not left:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    rows = data.from_items([item._asdict() for item in left], override_num_blocks=-(-len(left) // _ROWS))
    predicted = rows.map(
        _Actor, fn_constructor_args=(load,), compute=data.ActorPoolStrategy(size=actors), num_gpus=gpus, max_restarts=-1
    )
    for row in predicted.iter_rows(prefetch_batches=0):
        if row["key"] not in store.finished:
            if row["error"]:
                store.add_error(row["key"], row["error"])
            else:
                store.add(json.loads(row["result"]))
            on_progress(speed.after_one())


class _Actor:
    """Holds the model."""

    def __init__(self, load: Callable[[], PanopticPredictor]) -> None:
        self._predictor = load()

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        outcome = predict_row(self._predictor, Item(item["key"], item["place"]))
        if isinstance(outcome, str):
            return {"key": item["key"], "error": outcome, "result": ""}
        return {"key": item["key"], "error": "", "result": json.dumps(outcome)}
