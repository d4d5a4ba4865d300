"""What a terminal obeys is shown; what people write stays."""

import unicodedata

import pytest

from panoptic_deeplab.errors import visible


@pytest.mark.parametrize("text", ["street.png", "Straße", "汽车", "שָׁלוֹם", "👩‍🚀", "C:\\new", "[red] $x$ 100 %"])
def test_names_of_every_language_stay(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb\r\tc\0\x7f", "a\\nb\\r\\tc\\x00\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066a\u2069\u200f\u061c", "\\u2066a\\u2069\\u200f\\u061c"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("stra\udcdfe", "stra\\udcdfe"),
    ],
)
def test_what_steers_a_terminal_becomes_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


def test_no_control_character_and_no_surrogate_passes() -> None:
    everything = "".join(map(chr, range(0x110000)))
    left = {unicodedata.category(letter) for letter in visible(everything)}
    assert not left & {"Cc", "Cs", "Zl", "Zp"}
    left_over = {unicodedata.bidirectional(letter) for letter in visible(everything)}
    assert not left_over & {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def test_lines_of_our_own_can_be_kept() -> None:
    assert visible("a\nb\x1b", keep="\n") == "a\nb\\x1b"
