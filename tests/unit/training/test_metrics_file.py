import logging
from pathlib import Path

import pytest

from panoptic_deeplab.errors import CheckpointError, OutputError
from panoptic_deeplab.training.metrics_file import MetricsFile

COLUMNS = ("step", "loss", "PQ")
WHOLE = "step,loss,PQ\n2,1.5,\n4,1.25,0.5\n6,1,\n"


def _open(path: Path, start_step: int = 6) -> MetricsFile:
    return MetricsFile(path, columns=COLUMNS, start_step=start_step)


@pytest.mark.parametrize(
    ("content", "expected", "num_damaged"),
    [
        (WHOLE.encode(), WHOLE, 0),
        (b"\xef\xbb\xbf" + WHOLE.encode(), WHOLE, 0),
        (WHOLE.encode("utf-16"), WHOLE, 0),
        (WHOLE.replace("\n", "\r\n").encode(), WHOLE, 0),
        (b"", "step,loss,PQ\n", 0),
        (WHOLE.encode() + b"8,0.9", WHOLE, 1),  # half a row
        (WHOLE.encode()[:-1], WHOLE.removesuffix("6,1,\n"), 1),  # perhaps half a number
        (WHOLE.encode()[:20], "step,loss,PQ\n2,1.5,\n", 0),
        (WHOLE.encode() + b"\x00\xff\xfe\x80\n", WHOLE, 1),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "step,loss,PQ\n", 3),
        (WHOLE.partition("\n")[2].encode(), WHOLE, 1),  # no header
        (WHOLE.replace("4,1.25,0.5", "4,abc,0.5").encode(), "step,loss,PQ\n2,1.5,\n6,1,\n", 1),
        (WHOLE.replace("4,1.25,0.5", "4.5,1,0.5").encode(), "step,loss,PQ\n2,1.5,\n6,1,\n", 1),
        (WHOLE.replace("6,1,", "4,1,").encode(), "step,loss,PQ\n2,1.5,\n4,1.25,0.5\n", 1),  # twice
        (b"step,PQ\n2,0.5\n", "step,loss,PQ\n2,,0.5\n", 0),
    ],
)
def test_whatever_happened_to_the_file_its_whole_rows_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, expected: str, num_damaged: int
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        _open(path).write({"step": "8", "loss": "0.75"})
    assert path.read_text() == expected + "8,0.75,\n"
    copy = tmp_path / "metrics_damaged_1.csv"
    assert copy.exists() == bool(num_damaged)
    if num_damaged:
        assert f"damaged in {num_damaged} lines" in caplog.text
        assert copy.read_bytes() == content
    else:
        assert not caplog.text


def test_a_folder_in_its_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(CheckpointError, match="Is a directory"):
        _open(tmp_path / "metrics.csv")


def test_a_full_disk_keeps_the_rows_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(WHOLE)
    file = _open(path)
    original = Path.open

    class Full:
        """Takes the first bytes."""

        def __init__(self, path: Path) -> None:
            self.file = original(path, "ab")

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, line: bytes) -> None:
            self.file.write(line[:3])
            self.file.flush()
            raise OSError(28, "No space left on device")

    def full(self: Path, mode: str = "r", **keywords: object) -> object:
        return Full(self) if mode == "ab" else original(self, mode, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OutputError, match=r"metrics\.csv cannot be written: No space left"):
            file.write({"step": "8", "loss": "0.75"})
    assert path.read_text() == WHOLE
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match=r"metrics\.csv cannot be written"):
        file.write({"step": "6", "PQ": "0.5"})  # is added to the last row
    assert path.read_text() == WHOLE
