"""`run_batch`: predict a list of images into a `ResultStore`, reading ahead while the network works."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from PIL import Image

from panoptic_deeplab.batch.inputs import Item, UnreachableError, local_file
from panoptic_deeplab.batch.keep import Keeper, Outcome, Picture, Progress
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.images.prepare import brightness_warning, read_for
from panoptic_deeplab.images.write import encoded
from panoptic_deeplab.inference.engines.engine import ReadyImage
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.results.coco import to_coco_panoptic, to_rles
from panoptic_deeplab.results.panoptic_result import PanopticResult

_WINDOW = 4
"""Batches of images that are read ahead."""

_TOO_LARGE = (MemoryError, torch.OutOfMemoryError)
"""What an image that needs more memory than there is raises, where it could not be known before."""


class _Read(NamedTuple):
    """An image that has been read."""

    item: Item
    ready: ReadyImage
    warning: str | None


_Failed = tuple[Item, Exception]
"""An image that cannot be read, and why."""


def run_batch(
    predictor: PanopticPredictor,
    items: Sequence[Item],
    store: ResultStore,
    *,
    pictures: Sequence[Picture] = (),
    batch_size: int = 1,
    readers: int = 2,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Predict what is not finished yet; a bad image is noted in the store and stops nothing.

    An image whose place does not answer is tried once more after all others, and noted as bad only then.

    Args:
        predictor: the model.
        items: all images of the job.
        store: open.
        pictures: what to write beside the tables.
        batch_size: images of one prepared size that go through the network together.
        readers: threads that read and resize images ahead.
        on_progress: is called after each image.

    Raises:
        CheckpointError: the model predicts what it cannot; all images before are finished.
        OutputError: the system refuses to write.
        UnreachableError: many images one after another cannot be had; nothing is noted of them.
    """
    keeper = Keeper(store, items, on_progress)
    how: dict[str, Any] = {"pictures": pictures, "batch_size": batch_size, "readers": readers}
    for is_last_try in (False, True):
        for outcome in outcomes(predictor, keeper.left(), **how):
            keeper.keep([outcome], is_last_try=is_last_try)


def outcomes(
    predictor: PanopticPredictor, items: Sequence[Item], *, pictures: Sequence[Picture], batch_size: int, readers: int
) -> Iterator[Outcome]:
    """Predict images, each once, not always in their order; arguments and errors are those of `run_batch`."""
    for batch in _batches(predictor, items, batch_size=batch_size, readers=readers):
        for item, answer in _answers(predictor, batch):
            if isinstance(answer, PanopticResult):
                warning = next(read.warning for read in batch if isinstance(read, _Read) and read.item is item)
                files: dict[Picture, bytes] = {kind: encoded(_picture(kind, answer)) for kind in pictures}
                yield Outcome(item, row_of(item, answer, warning), files, "")
            else:
                yield Outcome(item, None, {}, _said(item, answer), isinstance(answer, UnreachableError))


def _batches(
    predictor: PanopticPredictor, items: Sequence[Item], *, batch_size: int, readers: int
) -> Iterator[list[_Read | _Failed]]:
    """Images of one group, `batch_size` at most, or one that cannot be read, with the reason."""
    window = 1 if batch_size == 1 else _WINDOW * batch_size
    with ThreadPoolExecutor(readers, thread_name_prefix="reader") as pool:
        waiting: deque[tuple[Item, Future[_Read]]] = deque()
        stream = iter(items)
        try:
            while True:
                for item in stream:
                    waiting.append((item, pool.submit(_read, predictor, item)))
                    if len(waiting) >= window + 2 * readers:
                        break
                if not waiting:
                    return
                groups: dict[tuple[object, ...], list[_Read | _Failed]] = {}
                for _ in range(min(window, len(waiting))):
                    item, future = waiting.popleft()
                    try:
                        read = future.result()
                    except (ImageError, *_TOO_LARGE) as error:
                        yield [(item, error)]
                    else:
                        groups.setdefault(read.ready.group, []).append(read)
                for group in groups.values():
                    for first in range(0, len(group), batch_size):
                        yield group[first : first + batch_size]
        finally:
            for _, future in waiting:
                future.cancel()


def _read(predictor: PanopticPredictor, item: Item) -> _Read:
    with local_file(item) as path:
        pixels = read_for(path, predictor.config.input)
        predictor.check_memory((pixels.shape[0], pixels.shape[1]), where=str(path))
        ready = predictor.engine.ready(pixels)
        warning = brightness_warning(path, pixels, predictor.config.input)
        return _Read(item, ready, warning and warning.replace(str(path), item.place))


def _answers(
    predictor: PanopticPredictor, batch: Sequence[_Read | _Failed]
) -> Iterator[tuple[Item, PanopticResult | Exception]]:
    """The result of each image, or why there is none; images too large together are predicted one by one."""
    reads = [read for read in batch if isinstance(read, _Read)]
    yield from ((read[0], read[1]) for read in batch if not isinstance(read, _Read))
    if not reads:
        return
    try:
        results = predictor.engine.predict([read.ready for read in reads]).results
    except _TOO_LARGE as error:
        if len(reads) == 1:
            yield reads[0].item, error
            return
        for read in reads:
            yield from _answers(predictor, [read])
        return
    for read, result in zip(reads, results, strict=True):
        yield read.item, result


def _said(item: Item, error: Exception) -> str:
    if isinstance(error, ImageError):
        return str(error)
    return f"{item.key} needs more memory than there is. Predict it in tiles (`predict --tile 1024`)."


def row_of(item: Item, result: PanopticResult, warning: str | None) -> dict[str, Any]:
    """What `ResultStore.add` keeps of a result, but for its pictures.

    Args:
        item: the image.
        result: its segments become run lengths.
        warning: what is to be known of the file.
    """
    rles = to_rles(result.panoptic_map, [segment.id for segment in result.segments_info])
    segments = []
    for segment, rle in zip(result.segments_info, rles, strict=True):
        row = asdict(segment)
        del row["iscrowd"]
        segments.append(row | {"rle": rle["counts"]})
    height, width = result.size
    return {"image": item.key, "height": height, "width": width, "segments": segments, "warning": warning}


def _picture(kind: Picture, result: PanopticResult) -> Image.Image:
    if kind == "panoptic":
        return Image.fromarray(to_coco_panoptic(result, 0, "")[1])
    wide = len(result.segments_info) > 65535
    return Image.fromarray(result.panoptic_map if wide else result.panoptic_map.astype("uint16"))
