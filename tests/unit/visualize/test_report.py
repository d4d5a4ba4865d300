"""The page is one valid file, and nothing in it can act as markup."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.errors import visible
from panoptic_deeplab.visualize.report import (
    Confusion,
    ImageRow,
    QualityRow,
    Report,
    ReportFigure,
    ReportImage,
    write_report,
)

_VOID_TAGS = {"meta", "img", "br", "link"}


class _Page(HTMLParser):
    """Checks that tags nest, and collects what the page shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open_tags == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in _VOID_TAGS:
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        if self.open_tags and self.open_tags[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def _write(tmp_path, report: Report) -> _Page:
    path = write_report(tmp_path / "report.html", report)
    return _Page(path.read_text("utf-8"))


def test_full_page(tmp_path, image, scene):
    Image.new("RGB", (30, 20)).save(tmp_path / "curves.png")
    heatmap, offset = np.zeros((120, 160), np.float32), np.ones((2, 120, 160), np.float32)
    page = _write(
        tmp_path,
        Report(
            title="Tour",
            summary="What happened.",
            facts={"steps": "200"},
            groups=[QualityRow(name="Things", pq=0.4123, sq=0.8, rq=0.5, num_classes=2)],
            scores={"mIoU": 0.555, "AP": None},
            classes=[QualityRow(name="car", pq=None, sq=None, rq=0.0)],
            figures=[ReportFigure(title="Curves", picture=tmp_path / "curves.png", caption="Falling.")],
            images=[
                ReportImage(
                    title="street.jpg", image=image, prediction=scene, truth=scene, center_heatmap=heatmap,
                    offset=offset,
                ),
                ReportImage(title="unlabeled.jpg", image=image, prediction=scene),
            ],
            environment={"torch": "2.14.1"},
        ),
    )  # fmt: skip
    for words in ("Tour", "What happened.", "steps", "41.2", "55.5", "street.jpg", "Offsets", "2.14.1", "Falling."):
        assert words in page.text
    assert page.text.count("–") == 3
    assert page.tags.count("figure") == 1 + 7 + 3
    for source in page.sources:
        header, _, data = source.partition(",")
        assert header in ("data:image/png;base64", "data:image/jpeg;base64")
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            picture.load()
    assert len(page.sources) == page.tags.count("img") == 12  # the wheel too
    widths = [Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))).width for s in page.sources[1:4]]
    assert widths == [160, 640, 640]  # image; truth and prediction with names


def test_errors_are_marked_and_every_image_is_listed(tmp_path, image, scene):
    class_names, pixels = ["road", "car", "<person>"], [[90, 10, 0, 0], [0, 5, 0, 5], [0, 0, 0, 0]]
    rows = [
        ImageRow(name="a<b", pq=0.25, matched=1, missed=2, false=3, is_shown=True),
        ImageRow(name="good", pq=None, matched=0, missed=0, false=0, is_shown=False),
    ]
    page = _write(
        tmp_path,
        Report(
            title="Errors",
            legend=[("road", (128, 64, 128))],
            confusion=Confusion(names=class_names, pixels=pixels),
            rows=rows,
            images=[ReportImage(title="a<b", image=image, prediction=scene, truth=scene, missed=[3], false=[90])],
        ),
    )
    assert page.tags.count("a") == 1
    assert "#image-1" in page.sources
    assert "25.0" in page.text
    for words in ("wrong instance", "left void", "matched", "90", "50"):
        assert words in page.text
    text = (tmp_path / "report.html").read_text()
    assert "rgb(128, 64, 128)" in text
    assert "10.0 % of road taken for car" in text
    assert 'color: white">90<' in text  # on dark blue
    assert '%)">10<' in text
    pictures = [Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))) for s in page.sources if "," in s]
    truth, prediction = (np.asarray(picture).astype(int) for picture in pictures[1:3])
    for pixels_, color, (y, x) in ((truth, (255, 0, 0), (170, 60)), (prediction, (255, 140, 0), (170, 420))):
        near = np.abs(pixels_[y - 15 : y + 15, x - 30 : x + 30] - color).max(-1)
        assert near.min() < 40


def test_page_loads_nothing(tmp_path):
    path = write_report(tmp_path / "a.html", Report(title="a"))
    text = path.read_text("utf-8")
    assert "http" not in text
    assert "url(" not in text
    assert "<script" not in text


def test_empty_parts_are_left_out(tmp_path):
    page = _write(tmp_path, Report(title="only a title"))
    assert "h2" not in page.tags
    assert "footer" not in page.tags


@pytest.mark.parametrize("odd", ["a\x1b[2J", "\ud800", "\0", "\u202egnp.exe", "汽车 straße"])
def test_control_codes_and_surrogates_are_shown(tmp_path, image, scene, odd):
    page = _write(tmp_path, Report(title=odd, images=[ReportImage(title=odd, image=image, prediction=scene)]))
    assert page.words.count(visible(odd)) == 3
    assert odd.isprintable() or odd not in page.text


@pytest.mark.parametrize("bad", ['<script>alert("1")</script>', "</title><b>", '"><img src=x onerror=y>', "{{body}}"])
def test_text_is_never_markup(tmp_path, image, scene, bad):
    row = QualityRow(name=bad, pq=0.0, sq=0.0, rq=0.0)
    page = _write(
        tmp_path,
        Report(
            title=bad,
            summary=bad,
            facts={bad: bad},
            groups=[row],
            classes=[row],
            scores={bad: 0.5},
            figures=[ReportFigure(title=bad, picture=Image.new("RGB", (2, 2)), caption=bad)],
            images=[ReportImage(title=bad, image=image, prediction=scene)],
            environment={bad: bad},
        ),
    )
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.tags.count("img") == 1 + 3
    assert page.text.count(bad) >= 10
