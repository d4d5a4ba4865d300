"""A part of an evaluation: what the metrics count over some images of a set, to be put together with the other parts.

A process of torchrun makes one part, an actor on Ray many small ones; `evaluate.report_of` joins either.
"""

import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.images.read import read_image
from panoptic_deeplab.metrics.metric import Metric
from panoptic_deeplab.metrics.panoptic_quality import ImageQuality, PanopticQuality
from panoptic_deeplab.results.panoptic_result import PanopticResult

logger = logging.getLogger(__name__)

_WIDEST = 640


@runtime_checkable  # tests check types at run time
class Predictor(Protocol):
    """What is evaluated: `PanopticPredictor`, or anything else with these two members."""

    @property
    def categories(self) -> CategoryTable:
        """The classes it predicts."""
        ...

    def predict(self, image: UInt8[np.ndarray, "H W 3"]) -> PanopticResult:
        """Segment one RGB image, at its own size."""
        ...


class Picture(NamedTuple):
    """One evaluated image, for the mosaic and the page of errors."""

    image_id: str
    image: UInt8[np.ndarray, "H W 3"]
    truth: PanopticResult
    prediction: PanopticResult

    def reduced(self) -> "Picture":
        """The same at most `_WIDEST` pixels wide, since many are kept until it is known which images are the worst."""
        height, width = self.truth.size
        if width <= _WIDEST:
            return self
        size = (max(1, round(height * _WIDEST / width)), _WIDEST)
        image = Image.fromarray(read_image(self.image)).resize((size[1], size[0]), Image.Resampling.BOX)
        return Picture(self.image_id, np.asarray(image), self.truth.resized(size), self.prediction.resized(size))


class Part(NamedTuple):
    """What was found over some images; it can be pickled."""

    counted: dict[str, Any]
    """What each metric counted, by its name."""
    images: dict[int, ImageQuality]
    """PQ of every image, by its index in the source."""
    pictures: dict[int, Picture]
    """Those of the first images of the whole set, by index."""
    worst: list[tuple[ImageQuality, Picture]]
    """Reduced pictures of the worst images of this part."""
    seconds: dict[str, float]
    """Wall time of `reading`, `prediction` and `metrics`."""


def count_part(
    predictor: Predictor,
    source: PanopticSource,
    indices: Sequence[int],
    measures: Sequence[Metric],
    *,
    num_pictures: int,
    on_image: Callable[[int, int], None] | None = None,
) -> Part:
    """Predict some images of a labeled set, and let metrics count.

    Args:
        predictor: its categories are those of the source.
        source: every image needs a label.
        indices: those of the images in the source.
        measures: what `standard_metrics` gave, fresh.
        num_pictures: pictures of the images before this index are kept, and of so many of the worst.
        on_image: as for `evaluate`.

    Raises:
        DatasetError: an image has no label, or cannot be compared with it.
    """
    quality = measures[0]
    assert isinstance(quality, PanopticQuality)
    seconds = {"reading": 0.0, "prediction": 0.0, "metrics": 0.0}
    images: dict[int, ImageQuality] = {}
    pictures: dict[int, Picture] = {}
    worst: list[tuple[ImageQuality, Picture]] = []
    for done, index in enumerate(indices, start=1):
        begin = perf_counter()
        sample = source[index]
        if sample.panoptic_map is None:
            raise DatasetError(
                f"Image {sample.image_id} has no label, so it cannot be evaluated."
                " Evaluate a labeled split, or use `panoptic-deeplab predict` for this one."
            )
        truth = sample.truth(source.categories)
        read = perf_counter()
        prediction = predictor.predict(sample.pixels)
        predicted = perf_counter()
        for metric in measures:
            metric.update(prediction, truth, sample.image_id)
        assert quality.last_image is not None
        images[index] = quality.last_image
        if num_pictures:
            picture = Picture(sample.image_id, sample.image, truth, prediction)
            if index < num_pictures:
                pictures[index] = picture
            worst = worst_of([*worst, (quality.last_image, picture)], num_pictures)
        seconds["reading"] += read - begin
        seconds["prediction"] += predicted - read
        seconds["metrics"] += perf_counter() - predicted
        if on_image:
            on_image(done, len(indices))
    counted = {metric.name: metric.counted() for metric in measures}
    return Part(counted, images, pictures, worst, seconds)


def worst_of(pairs: list[tuple[ImageQuality, Picture]], number: int) -> list[tuple[ImageQuality, Picture]]:
    """The pictures of the worst images among these, the worst first, reduced."""
    kept = sorted(pairs, key=lambda pair: badness(pair[0]))[:number]
    return [(image, picture.reduced()) for image, picture in kept]


def badness(image: ImageQuality) -> tuple[float, int, str]:
    """Order of images: the lowest PQ first, of equal ones that with more errors; where nothing counts, last."""
    pq = 2.0 if image.pq is None else image.pq
    return pq, -len(image.missed) - len(image.false), image.image_id
