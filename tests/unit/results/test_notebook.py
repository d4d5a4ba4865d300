import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.results.panoptic_result import PanopticResult

CATEGORIES = CategoryTable(
    name="test", categories=(Category(id=1, name="<b>cell</b>\x1b & co", isthing=True, color=(200, 0, 0)),)
)


def _picture(html):
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_notebook_shows_picture_and_table():
    panoptic_map = np.zeros((300, 900), np.int32)
    panoptic_map[:, :450] = 1
    result = PanopticResult.from_maps(panoptic_map, {1: 1}, CATEGORIES, scores={1: 0.5})
    html = result._repr_html_()
    pixels = _picture(html)
    assert pixels.shape == (213, 640, 3)
    assert (pixels[:, 600] == 96).all()
    assert (pixels[10:-10, 50:150] == (200, 0, 0)).all()
    assert "<b>" not in html
    assert "\x1b" not in html
    assert "&lt;b&gt;cell&lt;/b&gt;\\x1b &amp; co" in html
    assert "<td>135000</td>" in html


def test_long_tables_end_and_say_so():
    panoptic_map = np.arange(1, 101, dtype=np.int32).reshape(10, 10)
    result = PanopticResult.from_maps(panoptic_map, dict.fromkeys(range(1, 101), 1), CATEGORIES)
    rows = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: rows.append(tag) if tag == "tr" else None
    parser.feed(result._repr_html_())
    assert len(rows) == 31
    assert "and 70 smaller ones" in result._repr_html_()


def test_a_result_without_pixels_is_a_table():
    empty = PanopticResult(panoptic_map=np.zeros((0, 4), np.int32), segments_info=[], categories=CATEGORIES)
    assert "0 segments" in empty._repr_html_()
