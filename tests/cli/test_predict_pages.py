"""`panoptic-deeplab predict` on TIFF files with several pages."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.inference.predictor import PanopticPredictor

Run = Callable[..., Any]


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    pages = [Image.fromarray(SyntheticSource(3, seed=3, size=(48, 64))[number].image) for number in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    return tmp_path / "stack.tif"


@pytest.mark.parametrize("options", [[], ["--batch-size", "2"], ["--tile", "64", "--overlap", "32"]])
def test_every_page_is_an_image(run: Run, model_folder: Path, stack: Path, tmp_path: Path, options: list[str]) -> None:
    output = tmp_path / "out"
    save = ("--save", "overlay", "panoptic", "table", "labels")
    arguments = ("--model", model_folder, "--output", output, "--postprocess.stuff-area-limit", "0", *save, *options)
    outcome = run("predict", stack, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    names = [f"stack_page000{number}" for number in (1, 2, 3)]
    assert sorted(file.name for file in output.glob("*.png")) == sorted(
        f"{name}_{kind}.png" for name in names for kind in ("overlay", "panoptic", "labels")
    )
    with (output / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == {str(tmp_path / f"{name}.tif") for name in names}
    document = json.loads((output / "panoptic.json").read_text())
    assert [Path(row["file_name"]).stem for row in document["images"]] == names
    if not options:
        predictor = PanopticPredictor.from_pretrained(model_folder, postprocess={"stuff_area_limit": 0})
        for number, name in enumerate(names):
            expected = predictor.predict(SyntheticSource(3, seed=3, size=(48, 64))[number].image)
            labels = np.asarray(Image.open(output / f"{name}_labels.png"))
            assert np.array_equal(labels, expected.panoptic_map)


def test_pages_are_printed_by_their_names(run: Run, model_folder: Path, stack: Path) -> None:
    document = json.loads(run("predict", stack, "--model", model_folder, "--json").out)
    assert [image["image"] for image in document["images"]] == [
        str(stack.with_name(f"stack_page000{number}.tif")) for number in (1, 2, 3)
    ]


def test_page_with_the_name_of_another_file_is_refused(run: Run, model_folder: Path, stack: Path) -> None:
    Image.new("RGB", (64, 48)).save(stack.with_name("stack_page0002.tif"))
    outcome = run("predict", stack.parent, "--model", model_folder, "--json")
    assert outcome.code == 2
    assert "stack_page0002.tif would name both a file and a page of another one" in outcome.err


def test_channels_as_pages_are_one_failed_image(run: Run, model_folder: Path, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 48, 64), np.uint8), imagej=True, metadata={"axes": "CYX"})
    outcome = run("predict", tmp_path / "a.tif", "--model", model_folder, "--json")
    assert outcome.code == 1
    (failed,) = json.loads(outcome.out)["failed"]
    assert "a.tif stores 3 channels as pages (ImageJ)" in failed["error"]
