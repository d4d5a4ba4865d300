"""How a result shows itself in a notebook: its picture, drawn by `visualize` through the face, and its segments."""

import base64
from html import escape
from typing import TYPE_CHECKING

import numpy as np

import panoptic_deeplab
from panoptic_deeplab.errors import visible
from panoptic_deeplab.images.write import encoded

if TYPE_CHECKING:
    from panoptic_deeplab.results.panoptic_result import PanopticResult

_WIDEST, _MOST_ROWS = 640, 30


def result_html(result: "PanopticResult") -> str:
    """Picture and table, the largest segments first; all text is escaped."""
    height, width = result.size
    segments = sorted(result.segments_info, key=lambda segment: -segment.area)
    rows = "".join(
        f"<tr><td>{s.id}</td><td>{escape(visible(s.name))}</td><td>{'thing' if s.isthing else 'stuff'}</td>"
        f"<td>{'' if s.score is None else f'{s.score:.2f}'}</td><td>{s.area}</td></tr>"
        for s in segments[:_MOST_ROWS]
    )
    beyond = len(segments) - _MOST_ROWS
    more = f"<p>and {beyond} smaller ones</p>" if beyond > 0 else ""
    head = "".join(f"<th>{name}</th>" for name in ("id", "name", "kind", "score", "area (pixels)"))
    return (
        f"<div><p>{len(segments)} segments, {height} x {width} pixels (height x width)</p>{_picture(result)}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}</div>"
    )


def _picture(result: "PanopticResult") -> str:
    height, width = result.size
    if not height or not width:
        return ""
    share = min(1, _WIDEST / max(height, width))
    small = result.resized((max(1, round(share * height)), max(1, round(share * width))))
    drawn = panoptic_deeplab.draw_panoptic(np.full((*small.size, 3), 96, np.uint8), small, alpha=1.0, min_width=320)
    return f'<img alt="segments" src="data:image/png;base64,{base64.b64encode(encoded(drawn)).decode("ascii")}">'
