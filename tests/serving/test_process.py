"""The command as a process of its own: start, signals, a worker that dies, bodies that come in pieces or not at all."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from panoptic_deeplab.inference.predictor import PanopticPredictor


class Service:
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


@pytest.fixture
def service(model_folder: Path, tmp_path: Path) -> Iterator[Service]:
    command = [sys.executable, "-m", "panoptic_deeplab", "serve", f"tiny={model_folder}", "--port", "0"]
    options = ["--device", "cpu", "--batch-size", "1", "--max-seconds", "60", "--workers", "2"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=file, text=True)
    try:
        running = Service(process, log)
        yield running
        running.client.close()
    finally:
        process.kill()
        process.communicate()


def test_a_life(service: Service, predictor: PanopticPredictor, photo: bytes, pixels: object) -> None:
    """One process for all of it: starting one takes seconds."""
    expected = [(s.id, s.area) for s in predictor.predict(pixels).segments_info]  # type: ignore[arg-type]
    answer = service.client.post("/v1/panoptic", content=photo)
    assert [(s["id"], s["area"]) for s in answer.json()["segments"]] == expected
    assert service.metric("panoptic_workers_ready") == 2

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
        (["x", "--workers", "0"], "`workers` must be positive"),
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
