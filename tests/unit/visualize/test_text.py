"""Text in several scripts."""

import logging
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from panoptic_deeplab.visualize import text as texts
from panoptic_deeplab.visualize.text import Text, font_files

matplotlib = pytest.importorskip("matplotlib")  # brings DejaVu Sans, on every system


def _pixels(words: str, size: int = 20) -> np.ndarray:
    text = Text(words, size)
    picture = Image.new("L", (text.width + 4, text.height + 4))
    text.draw(ImageDraw.Draw(picture.convert("RGB")), 0, 0, (0, 0, 0))
    canvas = picture.convert("RGB")
    text.draw(ImageDraw.Draw(canvas), 2, 2, (255, 255, 255))
    return np.asarray(canvas)[..., 0]


def test_text_fills_its_size():
    pixels = _pixels("Ag")
    text = Text("Ag", 20)
    rows, columns = np.nonzero(pixels)
    assert rows.min() >= 2
    assert rows.max() < 2 + text.height
    assert columns.max() <= 2 + text.width
    assert columns.max() > text.width / 2


@pytest.mark.parametrize("words", ["Straße", "äöü", "дорога", "δρόμος", "Ąćż"])
def test_letters_of_other_scripts_are_no_boxes(words):
    glyphs = {_pixels(letter).tobytes() for letter in set(words)}
    assert len(glyphs) == len(set(words)), "each letter looks different"


def test_scripts_may_be_mixed():
    assert Text("road дорога", 20).width > Text("road", 20).width + Text("дорога", 20).width


def test_a_font_of_the_system_is_found(tmp_path, monkeypatch):
    """A font that a user has put into the home folder, among files that are none."""
    fonts = tmp_path / ".fonts" / "deep"
    fonts.mkdir(parents=True)
    dejavu = matplotlib.get_data_path() + "/fonts/ttf/DejaVuSans.ttf"
    shutil.copy(dejavu, fonts / "Mine.ttf")
    (fonts / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(texts.Path, "home", lambda: tmp_path)
    monkeypatch.setattr(texts.sys, "platform", "linux")
    found = texts._system_fonts.__wrapped__()
    assert fonts / "Mine.ttf" in found
    assert fonts / "broken.ttf" not in found


def test_what_no_font_has_is_said_once_for_each_script(monkeypatch, caplog):
    monkeypatch.setattr(texts, "_system_fonts", list)
    monkeypatch.setattr(texts, "_SAID", set())
    texts._file_with.cache_clear()
    with caplog.at_level(logging.WARNING):
        for words in ("道路", "道", "汽车", "सड़क"):
            assert Text(words, 20).width > 0
    texts._file_with.cache_clear()
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "No font of this system has CJK characters such as 路 (U+8DEF)",
        "No font of this system has DEVANAGARI characters such as क (U+0915)",
    ]


def test_fonts_for_charts_are_those_that_pillows_font_needs():
    assert font_files("road 0.5") == []
    assert len(font_files("дорога")) == 1


def test_control_characters_are_shown():
    assert Text("a\nb", 20).height == Text("ab", 20).height


def test_words_of_a_small_label_do_not_run_together():
    font = ImageFont.load_default(size=10)
    assert Text("nucleus 0.30", 10).width - font.getlength("nucleus") - font.getlength("0.30") >= 4


def test_no_text_has_no_width():
    assert Text("", 20).width <= 1
