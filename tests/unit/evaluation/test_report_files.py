import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.errors import OutputError
from panoptic_deeplab.evaluation.evaluate import EvaluationReport, evaluate
from panoptic_deeplab.evaluation.report_files import write_report_files
from panoptic_deeplab.results.panoptic_result import PanopticResult

SOURCE = SyntheticSource(1, seed=0, size=(48, 64))


class Oracle:
    categories = SOURCE.categories

    def predict(self, image: object) -> PanopticResult:
        truth = SOURCE[0].truth(SOURCE.categories)
        return replace(truth, segments_info=[replace(segment, score=1.0) for segment in truth.segments_info])


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    return evaluate(Oracle(), SOURCE, config=EvaluationConfig(num_pictures=1))


def test_all_files(tmp_path: Path, report: EvaluationReport) -> None:
    write_report_files(report, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert {path.name for path in folder.iterdir()} == {
        "report.json",
        "report.html",
        "table.txt",
        "per_class_pq.png",
        "mosaic.png",
    }
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(report.to_json()))
    assert (folder / "table.txt").read_text() == report.table(per_class=True)


def test_a_full_disk_leaves_each_file_whole_or_not_at_all(
    tmp_path: Path, report: EvaluationReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(picture: object, path: str | Path, **keywords: object) -> None:
        Path(path).write_bytes(b"the first part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match=r"per_class_pq\.png cannot be written: No space left"):
        write_report_files(report, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "table.txt"}


def test_without_pictures_there_is_no_mosaic(tmp_path: Path, report: EvaluationReport) -> None:
    write_report_files(replace(report, pictures=[]), tmp_path)
    assert not (tmp_path / "mosaic.png").exists()


def test_without_matplotlib_the_bars_are_left_out_with_a_warning(
    tmp_path: Path, report: EvaluationReport, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with caplog.at_level(logging.WARNING):
        write_report_files(report, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.html", "table.txt", "mosaic.png"}
    assert "per_class_pq.png is left out" in caplog.text
