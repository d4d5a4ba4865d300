"""Text in pictures, in every script for which this system has a font.

Pillow brings a font with Latin letters. What it lacks is looked for in the fonts of the system, one character after the
other, so a name may mix scripts. What no font has is drawn as a box, and said once for each script in the log.
"""

import logging
import os
import sys
import unicodedata
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageDraw, ImageFont

from panoptic_deeplab.errors import visible
from panoptic_deeplab.visualize.colors import Color

_LOGGER = logging.getLogger(__name__)

_LIKED = ("DejaVuSans.", "NotoSans-Regular.", "LiberationSans-Regular.", "Arial.")
"""Beginnings of names that come first; among the others, upright sans-serif ones do."""
_UNLIKED = ("bold", "italic", "oblique", "light", "thin", "black", "condensed", "narrow", "mono", "serif-", "math")

_ABSENT = "\U0010ffff"
"""No font has a glyph for it."""

_SAID: set[str] = set()
"""Scripts that the log has named: one line for each, whatever the number of its letters."""

Font = ImageFont.FreeTypeFont


class Text:
    """One line of text of a size, ready to be drawn.

    Args:
        text: a name that data bring may be part of it; control characters become visible.
        size: height of the font in pixels.
    """

    def __init__(self, text: str, size: int) -> None:
        # Two blanks between words: one of Pillow's font is hardly seen at the sizes of small pictures.
        self._runs = _runs(visible(text).replace(" ", "  "), size)
        metrics = [font.getmetrics() for font, _ in self._runs] or [_plain_font(size).getmetrics()]
        self._ascent = max(ascent for ascent, _ in metrics)
        self.width = round(sum(font.getlength(part) for font, part in self._runs) + 0.5)
        self.height = self._ascent + max(descent for _, descent in metrics)

    def draw(self, canvas: ImageDraw.ImageDraw, left: int, top: int, color: Color) -> None:
        """Draw it with its upper left corner at a place of the picture."""
        x = float(left)
        for font, part in self._runs:
            canvas.text((x, top + self._ascent), part, fill=color, font=font, anchor="ls")
            x += font.getlength(part)


def font_files(text: str) -> list[Path]:
    """Fonts of the system that have the characters which Pillow's own font lacks; the log says what no font has."""
    return [Path(path) for path in dict.fromkeys(font.path for font, _ in _runs(text, 16)) if isinstance(path, str)]


def _runs(text: str, size: int) -> list[tuple[Font, str]]:
    """Stretches of one font; a blank, and what is written on top of a letter, goes with what is before it."""
    runs: list[tuple[Path | None, str]] = []
    for character in text:
        last = runs[-1][0] if runs else None
        file = last if not _is_lacking(last, character) else _file_with(character)
        if runs and file == last:
            runs[-1] = (last, runs[-1][1] + character)
        else:
            runs.append((file, character))
    for character in sorted({c for file, part in runs for c in part if _is_lacking(file, c)}):
        _say_once(_script(character), character)
    return [(_opened(file, size), part) for file, part in runs]


def _say_once(script: str, character: str) -> None:
    if script in _SAID:
        return
    _SAID.add(script)
    _LOGGER.warning(
        "No font of this system has %s characters such as %s (U+%04X), so pictures show boxes in their place. Install"
        " one that does, such as a font of the Noto family.",
        script,
        character,
        ord(character),
    )


def _script(character: str) -> str:
    """The first word of a letter's name in Unicode, which is its script: CJK, DEVANAGARI."""
    is_letter = unicodedata.category(character).startswith(("L", "M"))
    return unicodedata.name(character, "unnamed").partition(" ")[0] if is_letter else "other"


@lru_cache(maxsize=10_000)
def _file_with(character: str) -> Path | None:
    """The first font that has a character; None for Pillow's own, which also stands for what no font has."""
    candidates: list[Path | None] = [None, *_system_fonts()]
    return next((file for file in candidates if not _is_lacking(file, character)), None)


@lru_cache(maxsize=50_000)
def _is_lacking(file: Path | None, character: str) -> bool:
    """Whether a font draws a character as it draws one that it cannot have."""
    if character.isspace():
        return False
    font = _opened(file, 16)
    glyph, absent = font.getmask(character), font.getmask(_ABSENT)
    return glyph.size == absent.size and bytes(glyph) == bytes(absent)


@lru_cache(maxsize=64)
def _opened(file: Path | None, size: int) -> Font:
    return _plain_font(size) if file is None else ImageFont.truetype(str(file), size)


@lru_cache(maxsize=64)
def _plain_font(size: int) -> Font:
    font = ImageFont.load_default(size)
    assert isinstance(font, Font)  # as always with a size
    return font


@lru_cache(maxsize=1)
def _system_fonts() -> list[Path]:
    """Outline fonts that can be opened, upright sans-serif ones first."""
    home = Path.home()
    folders = [home / ".fonts", home / ".local/share/fonts", Path("/usr/share/fonts"), Path("/usr/local/share/fonts")]
    if sys.platform == "darwin":
        folders = [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    elif sys.platform == "win32":
        folders = [
            Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts",
            home / "AppData/Local/Microsoft/Windows/Fonts",
        ]
    charts = find_spec("matplotlib")
    if charts is not None and charts.origin is not None:
        folders.append(Path(charts.origin).parent / "mpl-data" / "fonts" / "ttf")  # DejaVu Sans
    files = {
        file for folder in folders for file in folder.rglob("*") if file.suffix.lower() in (".ttf", ".otf", ".ttc")
    }
    return [file for file in sorted(files, key=_rank) if _has_letters(file)]


def _rank(file: Path) -> tuple[int, int, str]:
    liked = [file.name.startswith(beginning) for beginning in _LIKED]
    return (
        liked.index(True) if any(liked) else len(liked),
        sum(word in file.name.lower() for word in _UNLIKED),
        str(file),
    )


def _has_letters(file: Path) -> bool:
    """Whether it is a font that can be opened, and not one that draws frames for all that others lack."""
    try:
        ImageFont.truetype(str(file), 16)
    except (OSError, ValueError):
        return False
    return not file.name.startswith("LastResort")
