"""What README and docs point to exists, and nothing in them waits to be filled in."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|<(?:img|source|a)\b[^>]*?\b(?:src|srcset|href)=[\"']([^\"']+)")
_PLACEHOLDER = re.compile(r"^\s*[A-Z]{4,}\s*$|\bURL-OF\b|\b(?:TODO|FIXME|TBD|XXX)\b|<(?:fill|insert)", re.MULTILINE)


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
    assert {"README.md", "CONTRIBUTING.md", "your-own-data.md"} <= {path.name for path in DOCUMENTS}


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
