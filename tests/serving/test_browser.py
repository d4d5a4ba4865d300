"""The page that predicts by itself, in a real browser: Playwright drives the system's chromium."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from panoptic_deeplab.errors import MissingDependencyError
from panoptic_deeplab.images.read import read_image
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.results.measurements import to_table
from panoptic_deeplab.serving import static_site
from panoptic_deeplab.serving.web_runtime import runtime_files
from panoptic_deeplab.visualize.draw import draw_panoptic

from .conftest import picture
from .test_page import after, drawn

SAMPLES = Path(static_site.__file__).parent / "page" / "samples"


@pytest.fixture(scope="module")
def site(model_folder: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of `serve --static` with a small model."""
    yield from _site(f"tiny={model_folder}", cache, tmp_path_factory.mktemp("static"))


@pytest.fixture(scope="module")
def bundled_site(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same with the models of the package."""
    yield from _site("nuclei facades", cache, tmp_path_factory.mktemp("static"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has onnxruntime-web alone, one for all test processes."""
    try:
        files = runtime_files()
    except MissingDependencyError as missing:
        pytest.skip(str(missing))
    pytest.importorskip("onnxruntime", reason="needs the extra `onnx`, to export a model")
    base = tmp_path_factory.getbasetemp()
    if base.name.startswith("popen-"):  # of one of several test processes
        base = base.parent
    folder = base / "static-cache"
    with FileLock(base / "static-cache.lock"):
        shutil.copytree(files[0].parent, folder / files[0].parent.name, dirs_exist_ok=True)
    return folder


def _site(models: str, cache: Path, folder: Path) -> Iterator[str]:
    """The command in a process of its own."""
    with FileLock(cache.with_suffix(".lock")), (folder / "log").open("wb") as log:  # a model is exported once
        process = subprocess.Popen(
            [sys.executable, "-m", "panoptic_deeplab", "serve", *models.split(), "--static", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PANOPTIC_DEEPLAB_CACHE": str(cache), "TMPDIR": str(folder)},
        )
        assert process.stdout is not None
        line = process.stdout.readline().strip()
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+$", line)
        assert found is not None, (folder / "log").read_text("utf-8")
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert list(folder.glob("panoptic-deeplab-*")) == []  # the folder of the files


@pytest.fixture
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs the system's chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def _opened(browser: Any, address: str) -> Iterator[Any]:
    page, problems = browser.new_page(viewport={"width": 1280, "height": 900}), []
    page.set_default_timeout(180_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    yield page
    assert problems == []


@pytest.fixture
def page(site: str, browser: Any) -> Iterator[Any]:
    with _opened(browser, f"{site}/") as page:
        yield page


def saved(page: Any, output: str) -> bytes:
    with page.expect_download() as download:
        page.click(f"#downloads button[data-output={output}]")
    return Path(download.value.path()).read_bytes()


def labels(page: Any) -> np.ndarray:
    return picture(saved(page, "labels"))


def test_the_page_finds_what_the_predictor_finds(
    page: Any, predictor: PanopticPredictor, pixels: np.ndarray, tmp_path: Path
) -> None:
    """Map, overlay, pointing, table and downloads of a model with random weights, to the pixel."""
    file = tmp_path / "photo.png"
    Image.fromarray(pixels).save(file)
    result = predictor.predict(pixels)
    assert len(result.segments_info) > 3
    after(page, lambda: page.set_input_files("#file", file))
    assert "by WebAssembly" in page.inner_text("#status")
    assert np.array_equal(labels(page), result.panoptic_map)
    overlay = np.asarray(draw_panoptic(pixels, result, labels=False))
    assert np.array_equal(drawn(page, "picture", result.size)[..., :3], overlay)
    assert np.array_equal(picture(saved(page, "overlay"))[..., :3], overlay)

    # Pointing, in the picture and in the table.
    segment = max(result.segments_info, key=lambda each: each.area)
    y, x = (int(places[len(places) // 2]) for places in np.nonzero(result.panoptic_map == segment.id))
    box = page.locator("#picture").bounding_box()
    scale = min(box["width"] / result.size[1], box["height"] / result.size[0])
    left = box["x"] + (box["width"] - scale * result.size[1]) / 2
    top = box["y"] + (box["height"] - scale * result.size[0]) / 2
    page.mouse.move(left + scale * (x + 0.5), top + scale * (y + 0.5))
    tip = page.inner_text("#tip")
    assert segment.name in tip
    assert f"{segment.score:.2f}" in tip
    assert f"{segment.area:,} pixels" in tip
    assert page.get_attribute("#segments tr.on", "data-id") == str(segment.id)
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    assert page.locator("#segments tr").count() == len(result.segments_info)

    # The table as a file.
    rows = list(csv.DictReader(io.StringIO(saved(page, "table").decode())))
    table = to_table(result)
    assert list(rows[0]) == list(table)
    for name, column in table.items():
        if name in ("name", "isthing"):
            assert [row[name] for row in rows] == [str(value) for value in column]
        else:
            tolerance = 1e-4 if name == "score" else 1e-6  # scores are added up with 17 bits behind the point
            assert [float(row[name]) for row in rows] == pytest.approx(list(column), abs=tolerance), name

    # Sliders and views paint the same prediction.
    turn = page.evaluate("document.body.dataset.turn")
    page.fill("#alpha", "0")
    page.wait_for_timeout(300)
    bare = np.asarray(draw_panoptic(pixels, result, labels=False, alpha=0))
    assert np.array_equal(drawn(page, "picture", result.size)[..., :3], bare)
    page.check("#views input[value=image]", force=True)
    assert np.array_equal(drawn(page, "picture", result.size)[..., :3], pixels)
    page.fill("#min_score", "1")
    page.wait_for_timeout(300)
    stuff = [each for each in result.segments_info if not each.isthing or (each.score or 0) >= 1]
    assert page.locator("#segments tr").count() == len(stuff)
    assert page.evaluate("document.body.dataset.turn") == turn


@pytest.mark.slow
def test_samples_are_segmented_as_by_the_predictor(bundled_site: str, browser: Any) -> None:
    """Real images, PNG and JPEG, stretched, enlarged and brought back, by the models of the package."""
    samples = [each["file"] for each in json.loads((SAMPLES / "samples.json").read_text("utf-8"))]
    with _opened(browser, f"{bundled_site}/") as page:
        for number, file in enumerate(samples):
            model = "nuclei" if file.startswith("nuclei") else "facades"
            result = PanopticPredictor.from_pretrained(model, device="cpu").predict(SAMPLES / file)
            assert len(result.segments_info) > 15
            if page.input_value("#model") != model:
                page.select_option("#model", model)
            after(page, lambda number=number: page.click(f"#samples button >> nth={number}"))
            assert np.array_equal(labels(page), result.panoptic_map), file
            overlay = np.asarray(draw_panoptic(read_image(SAMPLES / file), result, labels=False))
            assert np.array_equal(drawn(page, "picture", result.size)[..., :3], overlay), file


def test_errors_are_sentences(page: Any, tmp_path: Path, pixels: np.ndarray, site: str) -> None:
    files = {"notes.txt": b"no image", "empty.png": b"", "page.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    files["cut.png"] = file.getvalue()[:2000]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#file", tmp_path / name)
        page.wait_for_selector("#error:not([hidden])")
        message = page.inner_text("#error")
        assert ("is damaged" if name == "cut.png" else "no image that this browser reads") in message
        assert page.inner_text("#status") == ""
        (tmp_path / "photo.png").write_bytes(file.getvalue())
        after(page, lambda: page.set_input_files("#file", tmp_path / "photo.png"))
        assert page.locator("#error").is_hidden()

    page.add_init_script("delete window.WebAssembly")
    page.goto(f"{site}/")
    page.wait_for_selector("#error:not([hidden])")
    assert "no WebAssembly" in page.inner_text("#error")


def test_the_page_fits_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    after(page, lambda: page.click("#samples button >> nth=3"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#error").is_hidden()
