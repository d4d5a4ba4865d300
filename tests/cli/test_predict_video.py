"""`panoptic-deeplab predict` on videos and cameras."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.images.video import VideoWriter, open_video
from panoptic_deeplab.inference.predictor import PanopticPredictor

cv2 = pytest.importorskip("cv2", reason="needs the extra video")

Run = Callable[..., Any]
SIZE = (48, 64)


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    path = tmp_path / "movie.mp4"
    with VideoWriter(path, size=SIZE, rate=10) as writer:
        for number in range(6):
            writer.write(_scene(number))
    return path


def _scene(number: int) -> np.ndarray:
    return np.roll(SyntheticSource(1, seed=3, size=SIZE)[0].image, 2 * number, axis=1)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _count(path: Path) -> int:
    with open_video(path) as video:
        return len(list(video.frames()))


def _watched(goes_on: Callable[[], bool]) -> Callable[..., Any]:
    """OpenCV's captures, which end where `goes_on` says no; a subclass of them would crash the collector of Python."""
    real = cv2.VideoCapture

    class Watched:
        def __init__(self, *arguments: Any) -> None:
            self._capture = real(*arguments)

        def read(self) -> tuple[bool, Any]:
            found: tuple[bool, Any] = self._capture.read() if goes_on() else (False, None)
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(self._capture, name)

    return Watched


_ALL = ("--postprocess.stuff-area-limit", "0")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_video_becomes_a_video_and_a_table(
    run: Run, model_folder: Path, movie: Path, tmp_path: Path, batch_size: int
) -> None:
    output = tmp_path / "out"
    outcome = run("predict", movie, "--model", model_folder, "--output", output, *_ALL, "--batch-size", batch_size)
    assert (outcome.code, outcome.err) == (0, "")
    summary, *files = outcome.out.splitlines()
    assert summary.startswith(f"{movie}  6 frames of 48 x 64 (height x width), ")
    assert summary.endswith(" frames per second")
    assert files == [str(output / "movie_overlay.mp4"), str(output / "movie_table.csv")]
    assert _count(output / "movie_overlay.mp4") == 6
    rows = _rows(output / "movie_table.csv")
    assert {int(row["frame"]) for row in rows} == set(range(6))
    assert all(float(row["seconds"]) == int(row["frame"]) / 10 for row in rows)
    predictor = PanopticPredictor.from_pretrained(model_folder, postprocess={"stuff_area_limit": 0})
    with open_video(movie) as video:
        for number, frame in enumerate(video.frames()):
            expected = {(s.name, s.area) for s in predictor.predict(frame.image).segments_info}
            assert {(r["name"], int(r["area"])) for r in rows if int(r["frame"]) == number} == expected


def test_document_of_videos(run: Run, model_folder: Path, movie: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.avi"
    bad.write_bytes(b"nothing")
    output = tmp_path / "out"
    outcome = run("predict", bad, movie, "--model", model_folder, "--output", output, "--save", "table", "--json")
    document = json.loads(outcome.out)
    assert outcome.code == 1
    (failed,) = document["failed"]
    assert failed["image"] == str(bad)
    assert "is no video that OpenCV can open" in failed["error"]
    (summary,) = document["videos"]
    assert (summary["video"], summary["size"], summary["frames"], summary["warning"]) == (str(movie), [48, 64], 6, None)
    assert summary["files"] == [str(output / "movie_table.csv")]
    assert summary["segments"] == len(_rows(output / "movie_table.csv"))
    assert summary["frames_per_second"] > 0
    assert [file.name for file in output.iterdir()] == ["movie_table.csv"]


def test_truncated_video_is_predicted_as_far_as_it_goes(
    run: Run, model_folder: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = iter(range(3))
    monkeypatch.setattr(cv2, "VideoCapture", _watched(lambda: next(reads, None) is not None))
    outcome = run("predict", movie, "--model", model_folder, "--output", tmp_path / "out", "--save", "table")
    assert "should have 6 frames, but only 3 can be read" in outcome.err


class Camera:
    """Gives frames until Ctrl-C comes."""

    def __init__(self, number: int) -> None:
        assert number == 0
        self.reads = 0

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def read(self) -> tuple[bool, Any]:
        self.reads += 1
        if self.reads > 4:
            raise KeyboardInterrupt
        return True, _scene(self.reads)[..., ::-1]

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FPS: 20.0}.get(what, 0.0)

    def set(self, what: int, value: float) -> bool:
        return True

    def release(self) -> None:
        pass


def test_camera_until_ctrl_c(run: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.0, 0.2, 0.4, 0.6])
    monkeypatch.setattr("panoptic_deeplab.images.video.time.monotonic", lambda: next(times))
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    output = tmp_path / "out"
    outcome = run("predict", "--camera", "0", "--model", model_folder, "--output", output, *_ALL)
    assert (outcome.code, outcome.err) == (0, "")  # the only way to stop a camera
    assert outcome.out.startswith("camera 0  4 frames of 48 x 64")
    monkeypatch.undo()
    rows = _rows(output / "camera0_table.csv")
    assert sorted({(row["frame"], row["seconds"]) for row in rows}) == [
        ("0", "0.000"), ("1", "0.200"), ("2", "0.400"), ("3", "0.600"),
    ]  # fmt: skip
    assert _count(output / "camera0_overlay.mp4") == 13  # 0.6 seconds at 20 frames a second, and the first


