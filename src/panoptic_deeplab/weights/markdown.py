"""Text from data (names of classes, of splits, of models) as text in Markdown: never as markup, HTML or a link."""

import re
from html import escape

_MARKUP = re.compile(r"([\\`*{}\[\]!|~$@:#]|(?<!\w)_|_(?!\w)|(?<=www)\.)", re.IGNORECASE)
"""Punctuation that means something to some reader of Markdown. Bare addresses would become links."""


def one_line(text: str) -> str:
    """The text without line breaks and other characters that show nothing, which become spaces."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def escaped(text: str) -> str:
    r"""Text for a running line.

    >>> escaped("<b>road</b>\n# `x`")
    '&lt;b&gt;road&lt;/b&gt; \\# \\`x\\`'
    """
    return escape(_MARKUP.sub(r"\\\1", one_line(text)), quote=False)


def code_span(text: str) -> str:
    """Code for a running line, as it is: between more backticks than it has in a row.

    >>> code_span("val"), code_span("a``b")
    ('`val`', '``` a``b ```')
    """
    line, backticks = one_line(text), "`" * (_longest_run(text) + 1)
    return f"{backticks} {line} {backticks}" if len(backticks) > 1 else f"`{line}`"


def fenced(text: str, language: str = "") -> str:
    """The text as a block of code, whose end is not in it."""
    fence = "`" * max(3, _longest_run(text) + 1)
    lines = ("".join(letter if letter.isprintable() else " " for letter in line) for line in text.strip().split("\n"))
    return "\n".join((f"{fence}{language}", *lines, fence))


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
