"""Videos and cameras as a stream of images, and pictures as a video, through OpenCV: `Video`, `VideoWriter`.

One frame at a time is in memory. OpenCV turns frames as the file says, and gives 8 bits a channel whatever is stored.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from panoptic_deeplab.errors import ImageError, OutputError, require
from panoptic_deeplab.files import user_path
from panoptic_deeplab.maps import Size

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
"""Files that count as videos, in any case."""

_USUAL_RATE = 25.0
"""Frames per second where neither file nor camera says it."""

_CODEC = "mp4v"
"""MPEG-4 part 2: the one codec for MP4 that OpenCV's packages can write everywhere."""


class Frame(NamedTuple):
    """One picture of a video."""

    image: UInt8[np.ndarray, "H W 3"]
    """RGB."""
    seconds: float
    """Time since the start of the video, or since the camera was opened."""


class Video:
    """Frames of a file or camera; a context manager, which closes it.

    Args:
        capture: an opened `cv2.VideoCapture`, or what has its `read`, `get` and `release`.
        where: name for messages.
        clock: gives the seconds of a frame that has just been read, for cameras; None = the file says them.

    Raises:
        ImageError: there is not even one frame.
    """

    def __init__(self, capture: Any, *, where: str, clock: Callable[[], float] | None = None) -> None:
        cv2 = _opencv()
        self.where = where
        self._capture, self._clock, self._start = capture, clock, 0.0 if clock is None else clock()
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate: float = rate if math.isfinite(rate) and 1 <= rate <= 1000 else _USUAL_RATE
        """Frames per second."""
        self.is_live = clock is not None
        """Whether frames come when they come, so that some are missed while one is predicted."""
        self.count: int | None = round(count) if not self.is_live and math.isfinite(count) and count > 0 else None
        """Number of frames, as far as the file knows it."""
        first = self._read()
        if first is None:
            capture.release()
            raise ImageError(f"{where} gives no picture. Expected a video with at least one frame that can be decoded.")
        self._first: Frame | None = first
        self.size: Size = first.image.shape[:2]
        """`(height, width)` in pixels."""

    def frames(self) -> Iterator[Frame]:
        """Read the frames, once, each when it is asked for.

        Raises:
            ImageError: a frame has another size than the first.
        """
        frame, self._first = self._first, None
        while frame is not None:
            if frame.image.shape[:2] != self.size:
                raise ImageError(
                    f"{self.where} changes its size from {self.size} to {frame.image.shape[:2]} (height, width) after"
                    f" {frame.seconds:.1f} seconds. Cut it there."
                )
            yield frame
            frame = self._read()

    def _read(self) -> Frame | None:
        is_there, image = self._capture.read()
        if not is_there or image is None:
            return None
        if self._clock is not None:
            seconds = self._clock() - self._start
        else:
            seconds = self._capture.get(_opencv().CAP_PROP_POS_MSEC) / 1000
        return Frame(np.ascontiguousarray(image[..., ::-1]), seconds)

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()


def open_video(source: str | Path) -> Video:
    """Open the file of a video.

    Raises:
        ImageError: there is no such file, or OpenCV cannot read it.
        MissingDependencyError: OpenCV is not installed.
    """
    cv2 = _opencv()
    path = user_path(source)
    if not path.is_file():
        raise ImageError(f"There is no video file {path}. Check the path.")
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)  # absolute: never an address or a device
    if not capture.isOpened():
        raise ImageError(
            f"{path} is no video that OpenCV can open. Expected a complete MP4, MOV, MKV, WebM or AVI file; convert it."
        )
    return Video(capture, where=str(path))


def open_camera(number: int) -> Video:
    """Open a camera of this machine by its number, from 0.

    Raises:
        ImageError: there is none, or it gives no picture.
        MissingDependencyError: OpenCV is not installed.
    """
    cv2 = _opencv()
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise ImageError(
            f"There is no camera {number} that OpenCV can open. Check that it is connected, that no other program uses"
            " it, and that this user may."
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits in a buffer is old
    return Video(capture, where=f"camera {number}", clock=time.monotonic)


class VideoWriter:
    """Pictures to an MP4 file; a context manager, after which the file can be played, also after an error.

    The codec wants even sides: of an odd size, the last row or column is left out.

    Args:
        path: where it goes.
        size: `(height, width)` of the pictures, in pixels.
        rate: frames per second.

    Raises:
        OutputError: it cannot be written there.
        MissingDependencyError: OpenCV is not installed.
    """

    def __init__(self, path: str | Path, *, size: Size, rate: float) -> None:
        cv2 = _opencv()
        self._path, self._size = user_path(path), size
        self._writer = cv2.VideoWriter(
            str(self._path.absolute()), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*_CODEC), rate, (size[1], size[0])
        )
        if not self._writer.isOpened():
            raise OutputError(
                f"{path} cannot be written as a video of {size[0]} x {size[1]} pixels (height x width) by OpenCV."
                " Choose another folder, or larger pictures."
            )

    def write(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Append an RGB picture."""
        assert picture.shape[:2] == self._size  # OpenCV would leave it out in silence
        self._writer.write(np.ascontiguousarray(picture[..., ::-1]))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.release()
        if kind is None and not (self._path.is_file() and self._path.stat().st_size):  # OpenCV does not say it
            raise OutputError(f"{self._path} could not be written. Make room, or choose another folder.")


def _opencv() -> ModuleType:
    """OpenCV, which then leaves the messages about bad files to us."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when the first file is opened
    cv2 = require("cv2", extra="video", purpose="Reading videos")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
