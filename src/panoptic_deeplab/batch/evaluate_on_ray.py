"""`evaluate_on_ray`: the loop of `evaluation/` on Ray Data, for labeled sets that are too large for one machine.

An actor lets fresh metrics count over a few images and gives what they counted, a `Part`; this process joins each part
once. So an actor that dies takes nothing with it, and no image counts twice. Counts are whole numbers, and sums of IoU
differ from those of one process by rounding alone.
"""

import functools
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from panoptic_deeplab.batch.actors import ask_actors
from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import ClusterError
from panoptic_deeplab.evaluation.evaluate import EvaluationReport, check_evaluable, report_of
from panoptic_deeplab.evaluation.part import Part, Predictor, badness, count_part
from panoptic_deeplab.metrics.metric import Metric
from panoptic_deeplab.metrics.panoptic_quality import ImageQuality
from panoptic_deeplab.metrics.standard import standard_metrics

_IMAGES = 16
"""Images of a question."""

_SHARES = 4
"""Questions of an actor where there are few images."""

_PARTS = 64
"""Parts that wait to be joined; the confusion matrix in each has the square of the classes."""


class Evaluated(NamedTuple):
    """What is evaluated on what; each actor has one of its own."""

    predictor: Predictor
    source: PanopticSource
    further: Callable[[], Sequence[Metric]] = tuple
    """Makes the metrics beside PQ, mIoU and AP, fresh."""


def evaluate_on_ray(
    load: Callable[[], Evaluated],
    here: Evaluated,
    *,
    config: EvaluationConfig,
    actors: int,
    gpus: int = 0,
    on_image: Callable[[int, int], None] = lambda done, total: None,
    provenance: Mapping[str, Any] | None = None,
) -> EvaluationReport:
    """Predict every image of a labeled set and measure it; see `evaluate`. `on_ray` must be open.

    Args:
        load: loads the model and opens the set; is pickled, and called in each actor.
        here: the same in this process, which predicts the images that the report shows.
        config: what to measure.
        actors: processes that hold the model.
        gpus: GPUs of each.
        on_image: is called with the number of images done and to do.
        provenance: as for `evaluate`.

    Returns:
        The report of the whole set. Its `seconds` are those of the busiest process.

    Raises:
        CheckpointError, ConfigError, DatasetError, MissingDependencyError: as for `evaluate`.
        ClusterError: Ray gave up, or an image ends each process that evaluates it.
    """
    check_evaluable(here.predictor.categories, here.source)
    measures, notes = standard_metrics(here.source.categories, config, here.further())
    make = functools.partial(_Counting, load, config)
    joined = _Joined(measures)
    total = len(here.source)
    together = min(_IMAGES, -(-total // (_SHARES * actors)))
    for images, tries in ((together, 2), (1, 3)):  # the second round is for what a death took along
        left = [index for index in range(total) if index not in joined.images]
        questions = [left[first : first + images] for first in range(0, len(left), images)]
        for _, (process, part) in ask_actors(make, questions, actors=actors, gpus=gpus, tries=tries):
            joined.add(process, part)
            on_image(len(joined.images), total)
    if missing := [index for index in range(total) if index not in joined.images]:
        raise ClusterError(
            f"Image {missing[0] + 1} of {total} ended each process that evaluated it, as {len(missing) - 1} others did."
            " Look for want of memory there, and evaluate without --runner ray to see what ends it."
        )
    part = joined.part()
    if config.num_pictures:
        part = _with_pictures(part, here, config)
    facts = {"processes": len(joined.seconds), **(provenance or {})}
    return report_of([part], here.source, measures, num_pictures=config.num_pictures, notes=notes, provenance=facts)


class _Joined:
    """Parts put together as they come.

    Args:
        measures: join what was counted.
    """

    def __init__(self, measures: Sequence[Metric]) -> None:
        self.images: dict[int, ImageQuality] = {}
        """By index."""
        self.seconds: defaultdict[str, dict[str, float]] = defaultdict(dict)
        """Seconds of each process."""
        self._measures = measures
        self._counted: list[Mapping[str, Any]] = []

    def add(self, process: str, part: Part) -> None:
        """Add a part, once.

        Args:
            process: that it comes from.
            part: has no pictures.
        """
        self.images |= part.images
        spent = self.seconds[process]
        for name, seconds in part.seconds.items():
            spent[name] = spent.get(name, 0.0) + seconds
        self._counted.append(part.counted)
        if len(self._counted) >= _PARTS:
            self._join()

    def part(self) -> Part:
        """All parts as one."""
        self._join()
        names = next(iter(self.seconds.values()))
        slowest = {name: max(seconds[name] for seconds in self.seconds.values()) for name in names}
        return Part(dict(self._counted[0]), self.images, {}, [], slowest)

    def _join(self) -> None:
        for metric in self._measures:
            metric.merge([counted[metric.name] for counted in self._counted])
        self._counted = [{metric.name: metric.counted() for metric in self._measures}]


def _with_pictures(part: Part, here: Evaluated, config: EvaluationConfig) -> Part:
    """Predict the first and the worst images again, here, to show them: a picture is larger than all that counts."""
    number = config.num_pictures
    worst = sorted(part.images, key=lambda index: badness(part.images[index]))[:number]
    indices = sorted({*range(min(number, len(part.images))), *worst})
    measures, _ = standard_metrics(here.source.categories, config)
    shown = count_part(here.predictor, here.source, indices, measures, num_pictures=number)
    return part._replace(pictures=shown.pictures, worst=shown.worst)


class _Counting:
    """Counts over lists of images.

    Args:
        load: as for `evaluate_on_ray`.
        config: what to measure.
    """

    def __init__(self, load: Callable[[], Evaluated], config: EvaluationConfig) -> None:
        self._evaluated = load()
        self._config = config

    def __call__(self, indices: Sequence[int]) -> tuple[str, Part]:
        predictor, source, further = self._evaluated
        measures, _ = standard_metrics(source.categories, self._config, further())
        part = count_part(predictor, source, indices, measures, num_pictures=0)
        return f"{socket.gethostname()} {os.getpid()}", part