def test_ctrl_c_leaves_a_video_and_a_table(
    run: Run, model_folder: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = VideoWriter.write
    written: list[int] = []

    def interrupted(self: VideoWriter, picture: np.ndarray) -> None:
        write(self, picture)
        written.append(1)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(VideoWriter, "write", interrupted)
    output = tmp_path / "out"
    outcome = run("predict", movie, "--model", model_folder, "--output", output, *_ALL)
    assert (outcome.code, outcome.err) == (130, "Interrupted.\n")
    assert "2 frames" in outcome.out
    assert "interrupted" in outcome.out
    assert _count(output / "movie_overlay.mp4") == 3
    assert {row["frame"] for row in _rows(output / "movie_table.csv")} == {"0", "1"}


def test_one_frame_is_held_at_a_time(
    run: Run, model_folder: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[bool] = []
    ahead: list[int] = []
    predict = PanopticPredictor.ready

    def ready(self: PanopticPredictor, image: Any) -> Any:
        ahead.append(len(reads) - len(ahead))
        return predict(self, image)

    monkeypatch.setattr(cv2, "VideoCapture", _watched(lambda: reads.append(True) or True))
    monkeypatch.setattr(PanopticPredictor, "ready", ready)
    run("predict", movie, "--model", model_folder, "--output", tmp_path / "out")
    assert ahead == [1] * 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.jpg"], "Predict videos in a call of their own"),
        (["--camera", "0"], "`camera` is predicted in a call of its own"),
        (["--save", "labels"], "`save` labels is for images. Of videos, overlay and table are written"),
        (["--tile", "64"], "`tile` and `explain` are for images"),
        (["--explain"], "`tile` and `explain` are for images"),
        (["--save", "overlay", "--pixel-size", "2"], "`pixel_size` adds columns"),
        (["movie.avi"], "would be written for movie.mp4 and for movie.avi"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    run: Run,
    model_folder: Path,
    movie: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(movie.parent)
    Path("movie.avi").write_bytes(movie.read_bytes())
    outcome = run("predict", "movie.mp4", *arguments, "--model", model_folder, "--output", "out")
    assert outcome.code == 2
    assert words in outcome.err
    assert not list(Path("out").glob("*"))


def test_results_need_a_folder_and_replace_nothing(run: Run, model_folder: Path, movie: Path, tmp_path: Path) -> None:
    assert "Name a folder for them with --output" in run("predict", movie, "--model", model_folder).err
    output = tmp_path / "out"
    assert run("predict", movie, "--model", model_folder, "--output", output).code == 0
    again = run("predict", movie, "--model", model_folder, "--output", output)
    assert again.code == 2
    assert "is there already, and no file is replaced" in again.err
