"""What README and docs point to exists, and nothing in them waits to be filled in."""

import re
import textwrap
from dataclasses import fields
from pathlib import Path
from urllib.parse import unquote

import pytest

import panoptic_deeplab
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import recipe_names

ROOT = Path(__file__).resolve().parents[1]
_MADE = tuple(f"docs/{place}" for place in ("_build/", "reference/api/", "reference/python-api", "reference/settings"))
_MADE += ("docs/reference/commands",)
"""What `make docs` writes."""
DOCUMENTS = [
    path
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    if not path.relative_to(ROOT).as_posix().startswith(_MADE)
]

_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|<(?:img|source|a)\b[^>]*?\b(?:src|srcset|href)=[\"']([^\"']+)")
_PLACEHOLDER = re.compile(r"^\s*[A-Z]{4,}\s*$|\bURL-OF\b|\b(?:TODO|FIXME|TBD|XXX)\b|<(?:fill|insert)", re.MULTILINE)

_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"([\w./]+\.(?:py|json|yaml))(?:::(\w+))?")
_SETTING = re.compile(r"([a-z_]+)\.(\w+)")
_RECIPE = re.compile(r"(?:cityscapes|coco\d*|mapillary|nuclei)_\w+")


def _without_code(text: str) -> str:
    """Without fenced blocks and `code`, which show other people's files."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def _anchors(text: str) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(
        r"^#+\s+(.+?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_documents_to_check() -> None:
    assert {"README.md", "CONTRIBUTING.md", "label-formats.md"} <= {path.name for path in DOCUMENTS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_and_images_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    broken = []
    for groups in _LINK.findall(_without_code(text)):
        target = unquote(groups[0] or groups[1])
        if re.match(r"[a-z]+:", target):  # elsewhere
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (anchor and anchor not in _anchors(file.read_text("utf-8"))):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_placeholder_is_left(document: Path) -> None:
    assert _PLACEHOLDER.findall(document.read_text("utf-8")) == []


def test_the_picture_is_the_same_in_readme_and_package() -> None:
    picture = re.search(
        r"How the parts fit together:\n\n(.*?)\n\nTwo contracts", panoptic_deeplab.__doc__ or "", re.DOTALL
    )
    assert picture is not None
    assert f"```\n{textwrap.dedent(picture[1])}\n```" in (ROOT / "README.md").read_text("utf-8")


def _exists(path: str, name: str) -> bool:
    """A file, seen from the package, the tests or the root, and a definition in it."""
    for folder in (ROOT / "src" / "panoptic_deeplab", ROOT / "tests", ROOT):
        if (folder / path).is_file():
            text = (folder / path).read_text("utf-8")
            return not name or re.search(rf"^(?:(?:def|class) {name}\b|{name}\s*[:=])", text, re.MULTILINE) is not None
    return False


def test_what_the_page_about_the_paper_names_exists() -> None:
    settings = {
        f"{section.name}.{field.name}"
        for section in fields(Config)
        for field in fields(getattr(Config(), section.name))
    }
    missing = []
    named = _CODE.findall((ROOT / "docs" / "explanation" / "the-paper-line-by-line.md").read_text("utf-8"))
    for code in named:
        if file := _FILE.fullmatch(code):
            is_there = _exists(file[1], file[2] or "")
        elif _SETTING.fullmatch(code):
            is_there = code in settings
        elif _RECIPE.fullmatch(code):
            is_there = code in recipe_names()
        else:
            continue
        if not is_there:
            missing.append(code)
    assert missing == []
    assert len(named) > 100


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_results_name_no_place_of_the_machine_that_made_them(path: Path) -> None:
    assert not re.search(r'[":= ](?:/|[A-Za-z]:\\)\w', path.read_text("utf-8"))
