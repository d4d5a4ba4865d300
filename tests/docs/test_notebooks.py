"""The notebooks of the site run, and what is stored in them is what they give."""

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the group test")
nbclient = pytest.importorskip("nbclient", reason="needs the group test")

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
_SLOW = {"own-data"}
"""Trains."""


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def _kinds(cell: Any) -> list[tuple[str, ...]]:
    """What a cell gives: streams by their names, results by their formats."""
    return [
        (output.output_type, *([output.name] if output.output_type == "stream" else sorted(output.data.keys())))
        for output in cell.outputs
    ]


def _without_jpeg(notebook: Any) -> Any:
    """Pillow gives each picture in two formats; the site shows one."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/jpeg", None)
    return notebook


def test_there_are_three() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"first-steps", "own-data", "look-into-the-network"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_there_and_small(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text) < 700_000
    assert [place for place in ("/tmp/", "/home/", "/root/") if place in text] == []
    cells = [cell for cell in _read(path).cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in cells)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    pictures = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in _SLOW else ()) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_notebook_runs_and_gives_what_is_stored(path: Path, tmp_path: Path) -> None:
    notebook = _read(path)
    stored = [_kinds(cell) for cell in notebook.cells if cell.cell_type == "code"]
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    assert [_kinds(cell) for cell in _without_jpeg(notebook).cells if cell.cell_type == "code"] == stored
