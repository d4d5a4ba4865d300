"""A service in this process: its app without a network, and workers that are threads."""

import asyncio
import base64
import io
import json
import logging
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.results.ids import rgb_to_id
from panoptic_deeplab.serving.app import make_app
from panoptic_deeplab.serving.pool import Pool
from panoptic_deeplab.serving.prometheus import Metrics
from panoptic_deeplab.serving.settings import Settings
from panoptic_deeplab.weights.folder import save_pretrained

Calls = Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """A service in this process sends what is logged elsewhere (`serving/logs.py`); later tests look for it here."""
    loggers = [logging.getLogger(name) for name in ("panoptic_deeplab", "uvicorn", "py.warnings")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    logging.captureWarnings(False)
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Path:
    """A network with random weights whose maps are lively enough for instances."""
    torch.manual_seed(0)
    categories = CategoryTable.load("synthetic")
    model = PanopticDeepLab(tiny_config.model, categories.num_classes)
    assert model.center_head is not None
    assert model.offset_head is not None
    with torch.no_grad():
        for head in (model.semantic_head, model.center_head, model.offset_head):
            head.predict.weight.normal_(std=0.5)
        assert model.center_head.predict.bias is not None
        model.center_head.predict.bias.fill_(0.2)
    folder = tmp_path_factory.mktemp("tiny")
    config = replace(tiny_config, postprocess=replace(tiny_config.postprocess, stuff_area_limit=64))
    save_pretrained(folder, model, config=config, categories=categories)
    return folder


@pytest.fixture(scope="session")
def predictor(model_folder: Path) -> PanopticPredictor:
    return PanopticPredictor.from_pretrained(model_folder, device="cpu")


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    return SyntheticSource(1, seed=3, size=(90, 140))[0].image


@pytest.fixture(scope="session")
def photo(pixels: np.ndarray) -> bytes:
    return encoded(pixels)


def encoded(pixels: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def picture(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)))


def map_of(document: dict[str, Any]) -> np.ndarray:
    """The ids of an answer with `masks=png`."""
    values = rgb_to_id(picture(base64.b64decode(document["panoptic_png"])))
    ids = np.zeros_like(values)
    for segment in document["segments"]:
        ids[values == segment["png_id"]] = segment["id"]
    return ids


@pytest.fixture
def serve(model_folder: Path) -> Callable[..., Any]:
    """Run calls against a service with these settings; gives what they give."""

    def run(calls: Calls, **settings: Any) -> Any:
        defaults: dict[str, Any] = {"models": {"tiny": str(model_folder)}, "device": "cpu", "batch_size": 1}
        defaults |= {"threads": 1, "max_seconds": 600.0}  # sums in another order would differ in the last digits
        chosen = Settings(**{**defaults, **settings})
        metrics = Metrics()
        pool = Pool(chosen, metrics, lambda: ThreadPoolExecutor(1))
        pool.load()
        app = make_app(chosen, pool, metrics)

        async def session() -> Any:
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://service", timeout=None) as client,
            ):
                return await calls(client)

        try:
            return asyncio.run(session())
        finally:
            pool.close()

    return run


class Service:
    """The command in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process, self.log = process, log
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)$", line.strip())
        assert found is not None, log.read_text("utf-8")
        self.port = int(found[1])
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)
        while True:
            try:
                assert self.client.get("/readyz").status_code == 200
                return
            except httpx.ConnectError:
                time.sleep(0.05)

    def send(self, image: bytes, upto: int | None = None) -> socket.socket:
        head = f"POST /v1/panoptic?masks=none HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n\r\n"
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        connection.sendall(head.encode() + image[:upto])
        return connection

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def entries(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]


@pytest.fixture(scope="session")
def lively_service(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests that leave it running."""
    yield from _service(model_folder, tmp_path_factory.mktemp("service"), workers=1)


@pytest.fixture
def service(model_folder: Path, tmp_path: Path) -> Iterator[Service]:
    yield from _service(model_folder, tmp_path, workers=2)


def _service(model_folder: Path, tmp_path: Path, *, workers: int) -> Iterator[Service]:
    command = [sys.executable, "-m", "panoptic_deeplab", "serve", f"tiny={model_folder}", "--port", "0"]
    options = ["--device", "cpu", "--batch-size", "1", "--threads", "1", "--max-seconds", "600"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, *options, "--workers", str(workers)], stdout=subprocess.PIPE, stderr=file, text=True
        )
    try:
        running = Service(process, log)
        yield running
        running.client.close()
    finally:
        process.kill()
        process.communicate()
