"""The documentation site: `make docs` renders it into docs/_build/html, and warnings are errors.

Pages are written in Markdown. The reference is made from the code while the site is built (`reference_pages.py`): the
public names from their docstrings, the settings from the dataclasses, the verbs from their help.
"""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import reference_pages

import panoptic_deeplab

project = "Panoptic-DeepLab"
author = "The panoptic-deeplab contributors"
project_copyright = f"2026, {author}"
release = panoptic_deeplab.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Panoptic-DeepLab"
html_static_path: list[str] = []

nb_execution_mode = "off"  # they are shown as they are stored; `tests/docs/test_notebooks.py` runs them
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings = ["myst.xref_missing"]  # links into the repository: `tests/test_documents.py` checks them all

napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True


def setup(app: Sphinx) -> None:
    """Write the reference before Sphinx looks for pages."""
    reference_pages.write(Path(__file__).parent / "reference")
    app.connect("autodoc-process-docstring", _code_in_docstrings, priority=100)  # before napoleon


def _code_in_docstrings(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """One backtick in our docstrings, as in Markdown, is code; in reStructuredText that is two."""
    lines[:] = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", "\n".join(lines)).split("\n")
