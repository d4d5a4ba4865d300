"""The command as a process of its own: start, signals, a worker that dies, bodies that come in pieces or not at all."""

import os
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panoptic_deeplab.inference.predictor import PanopticPredictor

from .conftest import Service

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "serve.md"


def test_a_life(
    service: Service,
    predictor: PanopticPredictor,
    photo: bytes,
    pixels: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One process for all of it: starting one takes seconds."""
    expected = [(s.id, s.area) for s in predictor.predict(pixels).segments_info]
    answer = service.client.post("/v1/panoptic", content=photo)
    assert [(s["id"], s["area"]) for s in answer.json()["segments"]] == expected
    assert service.metric("panoptic_workers_ready") == 2

    code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(photo)
    names: dict[str, Any] = {}
    address = f"http://127.0.0.1:{service.port}"
    exec(code[1].replace("http://127.0.0.1:8000", address).replace("center_threshold=0.2", ""), names)
    assert np.array_equal(names["ids"], predictor.predict(pixels).panoptic_map)

    # Who sends half a body and leaves is no error of the service; who is slow is waited for.
    service.send(photo, len(photo) // 2).close()
    slow = service.send(photo, len(photo) // 2)

    # A refused body is read, so that its sender sees why.
    assert service.client.post("/v1/panoptic", content=bytes(21_000_000)).status_code == 413

    # A worker that dies takes nobody with it.
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text("ascii").split()
    victim = next(int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text("utf-8"))
    os.kill(victim, signal.SIGKILL)
    codes = [service.client.post("/v1/panoptic?masks=none", content=photo).status_code for _ in range(4)]
    assert set(codes) <= {200, 503}
    assert codes.count(200) >= 3
    while service.metric("panoptic_workers_ready") < 2:
        time.sleep(0.2)
    assert service.metric("panoptic_worker_deaths_total") == 1

    slow.sendall(photo[len(photo) // 2 :])
    assert slow.makefile("rb").readline().split()[1] == b"200"
    slow.close()

    # Signals: what is inside is finished, also a body that is still on its way.
    outcomes: list[bytes] = []
    connections = [service.send(photo) for _ in range(4)] + [service.send(photo, 100)]

    def wait(connection: socket.socket) -> None:
        outcomes.append(connection.makefile("rb").readline())

    threads = [threading.Thread(target=wait, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    while service.metric("panoptic_requests_inside") + len(outcomes) < 5:
        time.sleep(0.01)
    workers = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text("ascii").split()
    for pid in (service.process.pid, *map(int, workers)):  # as a terminal and systemd do
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)
    connections[-1].sendall(photo[100:])
    for thread in threads:
        thread.join(120)
    for connection in connections:
        connection.close()
    assert [line.split()[1] for line in outcomes] == [b"200"] * 5
    assert service.process.wait(60) in (-signal.SIGTERM, 128 + signal.SIGTERM)

    entries = service.entries()
    requests = [entry for entry in entries if entry["message"] == "request"]
    assert {200, 413, 499} <= {entry["status"] for entry in requests}
    assert all({"time", "level", "request_id", "seconds", "path"} <= entry.keys() for entry in requests)
    assert "Traceback" not in service.log.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere/at/all"], "There is no model folder nowhere/at/all"),
        ([], "needs at least one model"),
        (["a=x", "a=y"], "Two models have the name 'a'"),
        (["x", "--workers", "0"], "`serve.workers` must be positive"),
        (["x", "--host", "300.1.1.1"], "cannot listen on 300.1.1.1"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from panoptic_deeplab.cli import main

    with pytest.raises(SystemExit) as exit_:
        main(["serve", "--port", "0", *arguments])
    assert exit_.value.code == 2
    assert words in capfd.readouterr().err
