import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from panoptic_deeplab.distributed import Process
from panoptic_deeplab.training import progress
from panoptic_deeplab.training.tracking import TRAINING_COLUMNS, Tracker

ReadMetrics = Callable[[Path], list[dict[str, float]]]
ROW = dict.fromkeys(TRAINING_COLUMNS, 0.5)


def _tracker(folder: Path, *, rank: int = 0, start_step: int = 0, console: Console | None = None) -> Tracker:
    console = console or Console(file=io.StringIO())
    return Tracker(folder, process=Process(rank=rank), max_steps=10, start_step=start_step, console=console)


def test_rows_hold_what_was_logged(tmp_path: Path, read_metrics: ReadMetrics) -> None:
    with _tracker(tmp_path) as tracker:
        tracker.log(2, ROW | {"loss": 1.25})
        tracker.log(4, ROW | {"PQ": 0.5})
    assert read_metrics(tmp_path) == [{"step": 2, **ROW, "loss": 1.25}, {"step": 4, **ROW, "PQ": 0.5}]


def test_a_validation_is_added_to_the_row_of_its_step(tmp_path: Path, read_metrics: ReadMetrics) -> None:
    with _tracker(tmp_path) as tracker:
        tracker.log(2, ROW)
        tracker.log(4, ROW)
        tracker.log(4, {"PQ": 0.123456})
    expected = [{"step": 2, **ROW}, {"step": 4, **ROW, "PQ": 0.123456}]
    assert read_metrics(tmp_path) == expected
    with _tracker(tmp_path, start_step=4) as tracker:  # killed before it knew that it had the result
        tracker.log(4, {"PQ": 0.1})
        tracker.log(6, ROW)
    expected[1]["PQ"] = 0.1
    assert read_metrics(tmp_path) == [*expected, {"step": 6, **ROW}]


def test_resuming_drops_later_rows(tmp_path: Path, read_metrics: ReadMetrics) -> None:
    with _tracker(tmp_path) as tracker:
        for step in (2, 4, 6):
            tracker.log(step, ROW)
    with _tracker(tmp_path, start_step=4) as tracker:
        tracker.log(5, ROW)
    assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4, 5]


def test_without_a_terminal_progress_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    console = Console(file=io.StringIO())
    with caplog.at_level(logging.INFO), _tracker(tmp_path, console=console) as tracker:
        tracker.advance(2)
        tracker.log(2, ROW | {"PQ": 0.123})
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("step 2/10  loss 0.5000")
    assert message.endswith("validation: PQ 12.30")


def test_a_terminal_gets_a_bar_instead(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with caplog.at_level(logging.INFO), _tracker(tmp_path, console=console) as tracker:
        tracker.advance(2)
        tracker.advance_validation(1, 2)
        tracker.advance_validation(2, 2)
        tracker.log(2, ROW)
    assert "2/10" in stream.getvalue()
    assert "loss 0.500" in stream.getvalue()
    assert not caplog.records


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    with _tracker(tmp_path, rank=1) as tracker:
        tracker.advance(1)
        tracker.advance_validation(1, 1)
        tracker.log(1, ROW)
    assert not list(tmp_path.iterdir())


def test_a_notebook_gets_bars_that_are_replaced_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display")
    shown: list[str] = []

    class Handle:
        def update(self, html: Any) -> None:
            shown.append(html.data)

    def show(html: Any, *, display_id: bool) -> Handle:
        assert display_id
        shown.append(html.data)
        return Handle()

    monkeypatch.setattr(display, "display", show)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN", 0.0)
    with _tracker(tmp_path, start_step=2, console=Console(file=io.StringIO(), force_jupyter=True)) as tracker:
        tracker.advance(4)
        tracker.log(4, ROW)
        tracker.advance_validation(1, 2)
        tracker.advance_validation(2, 2)
    assert 'value="2" max="10"' in shown[0]
    assert "? left" in shown[0]
    assert 'value="4" max="10"></progress> 4/10' in shown[1]
    assert "loss 0.500" in shown[2]
    assert "<code>validate</code>" in shown[3]
    assert "<code>validate</code>" not in shown[-1]
