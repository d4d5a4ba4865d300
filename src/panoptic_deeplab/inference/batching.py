"""A stream of images in batches: bounded memory, the order of the images, and no result lost.

    images ─▶ read a window ahead ─▶ groups of equal size ─▶ batches ─▶ results, in the order of the images

What goes wrong, in the source, in an image or in the model, is raised in the place of the result that it prevents: the
results of all images before it have been given.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from panoptic_deeplab.images.read import ImageLike
from panoptic_deeplab.inference.engines.engine import ReadyImage
from panoptic_deeplab.results.panoptic_result import PanopticResult

_WINDOW = 4
"""How many batches of images are read ahead to find images of one size."""


def in_batches(
    images: Iterable[ImageLike],
    *,
    batch_size: int,
    prepare: Callable[[ImageLike], ReadyImage],
    predict: Callable[[Sequence[ReadyImage]], list[PanopticResult]],
) -> Iterator[PanopticResult]:
    """Predict images, read as needed, those of one size together; yields one result an image, in their order.

    Args:
        images: what `prepare` reads one by one.
        batch_size: images that `predict` gets together at most.
        prepare: reads an image.
        predict: gives the results of images of one group.
    """
    stream = iter(images)
    window = 1 if batch_size == 1 else min(_WINDOW * batch_size, sys.maxsize)  # more is no number for islice
    while True:
        ready: list[ReadyImage] = []
        failure = None
        try:
            for image in islice(stream, window):
                ready.append(prepare(image))
        except Exception as error:  # of the user's generator it can be any
            failure = error
        yield from _in_order(ready, batch_size, predict)
        if failure is not None:
            raise failure
        if len(ready) < window:
            return


def _in_order(
    ready: Sequence[ReadyImage], batch_size: int, predict: Callable[[Sequence[ReadyImage]], list[PanopticResult]]
) -> Iterator[PanopticResult]:
    """The results of images that were read together; a batch is predicted when its first image's turn has come."""
    groups = [item.group for item in ready]
    by_size: dict[tuple[object, ...], list[int]] = {}
    for index, group in enumerate(groups):
        by_size.setdefault(group, []).append(index)
    results: dict[int, PanopticResult] = {}
    for index, group in enumerate(groups):
        if index not in results:
            chosen, by_size[group] = by_size[group][:batch_size], by_size[group][batch_size:]
            results.update(zip(chosen, predict([ready[i] for i in chosen]), strict=True))
        yield results.pop(index)
