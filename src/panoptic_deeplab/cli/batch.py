"""`panoptic-deeplab batch`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from panoptic_deeplab.cli.ray_options import RunsOnRay
from panoptic_deeplab.cli.terminal import error_console, print_json, say, say_error
from panoptic_deeplab.cli.verb import Flag, Folder, duration, make_folder, progress_bar
from panoptic_deeplab.errors import ConfigError

if TYPE_CHECKING:
    from panoptic_deeplab.batch.inputs import Item
    from panoptic_deeplab.batch.keep import Progress
    from panoptic_deeplab.batch.store import ResultStore
    from panoptic_deeplab.inference.predictor import PanopticPredictor

_SECONDS_BETWEEN_LINES = 30.0
"""Where stderr is no terminal, which has a bar."""


@dataclass(frozen=True, kw_only=True)
class Batch(RunsOnRay):
    """Segment a large collection of images into sharded tables; the same call goes on after any interruption.

    A finished image is never predicted again, whatever ended the call before. Images that cannot be predicted are in
    errors.jsonl, with exit code 1 at the end; all others are in results/*.parquet, one row each: image, height, width,
    segments (id, category_id, name, isthing, area, bbox, score, rle), files, warning. manifest.json lists the shards,
    the classes and the settings once all is done.

    With --json, the document is: images, errors (numbers of images); seconds and images_per_second of this call;
    manifest, its path.
    """

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUTS...")]
    """Image files, folders with their subfolders, quoted patterns, manifests (.csv, .jsonl, .parquet with a column
    image), or URLs of these, such as s3://bucket/photos."""
    output: Folder
    """Folder for the results."""
    save: Annotated[
        tuple[Literal["panoptic", "labels"], ...], tyro.conf.arg(help_behavior_hint="(default: tables alone)")
    ] = ()
    """Pictures beside the tables. panoptic: PNG files of the COCO panoptic format. labels: PNG files of 16 bits whose
    numbers are the segments' ids."""
    batch_size: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Images of one size that go through the network together."""
    readers: Annotated[int, tyro.conf.arg(metavar="N")] = 2
    """Threads that read images ahead, in each process."""
    json: Flag = False
    """Write one JSON document to stdout."""

    def execute(self) -> None:
        """Predict; print where the results are."""
        from panoptic_deeplab.batch.inputs import list_images
        from panoptic_deeplab.batch.store import ResultStore

        self.check_runner()
        for name in ("batch_size", "readers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be positive. Got {getattr(self, name)} instead.")
        items = list_images(self.inputs)
        make_folder(self.output)
        predictor = self.load_here() if self.runner == "ray" else self.load_predictor()
        start = time.monotonic()
        with ResultStore(self.output, self._job(predictor)) as store, progress_bar("batch") as on_image:
            before = len(store.finished)
            if before:
                say_error(f"{before} images are finished already.")
            self._run(predictor, items, store, _Reporter(on_image))
            manifest = store.finish([asdict(category) for category in predictor.categories.categories])
            errors, count = store.num_errors, len(store.finished)
        seconds = time.monotonic() - start
        if self.json:
            speed = (count - before) / seconds
            document = {"images": count - errors, "errors": errors, "seconds": seconds, "images_per_second": speed}
            print_json({**document, "manifest": str(manifest)})
        else:
            say(manifest)
        if errors:
            say_error(f"{errors} of {count} images could not be predicted; {self.output / 'errors.jsonl'} says why.")
            raise SystemExit(1)

    def _run(
        self,
        predictor: "PanopticPredictor",
        items: "Sequence[Item]",
        store: "ResultStore",
        report: "Callable[[Progress], None]",
    ) -> None:
        how: dict[str, Any] = {"pictures": self.save, "batch_size": self.batch_size, "readers": self.readers}
        if self.runner == "local":
            from panoptic_deeplab.batch.run import run_batch

            run_batch(predictor, items, store, **how, on_progress=report)
            return
        from panoptic_deeplab.batch.on_ray import run_on_ray

        with self.cluster() as (actors, gpus):
            run_on_ray(self.loader(gpus), items, store, actors=actors, gpus=gpus, **how, on_progress=report)

    def _job(self, predictor: "PanopticPredictor") -> dict[str, Any]:
        """What the results depend on."""
        settings = self.settings(predictor.config)
        return {"model": list(self.model), "precision": self.precision, "save": sorted(self.save), **settings}


class _Reporter:
    """Says now and then how far it is, how fast, and how long it still takes.

    Args:
        on_image: the function of a `progress_bar`.
    """

    def __init__(self, on_image: Callable[..., None]) -> None:
        self._on_image = on_image
        self._next = time.monotonic() + _SECONDS_BETWEEN_LINES

    def __call__(self, progress: "Progress") -> None:
        note = f"{progress.per_second:.1f} images/s" + (f", {progress.errors:,} errors" if progress.errors else "")
        self._on_image(progress.done, progress.total, note)
        now = time.monotonic()
        if error_console().is_terminal or now < self._next:
            return
        left = progress.seconds_left
        ends = "" if left is None else f", {duration(left)} left"
        say_error(f"{progress.done:,} of {progress.total:,} images, {note}{ends}")
        self._next = now + _SECONDS_BETWEEN_LINES
