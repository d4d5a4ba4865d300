"""One self-contained HTML page about a model: numbers, curves and pictures, without any external file.

Fill a `Report` and call `write_report`. The page is `report.html`, a template
that escapes every text, so names and paths may contain anything.
"""

import base64
from collections.abc import Mapping, Sequence
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
from panoptic_deeplab.visualize.draw import draw_panoptic, draw_semantic
from panoptic_deeplab.visualize.maps import draw_heatmap, draw_offset, thing_pixels

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


def _environment() -> Environment:
    """No text becomes markup or a control code, which HTML forbids; what macros give is markup already."""
    return Environment(
        loader=PackageLoader("panoptic_deeplab", "visualize"),
        autoescape=True,
        finalize=lambda text: text if hasattr(text, "__html__") else visible(text, keep="\n"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shares(row: QualityRow) -> tuple[str, str, str, str]:
    return row.name, _percent(row.pq), _percent(row.sq), _percent(row.rq)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _panels(row: ReportImage) -> list[_Picture]:
    """The pictures of one image, each with a caption that explains it."""
    image = Image.fromarray(read_image(row.image))
    panels = [_Picture(_jpeg(image), "Image", "What the network sees.")]
    if row.truth is not None:
        truth = draw_panoptic(image, row.truth, min_width=_PANEL_WIDTH)
        panels.append(_Picture(_jpeg(truth), "Truth", "The label. Void stays unpainted."))
    caption = "A color for each thing, the class color for stuff; names with scores."
    panels.append(_Picture(_jpeg(draw_panoptic(image, row.prediction, min_width=_PANEL_WIDTH)), "Prediction", caption))
    if row.prediction.semantic_map is not None:
        caption = "The most likely class of each pixel, before it is merged with the instances."
        picture = draw_semantic(row.prediction.semantic_map, row.prediction.categories)
        panels.append(_Picture(_png(picture), "Semantic segmentation", caption))
    if row.center_heatmap is not None:
        caption = "Bright spots are centers of mass of things, as the network finds them."
        panels.append(_Picture(_jpeg(draw_heatmap(image, row.center_heatmap)), "Center heatmap", caption))
    if row.offset is not None:
        caption = (
            "The way from each thing pixel to its center: hue is the direction, saturation the distance."
            " Pixels that point to one center form one instance."
        )
        panels.append(_Picture(_png(draw_offset(row.offset, mask=thing_pixels(row.prediction))), "Offsets", caption))
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
