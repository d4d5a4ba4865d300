"""What the service's page and its batches cost on this machine: `python benchmarks/serving.py [--rounds 7]`

1. A slider: the page asks for an image that is kept with another threshold, as JSON with the map and as an overlay. An
   image of 1024 x 1024 pixels is sent once, then asked for again with thresholds in turn. Prints the seconds that both
   answers take together over HTTP: by the clock, and processor time of all processes of the service. The browser is not
   in it.
2. Batches: four images of one size, one by one and together, in turns. Prints the gain by the clock and by processor
   time.

Models are the bundled ones, with one thread.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import torch
from load import Service
from PIL import Image

from panoptic_deeplab import PanopticPredictor
from panoptic_deeplab.data.samples import NUCLEI

_PAGE_SAMPLES = Path(__file__).parents[1] / "src" / "panoptic_deeplab" / "serving" / "page" / "samples"
_SAMPLES = {"nuclei": NUCLEI / "images" / "0bda515e3702.png", "facades": _PAGE_SAMPLES / "facade_1.jpg"}
_SIDES = (129, 257, 513)
_TOGETHER = 4
_THRESHOLDS = (0.1, 0.3, 0.15, 0.25)


def image_of(model: str, side: int) -> Image.Image:
    """A square image: nuclei side by side, or a facade enlarged or made smaller."""
    picture = Image.open(_SAMPLES[model]).convert("RGB")
    if model != "nuclei":
        return picture.resize((side, side))
    pixels, times = np.asarray(picture), -(-side // picture.height)
    return Image.fromarray(np.tile(pixels, (times, times, 1))[:side, :side])


def slider(model: str, rounds: int) -> dict[str, float]:
    """Seconds of the answers that follow a slider: by the clock, and the mean by processor time."""
    content = io.BytesIO()
    image_of(model, 1024).save(content, "PNG")
    with tempfile.TemporaryDirectory() as folder:
        service = Service(model, 1, Path(folder) / "log", keep_megabytes=256)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=120) as client:
                first = client.post("/v1/panoptic?masks=png", content=content.getvalue()).raise_for_status()
                path, passes = f"/v1/panoptic/{first.json()['image_id']}", _passes(client)
                seconds, grouping, before = [], [], service.processor_seconds()
                for number in range(rounds * len(_THRESHOLDS)):
                    threshold = _THRESHOLDS[number % len(_THRESHOLDS)]
                    start = time.perf_counter()
                    answer = client.get(f"{path}?masks=png&center_threshold={threshold}").raise_for_status()
                    client.get(f"{path}?output=overlay&center_threshold={threshold}").raise_for_status()
                    seconds.append(time.perf_counter() - start)
                    timing = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
                    grouping.append(float(timing["postprocess"]) / 1000)
                processor = (service.processor_seconds() - before) / len(seconds)
                assert _passes(client) == passes  # the network was not asked again
                segments = len(first.json()["segments"])
        finally:
            service.process.kill()
            service.process.wait()
    found = {"segments": segments, "processor": processor, "shortest": min(seconds)}
    return found | {"median": statistics.median(seconds), "shortest post-processing": min(grouping)}


def _passes(client: httpx.Client) -> str:
    text = client.get("/metrics").text
    return next(line for line in text.splitlines() if line.startswith("panoptic_network_passes_total"))


def batches(model: str, side: int, rounds: int) -> tuple[float, float, float]:
    """Milliseconds of one image alone; share of the time that images together take, by clock and processor."""
    engine = PanopticPredictor.from_pretrained(model, device="cpu").engine
    ready = engine.ready(np.asarray(image_of(model, side)))
    engine.predict([ready] * _TOGETHER)
    ways: dict[str, Callable[[], object]] = {
        "alone": lambda: [engine.predict([ready]) for _ in range(_TOGETHER)],
        "together": lambda: engine.predict([ready] * _TOGETHER),
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            clock, processor = time.perf_counter(), time.process_time()
            way()
            spent[name].append((time.perf_counter() - clock, time.process_time() - processor))
    best = {name: np.array(found).min(axis=0) for name, found in spent.items()}
    clock, processor = best["together"] / best["alone"]
    return 1000 * best["alone"][1] / _TOGETHER, clock, processor


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in _SAMPLES:
        found = slider(name, arguments.rounds)
        print(f"{name}, a slider at 1024 x 1024: " + ", ".join(f"{key} {value:.3g}" for key, value in found.items()))
    for name in _SAMPLES:
        for side in _SIDES:
            alone, clock, processor = batches(name, side, arguments.rounds)
            print(
                f"{name}, {side} x {side}: alone {alone:.1f} ms of processor; {_TOGETHER} together take {clock:.2f} of"
                f" the time alone by the clock, {processor:.2f} by processor time"
            )
