"""The rendered reference has every public name, and the glossary the words of the code."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import panoptic_deeplab
from panoptic_deeplab import RawMaps, Segment, Targets
from panoptic_deeplab.config import PostprocessConfig

DOCS = Path(__file__).resolve().parents[2] / "docs"

_CONF = """
import sys
sys.path.insert(0, {docs!r})
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
napoleon_numpy_docstring = False
"""


@pytest.fixture
def docs_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(DOCS))
    yield
    sys.modules.pop("reference_pages", None)


def test_every_public_name_is_in_the_rendered_reference(tmp_path: Path, docs_on_path: None) -> None:
    for package in ("sphinx", "myst_parser"):
        pytest.importorskip(package, reason="needs the group docs")
    import reference_pages

    rooms = reference_pages._names_of_rooms()
    (tmp_path / "conf.py").write_text(_CONF.format(docs=str(DOCS)), "utf-8")
    (tmp_path / "index.md").write_text("# Reference\n\n```{toctree}\n" + "\n".join(rooms) + "\n```\n", "utf-8")
    for room, names in rooms.items():
        (tmp_path / f"{room}.md").write_text(reference_pages._api_page(room, names), "utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-D", "html_theme=basic", tmp_path, tmp_path / "out"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rendered = "".join(page.read_text("utf-8") for page in (tmp_path / "out").glob("*.html"))
    found = set(re.findall(r'<dt class="[^"]*" id="panoptic_deeplab\.(\w+)"', rendered))
    assert set(panoptic_deeplab.__all__) - found == set()


def test_the_glossary_has_the_words_of_the_code() -> None:
    text = (DOCS / "reference" / "glossary.md").read_text("utf-8")
    words = {*RawMaps._fields, *Targets._fields}
    words |= {field.name for kind in (Segment, PostprocessConfig) for field in fields(kind)}
    missing = [word for word in sorted(words) if word not in text and word.replace("_", " ") not in text]
    assert missing == []
