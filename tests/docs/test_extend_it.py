"""The page "Extend it" is run as it stands."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "extend-it.md"
POINTS = ("A source of samples", "A format", "A backbone", "A callback", "A metric", "A picture", "An engine")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the code of the page leaves behind."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("extend"))
        for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            exec(compile(code, str(PAGE), "exec"), names)
        names["here"] = Path.cwd()
    return names


def test_there_are_seven_points() -> None:
    assert tuple(re.findall(r"^## (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)) == POINTS


def test_source_and_callback(page: dict[str, Any]) -> None:
    assert page["batch"].image.shape == (2, 3, 65, 97)
    assert page["terms"].total > 0
    assert [line.split()[:2] for line in page["notes"].lines] == [["1:", "loss"], ["2:", "loss"], ["2:", "PQ"]]
    assert (page["here"] / "runs" / "squares" / "best" / "model.safetensors").exists()


def test_format(page: dict[str, Any], tmp_path: Path) -> None:
    semantic = np.array([[0, 1, 1], [6, 6, 1]], np.uint8)
    np.save(tmp_path / "a.npy", semantic)
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    source = page["ArrayFiles"](tmp_path, page["categories"])
    assert [(s.name, s.area) for s in source[0].segments_info] == [("road", 3), ("sky", 2)]


def test_metric(page: dict[str, Any]) -> None:
    assert page["report"].metric("count_error") >= 0
    assert "count_error" in page["report"].table()


def test_picture(page: dict[str, Any]) -> None:
    assert page["picture"].getpixel((8, 16)) == page["categories"][7].color


def test_engine(page: dict[str, Any]) -> None:
    assert [(s.name, s.area) for s in page["result"].segments_info] == [("road", 3072), ("sky", 3072)]
