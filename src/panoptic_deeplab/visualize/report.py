"""One self-contained HTML page about a model: numbers, curves and pictures, without any external file.

Fill a `Report` and call `write_report`. The page is `report.html`, a template
that escapes every text, so names and paths may contain anything.
"""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from panoptic_deeplab.errors import visible
from panoptic_deeplab.files import write_text
from panoptic_deeplab.images.read import ImageLike, read_image
from panoptic_deeplab.images.write import encoded
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.visualize.colors import Color
from panoptic_deeplab.visualize.draw import draw_panoptic, draw_rims, draw_semantic
from panoptic_deeplab.visualize.maps import draw_heatmap, draw_offset, draw_offset_legend, thing_pixels
from panoptic_deeplab.visualize.mosaic import ERROR_COLORS, draw_errors

_MISSED, _FALSE = (255, 0, 0), (255, 140, 0)
"""Colors of rims."""

_PANEL_WIDTH = 640
"""Overlays are at least so wide, in pixels, or names would cover the things of small images."""


@dataclass(frozen=True, kw_only=True)
class QualityRow:
    """Panoptic quality of a class or group, each in [0, 1]; None where it does not occur."""

    name: str
    pq: float | None
    sq: float | None
    rq: float | None
    num_classes: int | None = None
    """Classes in a group."""


@dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """A plot or any other picture with a caption."""

    title: str
    picture: Path | Image.Image
    caption: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportImage:
    """One image with what the network says about it. All arrays have the size of the image."""

    title: str
    image: ImageLike
    prediction: PanopticResult
    truth: PanopticResult | None = None
    center_heatmap: Float[np.ndarray, "H W"] | None = None
    offset: Float[np.ndarray, "2 H W"] | None = None
    """`(dy, dx)` in pixels."""
    missed: Collection[int] = ()
    """Ids of true segments that get a red rim."""
    false: Collection[int] = ()
    """Ids of predicted segments that get an orange rim."""


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """A row of the table of all images."""

    name: str
    pq: float | None
    matched: int
    missed: int
    false: int
    is_shown: bool
    """Its picture is on the page, and the row leads to it."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Which class is taken for which."""

    names: Sequence[str]
    pixels: Sequence[Sequence[int]]
    """True class (row) by predicted class (column), whose last one is void."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything on the page; empty parts are left out."""

    title: str
    summary: str = ""
    """One paragraph below the title."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """About the run: data, model, steps, time."""
    groups: Sequence[QualityRow] = ()
    """All, Things, Stuff."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Other metrics in [0, 1], as mIoU and AP; None = not measured."""
    classes: Sequence[QualityRow] = ()
    legend: Sequence[tuple[str, Color]] = ()
    """Classes and their colors."""
    confusion: Confusion | None = None
    rows: Sequence[ImageRow] = ()
    """All images."""
    figures: Sequence[ReportFigure] = ()
    images: Sequence[ReportImage] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Versions and hardware, for the foot of the page."""


def write_report(path: str | Path, report: Report) -> Path:
    """Write the page.

    Args:
        path: HTML file to write; its folder must exist.
        report: what to show.

    Returns:
        The path.

    Raises:
        ImageError: a picture cannot be read.
        OutputError: the page cannot be written.
    """
    page = _environment().get_template("report.html")
    text = page.render(
        report=report,
        groups=[(*_shares(row), str(row.num_classes or "–")) for row in report.groups],
        scores=[(name, _percent(value)) for name, value in report.scores.items()],
        classes=[_shares(row) for row in report.classes],
        errors=[(name, _css(color)) for name, color in ERROR_COLORS.items()] if _has_truth(report) else [],
        legend=[(name, _css(color)) for name, color in report.legend],
        confusion=None if report.confusion is None else _confusion_rows(report.confusion),
        columns=[] if report.confusion is None else [*report.confusion.names, "void"],
        rows=[(row, _percent(row.pq)) for row in report.rows],
        figures=[_Picture(_uri_of(figure.picture), figure.title, figure.caption) for figure in report.figures],
        images=[(image.title, _panels(image)) for image in report.images],
    )
    path = Path(path)
    write_text(path, text)
    return path


class _Picture(NamedTuple):
    uri: str
    title: str
    caption: str
    key: str = ""
    """A small picture that says what the colors mean."""


def _environment() -> Environment:
    """No text becomes markup or a control code, which HTML forbids; what macros give is markup already."""
    return Environment(
        loader=PackageLoader("panoptic_deeplab", "visualize"),
        autoescape=True,
        finalize=lambda text: text if hasattr(text, "__html__") else visible(str(text), keep="\n"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shares(row: QualityRow) -> tuple[str, str, str, str]:
    return row.name, _percent(row.pq), _percent(row.sq), _percent(row.rq)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _has_truth(report: Report) -> bool:
    return any(image.truth is not None for image in report.images)


def _css(color: Color) -> str:
    return "rgb({}, {}, {})".format(*color)


def _confusion_rows(confusion: Confusion) -> list[tuple[str, list[tuple[str, int, str]]]]:
    """The classes that occur: name, and for each column text, percent and a sentence."""
    columns = [*confusion.names, "void"]
    rows = []
    for name, counts in zip(confusion.names, confusion.pixels, strict=True):
        total = sum(counts)
        shares = [100 * count / max(total, 1) for count in counts]
        cells = [
            (f"{share:.0f}" if share >= 0.5 else "", round(share), f"{share:.1f} % of {name} taken for {column}")
            for share, column in zip(shares, columns, strict=True)
        ]
        if total:
            rows.append((name, cells))
    return rows


def _panels(row: ReportImage) -> list[_Picture]:
    """The pictures of one image, each with a caption that explains it."""
    image = Image.fromarray(read_image(row.image))
    panels = [_Picture(_jpeg(image), "Image", "As people see it: numbers of more than 8 bits are spread.")]
    if row.truth is not None:
        truth = draw_panoptic(image, row.truth, min_width=_PANEL_WIDTH)
        draw_rims(truth, row.truth, row.missed, _MISSED)
        panels.append(_Picture(_jpeg(truth), "Truth", "The label. Void stays unpainted."))
    caption = "A color for each thing, the class color for stuff; names with scores."
    prediction = draw_panoptic(image, row.prediction, min_width=_PANEL_WIDTH)
    draw_rims(prediction, row.prediction, row.false, _FALSE)
    panels.append(_Picture(_jpeg(prediction), "Prediction", caption))
    if row.truth is not None:
        caption = "Where prediction and truth differ; the legend is above."
        panels.append(_Picture(_png(draw_errors(row.prediction, row.truth)), "Errors", caption))
    if row.prediction.semantic_map is not None:
        caption = "The most likely class of each pixel, before it is merged with the instances."
        picture = draw_semantic(row.prediction.semantic_map, row.prediction.categories)
        panels.append(_Picture(_png(picture), "Semantic segmentation", caption))
    if row.center_heatmap is not None:
        caption = "Bright spots are centers of mass of things, as the network finds them."
        panels.append(_Picture(_jpeg(draw_heatmap(image, row.center_heatmap)), "Center heatmap", caption))
    if row.offset is not None:
        caption = (
            "The way from each thing pixel to its center: hue is the direction, saturation the distance, as the wheel"
            " shows them around a center."
            " Pixels that point to one center form one instance."
        )
        picture = draw_offset(row.offset, mask=thing_pixels(row.prediction))
        panels.append(_Picture(_png(picture), "Offsets", caption, key=_png(draw_offset_legend(48))))
    return panels


def _uri_of(picture: Path | Image.Image) -> str:
    return _png(Image.fromarray(read_image(picture)) if isinstance(picture, Path) else picture)


def _jpeg(picture: Image.Image) -> str:
    """Photographs: small."""
    return _uri(picture, "jpeg", quality=88)


def _png(picture: Image.Image) -> str:
    """Plots and flat maps: sharp."""
    return _uri(picture, "png", optimize=True)


def _uri(picture: Image.Image, form: str, **options: int) -> str:
    return f"data:image/{form};base64,{base64.b64encode(encoded(picture, form, **options)).decode('ascii')}"
