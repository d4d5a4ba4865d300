"""Real files, written here, and captures that are made up."""

from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panoptic_deeplab.errors import ImageError, OutputError
from panoptic_deeplab.images.video import Video, VideoWriter, open_camera, open_video

cv2 = pytest.importorskip("cv2", reason="needs the extra video")


class Capture:
    """A capture of given frames, as OpenCV gives them: BGR."""

    def __init__(self, frames: list[np.ndarray], *, rate: float = 10.0) -> None:
        self.left, self.rate, self.reads, self.released = list(frames), rate, 0, False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def read(self) -> tuple[bool, Any]:
        self.reads += 1
        return (True, self.left.pop(0)) if self.left else (False, None)

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FPS: self.rate, cv2.CAP_PROP_FRAME_COUNT: -1.0}.get(what, 0.0)

    def set(self, what: int, value: float) -> bool:
        return False

    def release(self) -> None:
        self.released = True


def _moving_square(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    image = np.full((*size, 3), (200, 40, 20), np.uint8)
    image[10:30, 4 * number : 4 * number + 20] = (20, 60, 210)
    return image


def test_written_frames_are_read_again(tmp_path: Path) -> None:
    pictures = [_moving_square(number) for number in range(8)]
    with VideoWriter(tmp_path / "a.mp4", size=(48, 64), rate=20) as writer:
        for picture in pictures:
            writer.write(picture)
    with open_video(tmp_path / "a.mp4") as video:
        assert (video.size, video.rate, video.count, video.is_live) == ((48, 64), 20.0, 8, False)
        frames = list(video.frames())
    assert [frame.seconds for frame in frames] == pytest.approx([number / 20 for number in range(8)])
    for frame, picture in zip(frames, pictures, strict=True):
        difference = np.abs(frame.image.astype(int) - picture)
        assert difference.mean() < 8  # the codec loses a little; red for blue would be 100


def test_odd_sides_lose_a_line(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", size=(49, 65), rate=20) as writer:
        writer.write(_moving_square(0, (49, 65)))
    with open_video(tmp_path / "a.mp4") as video:
        assert video.size == (48, 64)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 50, None])
def test_what_is_no_video_is_one_sentence(
    tmp_path: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.mp4.*(is no video that OpenCV can open|There is no)|There is no video"):
        open_video(path)
    assert capfd.readouterr() == ("", "")  # OpenCV and its codecs leave it to us


def test_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written as a video"):
        VideoWriter(tmp_path / "missing" / "a.mp4", size=(48, 64), rate=20)


def test_frames_are_read_when_they_are_asked_for() -> None:
    capture = Capture([_moving_square(number) for number in range(5)])
    with Video(capture, where="it") as video:
        for number, _ in enumerate(video.frames(), start=1):
            assert capture.reads == number
    assert capture.released


def test_channels_are_turned_to_rgb() -> None:
    (frame,) = Video(Capture([_moving_square(0)]), where="it").frames()
    assert frame.image[0, 0].tolist() == [20, 40, 200]


def test_capture_without_a_frame_and_one_that_changes_its_size() -> None:
    with pytest.raises(ImageError, match="it gives no picture"):
        Video(Capture([]), where="it")
    capture = Capture([_moving_square(0), _moving_square(0, (50, 50))])
    with pytest.raises(ImageError, match="changes its size"):
        list(Video(capture, where="it").frames())


@pytest.mark.parametrize("rate", [0.0, float("nan"), 1e9])
def test_rate_that_is_none_becomes_a_usual_one(rate: float) -> None:
    assert Video(Capture([_moving_square(0)], rate=rate), where="it").rate == 25


def test_camera_tells_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: Iterator[int] = count(100)
    monkeypatch.setattr("time.monotonic", lambda: next(ticks))
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Capture([_moving_square(0)] * 3))
    with open_camera(0) as camera:
        assert [frame.seconds for frame in camera.frames()] == [1, 2, 3]
        assert (camera.is_live, camera.count) == (True, None)


def test_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageError, match="There is no camera 99"):
        open_camera(99)
    assert capfd.readouterr() == ("", "")


def test_only_one_package_brings_opencv() -> None:
    assert packages_distributions()["cv2"] == ["opencv-python-headless"]
