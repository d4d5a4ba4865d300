"""Plots are written, and read from the CSV what it says."""

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.errors import DatasetError, OutputError
from panoptic_deeplab.visualize import curves
from panoptic_deeplab.visualize.curves import (
    _label,
    _panels,
    _read_series,
    draw_curves,
    draw_label_statistics,
    draw_per_class,
)

CSV = """step,learning_rate,loss,loss_center,images_per_second,PQ,mIoU
20,0.001,2.5,0.5,11,,
40,0.0009,1.5,0.25,12,0.31,0.5
60,0.0008,nan,0.125,12,,
"""


def _is_a_drawing(path) -> bool:
    with Image.open(path) as picture:
        return min(picture.size) > 100 and len(picture.convert("RGB").getcolors(1 << 20)) > 20


def test_series_skip_empty_cells_and_values_that_are_not_finite(tmp_path):
    (tmp_path / "metrics.csv").write_text(CSV)
    series = _read_series(tmp_path / "metrics.csv")
    assert series["loss"] == [(20, 2.5), (40, 1.5)]
    assert series["PQ"] == [(40, 0.31)]
    assert _panels(series) == {
        "loss": ["loss", "loss_center"],
        "learning rate": ["learning_rate"],
        "validation (%)": ["PQ", "mIoU"],
    }


def test_curves_have_a_panel_a_kind(tmp_path):
    widths = []
    for name, text in {"three": CSV, "one": "step,loss\n1,2\n2,1\n"}.items():
        (tmp_path / "metrics.csv").write_text(text)
        draw_curves(tmp_path / "metrics.csv", tmp_path / f"{name}.png")
        assert _is_a_drawing(tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            widths.append(picture.width)
    assert abs(widths[0] - 3 * widths[1]) <= 3


def test_steps_are_whole_numbers(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\n3,2\n5,1\n")
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text("utf-8")  # which has each text as a comment
    assert "<!-- 4 -->" in text
    assert "3.25" not in text


def test_one_validation_is_drawn_as_bars(tmp_path, monkeypatch):
    drawn = []
    real = curves._draw_single
    monkeypatch.setattr(curves, "_draw_single", lambda *arguments: (drawn.append(arguments[1]), real(*arguments)))
    (tmp_path / "metrics.csv").write_text(CSV)
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert drawn == [["PQ", "mIoU"]]
    assert _is_a_drawing(tmp_path / "curves.png")
    (tmp_path / "metrics.csv").write_text(CSV + "80,0.0008,1,0.1,12,0.5,0.6\n")
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert len(drawn) == 1


def test_names_in_other_scripts_are_no_boxes(tmp_path):
    pictures = set()
    for name in ("дорога", "дорогу"):
        draw_per_class([(name, 0.5)], tmp_path / "bars.png")
        pictures.add((tmp_path / "bars.png").read_bytes())
    assert len(pictures) == 2


def test_curves_of_a_run_that_has_just_started(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss,PQ\n")
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()


def test_files_without_steps_are_errors(tmp_path):
    with pytest.raises(DatasetError, match=r"metrics\.csv cannot be read"):
        draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    for content in (b"\x89PNG\r\n\x1a\n\xff", b'step,"' + b"1" * 200_000):
        (tmp_path / "metrics.csv").write_bytes(content)
        with pytest.raises(DatasetError, match=r"metrics\.csv is (no text|damaged)"):
            draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(DatasetError, match="no column `step`"):
        draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")


def test_per_class_bars_grow_with_the_classes_and_leave_none_out(tmp_path):
    values = [(f"class {i}", i / 10) for i in range(10)]
    heights = []
    for name, rows in {"few": values[:3], "absent": [*values[:3], ("absent", None)], "many": values}.items():
        draw_per_class(rows, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            heights.append(picture.height)
    assert heights[0] == heights[1] < heights[2]
    assert _is_a_drawing(tmp_path / "many.png")


def test_per_class_bars_without_a_class(tmp_path):
    draw_per_class([], tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


ODD_NAMES = ["汽车", "$\\foo$ a", "$x$ and $y$", "a\ud800b", "_x", "a\nb", "\\$x$", "\x1b[2J", "", "100 $ or 200 $"]


def test_names_are_text_and_no_formula(tmp_path):
    draw_per_class([(name, 0.5) for name in ODD_NAMES], tmp_path / "a.png")
    draw_label_statistics(dict.fromkeys(ODD_NAMES, 2), dict.fromkeys(ODD_NAMES, 9), tmp_path / "b.png", title="$\\foo$")
    (tmp_path / "metrics.csv").write_text("step,loss $\\foo$\n1,2\n2,1\n")
    draw_curves(tmp_path / "metrics.csv", tmp_path / "c.png")
    for name in "abc":
        assert _is_a_drawing(tmp_path / f"{name}.png")
    assert _label("$x$") == r"\$x\$"


def test_classes_of_one_name_have_a_bar_each(tmp_path):
    heights = []
    for names in (["a", "b"], ["a", "a"]):
        draw_per_class([(name, 0.5) for name in names], tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as picture:
            heights.append((np.asarray(picture.convert("RGB")) == (0x33, 0x66, 0xAA)).all(-1).sum())
    assert abs(int(heights[0]) - int(heights[1])) < 0.05 * heights[0]


def test_a_damaged_table_and_a_full_disk_are_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "metrics.csv").write_bytes(b"step,loss\n1,\xff\n")
    with pytest.raises(DatasetError, match="no text in UTF-8"):
        draw_curves(tmp_path / "metrics.csv", tmp_path / "a.png")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OutputError, match=r"a\.png cannot be written: No space left"):
        draw_per_class([("a", 0.5)], tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_label_statistics(tmp_path):
    draw_label_statistics({"car": 3, "road": 1, "bus": 0}, {"car": 100, "road": 900, "bus": 0}, tmp_path / "a.png")
    assert _is_a_drawing(tmp_path / "a.png")
