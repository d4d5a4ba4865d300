"""Plots of a run: its course over the steps, PQ of each class, and how often each class is labeled."""

import csv
import io
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from panoptic_deeplab.errors import DatasetError, require, visible
from panoptic_deeplab.files import read_text, written_whole
from panoptic_deeplab.visualize.text import font_files

_BLUE, _ORANGE = "#3366aa", "#cc7722"


def draw_curves(metrics_csv: str | Path, path: str | Path) -> None:
    """Loss terms, learning rate and validation metrics over the steps.

    Args:
        metrics_csv: a header with `step` and any other columns, one row a logged step; empty cells are skipped.
            Columns with `loss` in their name share a panel with a logarithmic axis, those with `learning_rate` a second
            one, those with `PQ`, `SQ`, `RQ`, `mIoU` or `AP` a third one, in percent. Other columns are not drawn.
        path: PNG, SVG or PDF file to write.

    Raises:
        DatasetError: the file is missing, no table, or has no column `step`.
        MissingDependencyError: matplotlib is not installed.
        OutputError: the picture cannot be written.
    """
    series = _read_series(Path(metrics_csv))
    panels = [(title, names) for title, names in _panels(series).items() if names]
    with _figure(path, series, width=5.2 * max(len(panels), 1), height=3.8) as figure:
        for position, (title, names) in enumerate(panels, start=1):
            axes = figure.add_subplot(1, len(panels), position)
            percent = title == "validation (%)"
            if percent and all(len(series[name]) == 1 for name in names):
                _draw_single(axes, names, series)
                continue
            for name in names:
                steps, values = zip(*series[name], strict=True)
                values = tuple(100 * v for v in values) if percent else values
                axes.plot(
                    steps,
                    values,
                    label=_label(name),
                    linewidth=1.3,
                    marker="o" if len(steps) < 40 else None,
                    markersize=3,
                )
            if title == "loss" and all(v > 0 for name in names for _, v in series[name]):
                axes.set_yscale("log")
            axes.set_title(title)
            axes.set_xlabel("step")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)


def _draw_single(axes: Any, names: Sequence[str], series: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Bars in the place of curves that would be one point each, above each other."""
    values = [100 * series[name][0][1] for name in names]
    bars = axes.barh(range(len(names)), values, color=_BLUE)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [_label(name) for name in names])
    axes.invert_yaxis()
    axes.set_title(f"validation at step {series[names[0]][0][0]:.0f}")
    _finish_bars(axes, "%")
    axes.set_xlim(0, 108)


def draw_per_class(values: Sequence[tuple[str, float | None]], path: str | Path, *, metric: str = "PQ") -> None:
    """A bar for each class, the best on top.

    Args:
        values: name and value in [0, 1]; None (a class that does not occur) is left out.
        path: PNG, SVG or PDF file to write.
        metric: what the values are.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the picture cannot be written.
    """
    known = sorted(((name, 100 * value) for name, value in values if value is not None), key=lambda row: row[1])
    with _figure(path, (name for name, _ in known), width=6.4, height=1.2 + 0.24 * len(known)) as figure:
        axes = figure.add_subplot()
        bars = axes.barh(range(len(known)), [value for _, value in known], color=_BLUE)
        axes.set_yticks(range(len(known)), [_label(name) for name, _ in known])
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        _finish_bars(axes, f"{metric} of each class (%)")
        axes.set_xlim(0, 108)


def draw_label_statistics(
    segments: Mapping[str, int], pixels: Mapping[str, int], path: str | Path, *, title: str = "Labels"
) -> None:
    """How often each class is labeled: segments, and share of the pixels.

    Args:
        segments: number of segments of each class, by name.
        pixels: number of pixels of the same classes.
        path: PNG, SVG or PDF file to write.
        title: heading of the page.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the picture cannot be written.
    """
    names = sorted(segments, key=lambda name: segments[name])
    total = max(sum(pixels.values()), 1)
    with _figure(path, [title, *names], width=10.0, height=1.6 + 0.24 * len(names)) as figure:
        figure.suptitle(_label(title))
        left, right = figure.subplots(1, 2, sharey=True)
        bars = left.barh(range(len(names)), [segments[name] for name in names], color=_BLUE)
        left.bar_label(bars, padding=3, fontsize=8)
        _finish_bars(left, "segments")
        left.set_yticks(range(len(names)), [_label(name) for name in names])
        bars = right.barh(range(len(names)), [100 * pixels[name] / total for name in names], color=_ORANGE)
        right.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        _finish_bars(right, "pixels (% of labeled)")
        for axes in (left, right):
            axes.margins(x=0.15)


@contextmanager
def _figure(path: str | Path, names: Iterable[str], *, width: float, height: float) -> Iterator[Any]:
    """A figure that is saved at the end; `names` are what data bring to it, in any script.

    It is made without pyplot, whose global state and windows do not belong into a library.
    """
    module = require("matplotlib.figure", extra="train", purpose="Drawing curves")
    matplotlib = require("matplotlib", extra="train", purpose="Drawing curves")
    fonts = require("matplotlib.font_manager", extra="train", purpose="Drawing curves")
    families = ["DejaVu Sans"]
    for file in font_files(_label("".join(names))):
        fonts.fontManager.addfont(file)
        families.append(fonts.FontProperties(fname=file).get_name())
    with matplotlib.rc_context({"font.family": families}):
        figure = module.Figure(figsize=(width, height), layout="constrained")
        yield figure
        with written_whole(path) as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # `font_files` has said so
            figure.savefig(temporary, dpi=110)


def _label(name: str) -> str:
    """A name as text: matplotlib would set what stands between two dollars as a formula, or fail on it."""
    return visible(name).replace("$", r"\$")


def _finish_bars(axes: Any, label: str) -> None:
    axes.set_xlabel(label)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.01)


def _panels(series: Mapping[str, Any]) -> dict[str, list[str]]:
    panels: dict[str, list[str]] = {"loss": [], "learning rate": [], "validation (%)": []}
    for name in series:
        if "loss" in name:
            panels["loss"].append(name)
        elif "learning_rate" in name:
            panels["learning rate"].append(name)
        elif any(metric in name for metric in ("PQ", "SQ", "RQ", "mIoU", "AP")):
            panels["validation (%)"].append(name)
    return panels


def _read_series(path: Path) -> dict[str, list[tuple[float, float]]]:
    """(step, value) pairs of each column with a finite value."""
    text = read_text(path, what="table of metrics", error=DatasetError)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows, columns = list(reader), reader.fieldnames or []
    except csv.Error as error:
        raise DatasetError(f"The table of metrics {path} is damaged: {error}.") from error
    if "step" not in columns:
        raise DatasetError(f"{path} has no column `step`, only {list(columns)}. Expected the metrics.csv of a run.")
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name in columns:
            if name == "step":
                continue
            try:
                step, value = float(row["step"]), float(row[name])
            except (TypeError, ValueError):  # an empty cell: this row does not report this value
                continue
            if math.isfinite(value):
                series.setdefault(name, []).append((step, value))
    return series
