"""The page in a real browser: Playwright drives the system's chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.visualize.draw import draw_panoptic

from .conftest import Service, picture

PIXELS = """
(id) => {
  const canvas = document.getElementById(id);
  return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
}
"""


@pytest.fixture
def page(lively_service: Service) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs the system's chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
        opened.set_default_timeout(120_000)
        opened.problems = []
        opened.on("pageerror", lambda error: opened.problems.append(str(error)))
        opened.goto(f"http://127.0.0.1:{lively_service.port}/")
        opened.wait_for_selector("body[data-ready]")
        yield opened
        assert opened.problems == []
        browser.close()


def drawn(page: Any, canvas: str, size: tuple[int, int]) -> np.ndarray:
    return np.array(page.evaluate(PIXELS, canvas), np.uint8).reshape(*size, 4)


def after(page: Any, action: Any) -> None:
    """Do something, and wait until the page shows its answer."""
    turn = page.evaluate("document.body.dataset.turn || 0")
    action()
    page.wait_for_function("(turn) => Number(document.body.dataset.turn || 0) > turn", arg=int(turn))


@pytest.mark.slow
def test_the_page(
    page: Any,
    lively_service: Service,
    predictor: PanopticPredictor,
    pixels: np.ndarray,
    photo: bytes,
    tmp_path: Path,
    model_folder: Path,
) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(photo)
    result = predictor.predict(pixels)
    size = result.size

    after(page, lambda: page.set_input_files("#file", file))
    shown = drawn(page, "picture", size)
    assert np.array_equal(shown[..., :3], np.asarray(draw_panoptic(pixels, result)))
    assert page.locator("#segments tr").count() == len(result.segments_info)

    # Pointing: to the pixel, in the picture and in the table.
    box = page.evaluate(
        "(() => { const b = document.getElementById('picture').getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height]; })()"
    )
    scale = min(box[2] / size[1], box[3] / size[0])
    left, top = box[0] + (box[2] - scale * size[1]) / 2, box[1] + (box[3] - scale * size[0]) / 2
    for y, x in ((0, 0), (size[0] // 2, size[1] // 3), (size[0] - 1, size[1] - 1)):
        page.mouse.move(left + scale * (x + 0.5), top + scale * (y + 0.5))
        at = int(result.panoptic_map[y, x])
        if at:
            segment = next(s for s in result.segments_info if s.id == at)
            tip = page.inner_text("#tip")
            assert segment.name in tip
            assert f"{segment.score:.2f}" in tip
            assert f"{segment.area:,} pixels" in tip
            assert page.get_attribute("#segments tr.on", "data-id") == str(at)
            shade = drawn(page, "glow", size)[..., 3]
            assert np.array_equal(shade == 0, result.panoptic_map == at)
    page.hover("#segments tr >> nth=1")
    assert page.get_attribute("#segments tr.on", "data-id") == str(result.segments_info[1].id)
    page.mouse.move(2, 2)
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#segments tr.on", "data-id") == str(result.segments_info[0].id)

    # A slider: post-processing alone.
    passes = lively_service.metric("panoptic_network_passes_total")
    page.focus("#nms_kernel")
    after(page, lambda: page.keyboard.press("End"))
    other = PanopticPredictor.from_pretrained(model_folder, device="cpu", postprocess={"nms_kernel": 99})
    changed = other.predict(pixels)
    assert len(changed.segments_info) != len(result.segments_info)
    assert np.array_equal(drawn(page, "picture", size)[..., :3], np.asarray(draw_panoptic(pixels, changed)))
    for view in ("semantic", "instances", "heatmap", "offset", "image", "overlay"):
        after(page, lambda view=view: page.check(f"#views input[value={view}]", force=True))
    assert lively_service.metric("panoptic_network_passes_total") == passes

    # Downloads are the answers of the interface.
    for output in ("json", "overlay", "panoptic", "labels", "table", "geojson"):
        with page.expect_download() as download:
            page.click(f"#downloads button[data-output={output}]")
        body = Path(download.value.path()).read_bytes()
        answer = lively_service.client.post(f"/v1/panoptic?output={output}&nms_kernel=99", content=photo)
        if output == "json":
            continue  # has the id of its image
        assert body == answer.content, output
        if output == "overlay":
            assert np.array_equal(picture(body), np.asarray(draw_panoptic(pixels, changed)))

    # Errors are sentences.
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    page.set_input_files("#file", text)
    page.wait_for_selector("#error:not([hidden])")
    assert "no image that is read here" in page.inner_text("#error")

    # A sample, at the width of a phone.
    page.set_viewport_size({"width": 390, "height": 844})
    after(page, lambda: page.click("#samples button >> nth=0"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#error").is_hidden()
