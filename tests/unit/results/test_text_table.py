"""Aligned plain text."""

from panoptic_deeplab.results.text_table import text_table


def test_columns_are_aligned_and_lines_end_without_blanks():
    rows = [["", "PQ", "note"], ["road", "1.5", ""], ["a", "100.25", "x"]]
    assert text_table(rows, left=(0, 2)) == "          PQ  note\nroad     1.5\na     100.25  x"


def test_columns_on_the_right_have_a_least_width():
    assert text_table([["a", "1"]], min_width=6) == "a       1"


def test_a_cell_of_several_lines_breaks_its_row():
    assert text_table([["GPUs", "first\nsecond"], ["x", "y"]], left=(0, 1)) == "GPUs  first\n      second\nx     y"


def test_wide_characters_take_two_columns():
    assert text_table([["\u6c7d\u8f66", "1"], ["cars", "22"]]) == "\u6c7d\u8f66   1\ncars  22"


def test_nothing():
    assert text_table([]) == ""
