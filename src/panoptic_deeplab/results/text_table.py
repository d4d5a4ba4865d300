"""`text_table(rows) -> str`: rows of cells as aligned plain text, the only printer of tables."""

from collections.abc import Container, Iterable, Sequence
from itertools import zip_longest
from unicodedata import east_asian_width


def text_table(rows: Iterable[Sequence[str]], *, left: Container[int] = (0,), min_width: int = 0) -> str:
    """Align the cells of each column.

    Args:
        rows: cells, equally many in each row. A newline breaks a cell into several lines, so names that come from
            data have to be `visible` before.
        left: numbers of the columns that are aligned to the left; the others are aligned to the right.
        min_width: least width of the columns on the right.

    Returns:
        The lines, without blanks or a newline at their ends; empty without rows.
    """
    lines = [line for row in rows for line in zip_longest(*(cell.split("\n") for cell in row), fillvalue="")]
    aligned = []
    for number, column in enumerate(zip(*lines, strict=True)):
        width = max(map(_width, column))
        if number in left:
            aligned.append([cell + " " * (width - _width(cell)) for cell in column])
        else:
            aligned.append([" " * (max(width, min_width) - _width(cell)) + cell for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))


def _width(text: str) -> int:
    """Columns of a terminal: Chinese, Japanese and Korean characters take two."""
    return len(text) + sum(east_asian_width(character) in "WF" for character in text)
