"""`visible(text)`: text that data bring - names of files and classes - as it may be shown to a person.

A name can hold what a terminal obeys (escape sequences, C1 codes), what turns the order of letters around, and what
no encoding has. All of that is shown as Python writes it, `\\x1b`; letters of every language stay.
"""

import re

_HIDDEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control codes: escape sequences begin with one
    "\u2028\u2029"  # line and paragraph separators
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # order of letters
    "\ud800-\udfff"  # surrogates: bytes of a file name that are not UTF-8
    "]"
)


def visible(text: str, *, keep: str = "") -> str:
    r"""Show what a terminal would obey or could not show as escapes.

    Args:
        text: anything.
        keep: characters to leave as they are, `"\n"` where the text has lines of our own.

    >>> visible("street\x1b[2J\n.png")
    'street\\x1b[2J\\n.png'
    """
    return _HIDDEN.sub(lambda hit: hit[0] if hit[0] in keep else hit[0].encode("unicode_escape").decode("ascii"), text)
