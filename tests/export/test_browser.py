"""The page of examples/browser in a real browser: onnxruntime-web from npm, Debian's chromium, both set up here."""

import functools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.inference.predictor import PanopticPredictor

PAGE = Path(__file__).parents[2] / "examples" / "browser"

SEND_RESULT = """
<script>
  const timer = setInterval(() => {
    if (document.body.dataset.done !== "true") return;
    clearInterval(timer);
    const result = window.result && {...window.result, panopticMap: Array.from(window.result.panopticMap)};
    const canvas = document.getElementById("picture");
    const document_ = {
      status: document.getElementById("status").textContent,
      rows: document.getElementById("segments").rows.length,
      canvas: [canvas.width, canvas.height],
      result,
    };
    fetch("/result", {method: "POST", body: JSON.stringify(document_)});
  }, 100);
</script>
</body>
"""


@pytest.fixture
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update"], check=False, capture_output=True)
        subprocess.run(["apt-get", "install", "--yes", "chromium"], check=False, capture_output=True)
        path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs chromium, and apt-get and root to install it")
    return path


@pytest.fixture
def site(tmp_path: Path, exported: Path) -> Path:
    """A folder with the page, a model, a photograph and onnxruntime-web."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm, to install onnxruntime-web")
    site = tmp_path / "site"
    site.mkdir()
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "onnxruntime-web"]
    done = subprocess.run(command, cwd=site, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot install onnxruntime-web: {done.stderr[-300:]}")
    shutil.copy(PAGE / "panoptic.js", site)
    page = (PAGE / "index.html").read_text("utf-8")
    (site / "index.html").write_text(page.replace("</body>", SEND_RESULT), "utf-8")
    shutil.copy(exported / "panoptic.onnx", site / "model.onnx")
    Image.fromarray(SyntheticSource(1, seed=5, size=(90, 140))[0].image).save(site / "photo.png")
    return site


@pytest.fixture
def server(site: Path) -> Iterator[tuple[str, Queue[dict[str, Any]]]]:
    """Address of the site, and what the page sends back."""
    results: Queue[dict[str, Any]] = Queue()

    class Handler(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}", results
        http.shutdown()
        thread.join()


@pytest.mark.slow
def test_page_finds_what_pytorch_finds(
    folder: Path, site: Path, server: tuple[str, Queue[dict[str, Any]]], chromium: str, tmp_path: Path
) -> None:
    address, results = server
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    browser = subprocess.Popen(
        [chromium, *options, f"{address}/index.html?image=photo.png"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        page = results.get(timeout=300)
    finally:
        browser.terminate()
        browser.wait()
    assert "segments in" in page["status"], page["status"]

    expected = PanopticPredictor.from_pretrained(folder, device="cpu").predict(site / "photo.png")
    result = page["result"]
    assert page["canvas"] == [result["width"], result["height"]]
    assert page["rows"] == len(expected.segments_info) > 1
    ours = [(s.id, s.name, s.area, list(s.bbox)) for s in expected.segments_info]
    assert [(s["id"], s["name"], s["area"], s["bbox"]) for s in result["segments"]] == ours
    assert [s["score"] for s in result["segments"]] == pytest.approx(
        [s.ranking_score for s in expected.segments_info], abs=1e-4
    )
    panoptic_map = np.array(result["panopticMap"]).reshape(result["height"], result["width"])
    assert np.mean(panoptic_map == expected.panoptic_map) > 0.9999
