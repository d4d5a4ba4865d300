"""What the service refuses, how it says so, and what it does not start."""

import asyncio
import io
import json
import logging
import struct
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.serving.jobs import Job
from panoptic_deeplab.serving.worker import Worker

from .conftest import encoded

Serve = Callable[..., Any]


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes whose head claims `side` x `side` pixels."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def pages() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20)).save(file, "TIFF", save_all=True, append_images=[Image.new("RGB", (20, 20))])
    return file.getvalue()


@pytest.fixture(scope="module")
def refused(photo: bytes) -> dict[str, tuple[str, dict[str, Any], int, str]]:
    """Name -> path, arguments of the request, status, words of the sentence."""
    return {
        "text": ("", {"content": b"hello"}, 415, "no image that is read here"),
        "gif": ("", {"content": encoded(np.zeros((9, 9, 3), np.uint8), "GIF")}, 415, "PNG, JPEG, WebP or TIFF"),
        "truncated": ("", {"content": photo[: len(photo) // 2]}, 422, "corrupt"),
        "pages": ("", {"content": pages()}, 422, "2 pages"),
        "empty": ("", {"content": b""}, 400, "empty"),
        "bomb": ("", {"content": bomb(30_000)}, 413, "pixels"),
        "many pixels": ("", {"content": bomb(1_500)}, 413, "1500 x 1500 pixels"),
        "many bytes": ("", {"content": bytes(600_000)}, 413, "larger than 500000 bytes"),
        "two files": ("", {"files": [("a", photo), ("b", photo)]}, 400, "one file"),
        "no file": ("", {"data": {"a": "b"}, "files": {}}, 415, "no image"),
        "unknown option": ("?center_thresholds=0.2", {"content": photo}, 422, "Did you mean `center_threshold`?"),
        "even window": ("?nms_kernel=4", {"content": photo}, 422, "`postprocess.nms_kernel` must be a positive odd"),
        "no number": ("?top_k=many", {"content": photo}, 422, "`top_k`"),
        "nan": ("?center_threshold=nan", {"content": photo}, 422, "center_threshold"),
        "opacity": ("?alpha=2", {"content": photo}, 422, "`alpha`"),
        "output": ("?output=gif", {"content": photo}, 422, "`output`"),
        "model": ("?model=tony", {"content": photo}, 404, "Did you mean `tiny`?"),
    }


def test_errors_are_problems_with_sentences(
    serve: Serve, refused: dict[str, Any], caplog: pytest.LogCaptureFixture, model_folder: Any
) -> None:
    async def calls(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
        return {
            name: await client.post(f"/v1/panoptic{path}", headers={"X-Request-Id": "mine-1"}, **arguments)
            for name, (path, arguments, _, _) in refused.items()
        }

    with caplog.at_level(logging.INFO, "panoptic_deeplab.serving.requests"):
        answers = serve(calls, max_bytes=500_000, max_pixels=1_000_000)
    for name, (_, _, status, words) in refused.items():
        answer = answers[name]
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), name
        problem = answer.json()
        assert problem["status"] == status
        assert problem["request_id"] == answer.headers["x-request-id"] == "mine-1"
        assert words in problem["detail"], name
        for leak in ("Traceback", "0x", str(model_folder), ".py"):
            assert leak not in answer.text, name
    entries = [record.fields for record in caplog.records if record.name.endswith("requests")]  # type: ignore[attr-defined]
    assert [entry["status"] for entry in entries] == [status for _, _, status, _ in refused.values()]
    assert {entry["request_id"] for entry in entries} == {"mine-1"}


def test_a_bomb_is_refused_before_its_pixels_take_memory(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise AssertionError("the pixels were asked for")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)

    async def calls(client: httpx.AsyncClient) -> int:
        return (await client.post("/v1/panoptic", content=bomb(5_000))).status_code

    assert serve(calls) == 413


def test_strange_request_ids_are_replaced(serve: Serve) -> None:
    async def calls(client: httpx.AsyncClient) -> list[str]:
        ids = ['a"b', "x" * 65, "", "good.ID_1"]
        return [(await client.get("/healthz", headers={"X-Request-Id": i})).headers["x-request-id"] for i in ids]

    *strange, good = serve(calls)
    assert good == "good.ID_1"
    assert len(set(strange)) == 3
    assert all(len(id_) == 16 for id_ in strange)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, list[int]]:
    """Workers wait for the event; the list has one entry for each job that was begun."""
    go, begun = threading.Event(), list[int]()
    answer = Worker.answer

    def waits(self: Worker, jobs: list[Job]) -> Any:
        begun.append(len(jobs))
        assert go.wait(30)
        return answer(self, jobs)

    monkeypatch.setattr(Worker, "answer", waits)
    return go, begun


def test_a_full_queue_says_when_to_come_again(
    serve: Serve, photo: bytes, slow: tuple[threading.Event, list[int]]
) -> None:
    go, begun = slow

    async def calls(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = [asyncio.create_task(client.post("/v1/panoptic", content=photo)) for _ in range(3)]
        while not begun:
            await asyncio.sleep(0.01)
        late = await client.post("/v1/panoptic", content=photo)
        alive = await client.get("/readyz")
        go.set()
        return [late, alive, *await asyncio.gather(*first)]

    late, alive, *first = serve(calls, queue=2)
    assert late.status_code == 503
    assert int(late.headers["retry-after"]) >= 1
    assert "queue is full" in late.json()["detail"]
    assert [answer.status_code for answer in (alive, *first)] == [200] * 4


def test_what_nobody_waits_for_is_not_started(
    serve: Serve, photo: bytes, slow: tuple[threading.Event, list[int]]
) -> None:
    go, begun = slow

    async def calls(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = asyncio.create_task(client.post("/v1/panoptic", content=photo))
        while not begun:
            await asyncio.sleep(0.01)
        overdue = await client.post("/v1/panoptic", content=photo)
        go.set()
        return [overdue, await first, await client.post("/v1/panoptic", content=photo)]

    overdue, first, last = serve(calls, max_seconds=1.0)
    assert (overdue.status_code, first.status_code, last.status_code) == (503, 503, 200)
    assert "ran out" in overdue.json()["detail"]
    assert len(begun) == 2


def test_more_than_the_service_holds(serve: Serve, photo: bytes, slow: tuple[threading.Event, list[int]]) -> None:
    go, begun = slow

    async def calls(client: httpx.AsyncClient) -> list[int]:
        first = asyncio.create_task(client.post("/v1/panoptic", content=photo))
        while not begun:
            await asyncio.sleep(0.01)
        late = await client.post("/v1/panoptic", content=photo)
        go.set()
        return [late.status_code, (await first).status_code]

    assert serve(calls, concurrency=1) == [503, 200]


def test_a_slow_body_ends(serve: Serve) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"\x89PNG"
        await asyncio.sleep(30)

    async def calls(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/panoptic", content=body())

    start = time.monotonic()
    answer = serve(calls, max_seconds=0.3)
    assert (answer.status_code, time.monotonic() - start < 20) == (408, True)


def test_the_token(serve: Serve, photo: bytes) -> None:
    async def calls(client: httpx.AsyncClient) -> list[httpx.Response]:
        answers = [await client.get(path) for path in ("/v1/models", "/metrics", "/healthz", "/readyz", "/")]
        for given in ("Bearer wrong", "Bearer sésame", "Bearer secret", "secret"):
            headers = {"Authorization": given.encode()}
            answers.append(await client.post("/v1/panoptic?masks=none", content=photo, headers=headers))
        return answers

    answers = serve(calls, token="secret")
    assert [a.status_code for a in answers] == [401, 401, 200, 200, 200, 401, 401, 200, 401]
    assert answers[0].headers["www-authenticate"] == "Bearer"


def test_other_origins_are_shut_out_unless_named(serve: Serve) -> None:
    async def calls(client: httpx.AsyncClient) -> list[str | None]:
        ask = {"Access-Control-Request-Method": "POST"}
        answers = [
            await client.options("/v1/panoptic", headers={"Origin": f"https://{name}.example", **ask})
            for name in ("a", "b")
        ]
        return [answer.headers.get("access-control-allow-origin") for answer in answers]

    assert serve(calls) == [None, None]
    assert serve(calls, cors_origins=("https://a.example",)) == ["https://a.example", None]


def test_a_fault_of_ours_is_a_problem_without_details(
    serve: Serve, photo: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("panoptic_deeplab.serving.worker.answer_bytes", fails)

    async def calls(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/panoptic", content=photo)

    answer = serve(calls)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text


def test_what_there_is(serve: Serve, photo: bytes) -> None:
    async def calls(client: httpx.AsyncClient) -> list[httpx.Response]:
        await client.post("/v1/panoptic", content=photo)
        await client.post("/v1/panoptic", content=b"hello")
        return [await client.get(path) for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing", "/")]

    models, metrics, openapi, nothing, page = serve(calls)
    (model,) = models.json()["models"]
    assert (model["name"], model["postprocess"]["nms_kernel"], model["keeps_maps"]) == ("tiny", 7, True)
    assert {"id", "name", "isthing", "color"} <= set(model["categories"][0])
    for line in (
        'panoptic_requests_total{path="/v1/panoptic",status="200"} 1.0',
        'panoptic_requests_total{path="/v1/panoptic",status="415"} 1.0',
        'panoptic_stage_seconds_count{stage="network"} 1.0',
        "panoptic_network_passes_total 1.0",
        "panoptic_workers_ready 1.0",
    ):
        assert line in metrics.text.splitlines()
    parameters = openapi.json()["paths"]["/v1/panoptic"]["post"]["parameters"]
    assert {"center_threshold", "nms_kernel", "top_k", "stuff_area_limit", "scales", "flip", "output"} <= {
        parameter["name"] for parameter in parameters
    }
    assert "example" in json.dumps(openapi.json()["paths"])
    assert nothing.status_code == 404
    assert nothing.json()["status"] == 404
    assert "script-src 'self'" in page.headers["content-security-policy"]
