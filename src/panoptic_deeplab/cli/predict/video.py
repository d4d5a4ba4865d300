"""`panoptic-deeplab predict movie.mp4` and `--camera`: an annotated video, and a table with a row for each segment.

Frames stream: one is read, predicted, drawn, written and forgotten (`--batch-size` of them, where that is asked for).
What is written until an error or Ctrl-C can be used.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panoptic_deeplab.cli.predict.files import FileOptions, Product, output_stems
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import growing_text

if TYPE_CHECKING:
    from panoptic_deeplab.images.video import Frame, Video
    from panoptic_deeplab.inference.predictor import PanopticPredictor
    from panoptic_deeplab.results.panoptic_result import PanopticResult

OF_VIDEOS: tuple[Product, ...] = ("overlay", "table")
"""What is written for a video."""

_SUFFIXES = {"overlay": "_overlay.mp4", "table": "_table.csv"}


@dataclass(frozen=True, kw_only=True)
class VideoSummary:
    """What was done with a video. The field names are the keys of `predict --json`."""

    video: str
    """Its path, or `camera 0`."""
    size: tuple[int, int]
    """`(height, width)` in pixels."""
    frames: int
    """How many were predicted and written."""
    segments: int
    """How many they have together."""
    frames_per_second: float
    """Speed of reading, predicting, drawing and writing."""
    files: tuple[str, ...]
    warning: str | None
    """One sentence where frames are missing."""
    interrupted: bool
    """Whether Ctrl-C came before its end."""

    def line(self) -> str:
        """A line for people."""
        height, width = self.size
        end = ", interrupted" if self.interrupted else ""
        return (
            f"{self.video}  {self.frames} frames of {height} x {width} (height x width),"
            f" {self.frames_per_second:.1f} frames per second{end}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class VideoFiles:
    """Names the files of each video, and checks them before anything is predicted or written.

    Args:
        folder: exists.
        products: some of `OF_VIDEOS`.
        paths: those of all videos; for a camera, its name.
        options: how to write.

    Raises:
        ConfigError: a file is there already, or would be written twice.
    """

    def __init__(self, folder: Path, products: Sequence[Product], paths: Sequence[Path], options: FileOptions) -> None:
        self.products, self.options = tuple(products), options
        self._places: dict[Path, dict[str, Path]] = {}
        writers: dict[Path, Path] = {}
        for path, stem in output_stems(paths).items():
            self._places[path] = {product: folder / f"{stem}{_SUFFIXES[product]}" for product in products}
            for place in self._places[path].values():
                if place in writers:
                    raise ConfigError(
                        f"{place} would be written for {writers[place]} and for {path}. Predict them separately, into"
                        " two folders."
                    )
                if os.path.lexists(place):
                    raise ConfigError(
                        f"{place}, where results of {path} would go, is there already, and no file is replaced. Choose"
                        " another --output, or remove what an earlier call has left."
                    )
                writers[place] = path

    def places(self, path: Path) -> dict[str, Path]:
        """Product -> file, for one video."""
        for place in self._places[path].values():
            place.parent.mkdir(parents=True, exist_ok=True)
        return self._places[path]


def predict_video(
    predictor: "PanopticPredictor",
    video: "Video",
    path: Path,
    files: VideoFiles,
    *,
    batch_size: int = 1,
    on_frame: Callable[..., None] = lambda done, total, note: None,
) -> VideoSummary:
    """Predict the frames of a video into its files, until it ends or Ctrl-C comes.

    Args:
        predictor: the model.
        video: open.
        path: what `files` knows it by.
        files: where results go.
        batch_size: frames that go through the network together.
        on_frame: is called after each frame with how many are done, how many there are (None = not known) and the
            speed in words.

    Raises:
        ImageError: a frame cannot be predicted; what was written before can be used.
        OutputError: the system refuses to write.
    """
    places = files.places(path)
    done = segments = 0
    interrupted = False
    start = time.perf_counter()
    with ExitStack() as stack:
        writer = _OverlayWriter(stack, places["overlay"], video, files.options) if "overlay" in places else None
        table = _FrameTable(stack, places["table"], files.options) if "table" in places else None
        try:
            for frame, result in _predictions(predictor, video, batch_size):
                if writer is not None:
                    writer.add(frame, result)
                if table is not None:
                    table.add(done, frame, result)
                done += 1
                segments += len(result.segments_info)
                speed = done / (time.perf_counter() - start)
                on_frame(done, video.count, f"{speed:.1f} frames/s")
        except KeyboardInterrupt:  # files are closed as at the end; the caller goes on with it
            interrupted = True
    missing = not interrupted and video.count is not None and done < 0.95 * video.count  # some formats only guess it
    warning = f"{video.where} should have {video.count} frames, but only {done} can be read; it may be truncated."
    return VideoSummary(
        video=video.where,
        size=video.size,
        frames=done,
        segments=segments,
        frames_per_second=done / (time.perf_counter() - start),
        files=tuple(map(str, places.values())),
        warning=warning if missing else None,
        interrupted=interrupted,
    )


def _predictions(
    predictor: "PanopticPredictor", video: "Video", batch_size: int
) -> "Iterator[tuple[Frame, PanopticResult]]":
    waiting: deque[Frame] = deque()

    def images() -> Iterator[Any]:
        for frame in video.frames():
            waiting.append(frame)
            yield frame.image

    for result in predictor.predict_iter(images(), batch_size=batch_size):
        yield waiting.popleft(), result


class _OverlayWriter:
    """Frames under the colors of their classes; those of a camera as often as real time asks for."""

    def __init__(self, stack: ExitStack, path: Path, video: "Video", options: FileOptions) -> None:
        from panoptic_deeplab.images.video import VideoWriter

        self._writer = stack.enter_context(VideoWriter(path, size=video.size, rate=video.rate))
        self._options = options
        self._rate = video.rate if video.is_live else None
        self._written = 0

    def add(self, frame: "Frame", result: "PanopticResult") -> None:
        import numpy as np

        from panoptic_deeplab.visualize.draw import draw_panoptic

        how = self._options
        picture = np.asarray(
            draw_panoptic(
                frame.image,
                result,
                alpha=how.alpha,
                labels=how.names,
                min_score=how.min_score,
                instance_colors=False,  # nothing tells which instance of the last frame this is
            )
        )
        copies = 1 if self._rate is None else max(1, round(frame.seconds * self._rate) + 1 - self._written)
        for _ in range(copies):
            self._writer.write(picture)
        self._written += copies


class _FrameTable:
    """A row for each segment, on disk after each frame."""

    def __init__(self, stack: ExitStack, path: Path, options: FileOptions) -> None:
        self._append = stack.enter_context(growing_text(path))
        self._measures: dict[str, Any] = {
            "things_only": options.things_only,
            "pixel_size": options.pixel_size,
            "unit": options.unit,
        }
        self._has_head = False

    def add(self, number: int, frame: "Frame", result: "PanopticResult") -> None:
        from panoptic_deeplab.results.measurements import table_csv, to_table

        columns = to_table(result, **self._measures)
        rows = len(columns["id"])
        columns = {"frame": [number] * rows, "seconds": [f"{frame.seconds:.3f}"] * rows, **columns}
        self._append(table_csv(columns, head=not self._has_head))
        self._has_head = True
