"""One self-contained HTML page about a model: numbers, curves and pictures, without any external file.

Fill a `Report` and call `write_report`. Every text is escaped (`_text`), so names and paths may contain anything.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from panoptic_deeplab.errors import visible
from panoptic_deeplab.files import write_text
from panoptic_deeplab.images.read import ImageLike, read_image
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
    """Of a group."""


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
    sections = [
        _header(report),
        _section("Results", _groups(report) + _scores(report)),
        _section("Curves", "".join(_figure(_uri_of(f.picture), f.title, f.caption) for f in report.figures)),
        *(_section(image.title, _panels(image), grid=True) for image in report.images),
        _section("Each class", _classes(report)),
        _footer(report),
    ]
    # Not by replacing marks one after the other: a title may look like a mark.
    start, rest = _PAGE.split("{{title}}")
    style, end = rest.split("{{body}}")
    path = Path(path)
    write_text(path, "".join([start, _text(report.title), style, *(s for s in sections if s), end]))
    return path


def _text(text: str) -> str:
    """Neither markup nor control codes, which HTML forbids."""
    return escape(visible(text, keep="\n"))


def _header(report: Report) -> str:
    summary = f'<p class="summary">{_text(report.summary)}</p>' if report.summary else ""
    return f"<header><h1>{_text(report.title)}</h1>{summary}{_definitions(report.facts)}</header>"


def _footer(report: Report) -> str:
    return f"<footer>{_definitions(report.environment)}</footer>" if report.environment else ""


def _definitions(pairs: Mapping[str, str]) -> str:
    if not pairs:
        return ""
    rows = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in pairs.items())
    return f"<dl>{rows}</dl>"


def _section(title: str, content: str, *, grid: bool = False) -> str:
    if not content:
        return ""
    inner = f'<div class="grid">{content}</div>' if grid else content
    return f"<section><h2>{_text(title)}</h2>{inner}</section>"


def _groups(report: Report) -> str:
    if not report.groups:
        return ""
    rows = [
        (row.name, _percent(row.pq), _percent(row.sq), _percent(row.rq), str(row.num_classes or "–"))
        for row in report.groups
    ]
    return _table(("", "PQ", "SQ", "RQ", "classes"), rows)


def _scores(report: Report) -> str:
    if not report.scores:
        return ""
    return _table(("metric", "%"), [(name, _percent(value)) for name, value in report.scores.items()])


def _classes(report: Report) -> str:
    if not report.classes:
        return ""
    rows = [(row.name, _percent(row.pq), _percent(row.sq), _percent(row.rq)) for row in report.classes]
    return _table(("class", "PQ", "SQ", "RQ"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{_text(row[0])}</th>{"".join(f"<td>{_text(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _panels(row: ReportImage) -> str:
    """The pictures of one image, each with a caption that explains it."""
    image = Image.fromarray(read_image(row.image))
    panels = [(_jpeg(image), "Image", "What the network sees.")]
    if row.truth is not None:
        truth = draw_panoptic(image, row.truth, min_width=_PANEL_WIDTH)
        panels.append((_jpeg(truth), "Truth", "The label. Void stays unpainted."))
    caption = "A color for each thing, the class color for stuff; names with scores."
    panels.append((_jpeg(draw_panoptic(image, row.prediction, min_width=_PANEL_WIDTH)), "Prediction", caption))
    if row.prediction.semantic_map is not None:
        caption = "The most likely class of each pixel, before it is merged with the instances."
        picture = draw_semantic(row.prediction.semantic_map, row.prediction.categories)
        panels.append((_png(picture), "Semantic segmentation", caption))
    if row.center_heatmap is not None:
        caption = "Bright spots are centers of mass of things, as the network finds them."
        panels.append((_jpeg(draw_heatmap(image, row.center_heatmap)), "Center heatmap", caption))
    if row.offset is not None:
        caption = (
            "The way from each thing pixel to its center: hue is the direction, saturation the distance."
            " Pixels that point to one center form one instance."
        )
        panels.append((_png(draw_offset(row.offset, mask=thing_pixels(row.prediction))), "Offsets", caption))
    return "".join(_figure(uri, title, text) for uri, title, text in panels)


def _figure(uri: str, title: str, caption: str) -> str:
    text = f"<strong>{_text(title)}</strong> {_text(caption)}"
    return f'<figure><img src="{uri}" alt="{_text(title)}" loading="lazy"><figcaption>{text}</figcaption></figure>'


def _uri_of(picture: Path | Image.Image) -> str:
    return _png(Image.fromarray(read_image(picture)) if isinstance(picture, Path) else picture)


def _jpeg(picture: Image.Image) -> str:
    """Photographs: small."""
    return _uri(picture, "jpeg", quality=88)


def _png(picture: Image.Image) -> str:
    """Plots and flat maps: sharp."""
    return _uri(picture, "png", optimize=True)


def _uri(picture: Image.Image, form: str, **options: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
<style>
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5c636b; --page: #fbfbfa; --card: #fff; --line: #dcdfe3; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e9ea; --soft: #a2a9b0; --page: #16181a; --card: #1f2225; --line: #363b40; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem 3rem; max-width: 84rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .5rem; font-size: 1.8rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.2rem 0 .8rem; font-size: 1.2rem; overflow-wrap: anywhere; }
.summary { max-width: 48rem; margin: 0 0 1rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .6rem 1.5rem; margin: 0; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem; border-bottom: 1px solid var(--line); text-align: right; font-weight: 400; }
th:first-child { padding-left: 0; text-align: left; }
thead th { color: var(--soft); font-size: .85rem; }
tbody td:nth-child(2) { font-weight: 600; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0 0 1rem; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  overflow: hidden; }
figure img { display: block; width: 100%; height: auto; }
figcaption { padding: .5rem .8rem .7rem; font-size: .85rem; color: var(--soft); }
figcaption strong { color: var(--text); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .85rem; }
</style>
</head>
<body>
{{body}}
</body>
</html>
"""
