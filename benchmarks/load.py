"""Load on `panoptic-deeplab serve` on this machine: a bounded number of requests, good and bad ones mixed.

    python benchmarks/load.py [--model nuclei] [--requests 2000] [--clients 32] [--workers 2]

It starts the service on 127.0.0.1, sends pieces of the nuclei samples in the package and what is no image, and checks
that no status above 499 but 503 comes, that every valid answer is the predictor's down to the masks, that the memory of
all processes stays within 5 % over the second half, and that SIGTERM under load loses no request that was accepted. It
prints p50 and p99 of the answers with 200, and ends with 1 where something does not hold. A client that gets 503 waits
and sends its image again.
"""

import argparse
import collections
import io
import json
import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image

from panoptic_deeplab import PanopticPredictor
from panoptic_deeplab.data.samples import NUCLEI
from panoptic_deeplab.results.coco import to_rles
from panoptic_deeplab.results.panoptic_result import PanopticResult

SIZES = ((96, 128), (120, 160), (200, 150))
KINDS = ("valid",) * 12 + ("text", "truncated", "bomb", "huge", "slow", "aborted", "again", "option")


def encoded(pixels: np.ndarray) -> bytes:
    """A PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of some bytes that claims 900 megapixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(100)))]
    chunks.append((b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _segments(result: PanopticResult) -> list[dict[str, Any]]:
    """What the service says of a result, with masks."""
    rles = to_rles(result.panoptic_map, [segment.id for segment in result.segments_info])
    return [
        {"id": s.id, "category_id": s.category_id, "area": s.area, "bbox": list(s.bbox), "score": s.score}
        | {"rle": rle}
        for s, rle in zip(result.segments_info, rles, strict=True)
    ]


class Service:
    """The command in a process of its own."""

    def __init__(self, model: str, workers: int, log: Path, *, keep_megabytes: int = 8) -> None:
        self.log = log
        limits = ["--max-megabytes", "2", "--max-megapixels", "2", "--max-seconds", "30", "--batch-size", "1"]
        limits += ["--threads", "1"]  # as here: sums in another order would differ in the last digits
        limits += ["--keep-megabytes", str(keep_megabytes)]  # few are full early, and memory is flat from then on
        command = [sys.executable, "-m", "panoptic_deeplab", "serve", model, "--port", "0", "--device", "cpu"]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*command, "--workers", str(workers), *limits], stdout=subprocess.PIPE, stderr=file, text=True
            )
        assert self.process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.process.stdout.readline())
        if found is None:
            raise SystemExit(f"The service did not start: {log.read_text()[-2000:]}")
        self.port = int(found[1])
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/readyz")
                return
            except httpx.ConnectError:
                time.sleep(0.1)

    def memory(self) -> int:
        """Bytes of all its processes that no other process has too."""
        total = 0
        for pid in [self.process.pid, *self._children(self.process.pid)]:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Private_"):
                    total += 1024 * int(line.split()[1])
        return total

    def processor_seconds(self) -> float:
        """Processor time of all its processes until now."""
        ticks = 0
        for pid in [self.process.pid, *self._children(self.process.pid)]:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _children(self, pid: int) -> list[int]:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children]


class Load:
    """The requests, and what came back."""

    def __init__(self, port: int, model: str, total: int) -> None:
        self.address, self.port, self.total = f"http://127.0.0.1:{port}", port, total
        sample = np.asarray(Image.open(min((NUCLEI / "images").glob("*.png"))).convert("RGB"))
        self.images = [encoded(sample[:height, :width]) for height, width in SIZES]
        torch.set_num_threads(1)
        predictor = PanopticPredictor.from_pretrained(model, device="cpu")
        self.expected = [_segments(predictor.predict(self._pixels(i))) for i in range(len(SIZES))]
        self.done = 0
        self.statuses: collections.Counter[tuple[str, int]] = collections.Counter()
        self.seconds: list[float] = []
        self.wrong: list[str] = []
        self.lock = threading.Lock()
        self.on_done: Callable[[int], None] = lambda count: None

    def _pixels(self, index: int) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.images[index])).convert("RGB"))

    def client(self, number: int) -> None:
        """One client: its share of the requests, one after the other."""
        random = np.random.default_rng(number)
        with httpx.Client(base_url=self.address, timeout=60) as client:
            while True:
                with self.lock:
                    if self.done >= self.total:
                        return
                    self.done += 1
                    count = self.done
                self.on_done(count)
                kind = KINDS[count % len(KINDS)]
                index = int(random.integers(len(SIZES)))
                while True:
                    start = time.monotonic()
                    try:
                        status = self._request(client, kind, index)
                    except httpx.TransportError as error:
                        status = -1
                        self.wrong.append(f"{kind}: {error!r}")
                    with self.lock:
                        self.statuses[kind, status] += 1
                        if kind == "valid" and status == 200:
                            self.seconds.append(time.monotonic() - start)
                    if status != 503:
                        break
                    time.sleep(float(random.uniform(0.2, 1.0)))

    def _request(self, client: httpx.Client, kind: str, index: int) -> int:
        image = self.images[index]
        if kind in ("slow", "aborted"):
            return self._by_hand(image, kind)
        if kind == "again":
            first = client.post("/v1/panoptic?masks=none", content=image)
            if first.status_code != 200:
                return first.status_code
            path = f"/v1/panoptic/{first.json()['image_id']}?output=overlay&center_threshold=0.3"
            return client.get(path).status_code
        bodies = {
            "text": b"this is no image" * 100,
            "truncated": image[: len(image) // 2],
            "bomb": bomb(),
            "huge": bytes(3_000_000),
        }
        query = "?center_level=1" if kind == "option" else ""
        answer = client.post(f"/v1/panoptic{query}", content=bodies.get(kind, image))
        if kind == "valid" and answer.status_code == 200:
            self.check(answer.json(), index)
        return answer.status_code

    def check(self, document: dict[str, Any], index: int) -> None:
        """Hold an answer against the predictor's."""
        keys = {"id": "id", "category_id": "category_id", "area": "area", "bbox": "bbox", "score": "score"}
        keys |= {"rle": "segmentation"}
        if [{key: s[name] for key, name in keys.items()} for s in document["segments"]] != self.expected[index]:
            self.wrong.append(f"another answer for image {index}")

    def _by_hand(self, image: bytes, kind: str) -> int:
        """A body that comes in pieces, or not to its end."""
        head = f"POST /v1/panoptic?masks=none HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
            for at in range(0, len(image), len(image) // 5 + 1):
                if kind == "aborted" and at > len(image) // 2:
                    return 0
                connection.sendall(image[at : at + len(image) // 5 + 1])
                time.sleep(0.1)
            return int(connection.makefile("rb").readline().split()[1])

    def run(self, clients: int) -> None:
        """All clients, to the end."""
        threads = [threading.Thread(target=self.client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def stop_under_load(service: Service, load: Load, clients: int) -> tuple[dict[str, Any], list[str]]:
    """SIGTERM while all clients send: what was sent half a second before it is answered, whole.

    Each request has a connection of its own. Later ones may be refused, or find their connection closed.
    """
    outcomes: list[tuple[float, int]] = []
    image = load.images[0]
    head = f"POST /v1/panoptic?masks=none HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n"
    request = f"{head}Connection: close\r\n\r\n".encode() + image

    def send() -> None:
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", load.port), timeout=60)
            except ConnectionRefusedError:
                return
            with connection:
                sent, status = time.monotonic(), 0
                try:
                    connection.sendall(request)
                    sent = time.monotonic()
                    answer = connection.makefile("rb").read()
                    if answer.endswith(b"}"):  # whole
                        status = int(answer.split(maxsplit=2)[1])
                except ConnectionError:
                    pass
                outcomes.append((sent, status))
            time.sleep(0.5 if status == 503 else 0)

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(5)
    inside = re.search(r"^panoptic_requests_inside (\S+)", httpx.get(f"{load.address}/metrics").text, re.MULTILINE)
    stopped = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    code = service.process.wait(60)
    before = [status for sent, status in outcomes if sent < stopped - 0.5]
    after = [status for sent, status in outcomes if sent >= stopped - 0.5]
    report = {
        "inside_at_the_signal": int(float(inside[1])) if inside else None,
        "sent_before": dict(collections.Counter(before)),
        "sent_later": dict(collections.Counter(after)),
        "seconds_to_the_end": round(time.monotonic() - stopped, 1),
        "exit_code": code,
    }
    failed = [] if set(before) <= {200, 503} else [f"SIGTERM lost requests: {report}"]
    return report, failed


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--log", type=Path, default=Path("load.log"))
    options = parser.parse_args()
    service = Service(options.model, options.workers, options.log)
    try:
        load = Load(service.port, options.model, options.requests)
        memory: list[tuple[int, int]] = []
        every = max(1, options.requests // 40)
        load.on_done = lambda count: memory.append((count, service.memory())) if count % every == 0 else None
        start = time.monotonic()
        load.run(options.clients)
        seconds = time.monotonic() - start
        second_half = [size for count, size in sorted(memory) if count > options.requests / 2]
        growth = max(second_half) / min(second_half) - 1
        failed = load.wrong + [f"{kind}: {status}" for kind, status in load.statuses if status >= 500 and status != 503]
        if growth > 0.05:
            failed.append(f"memory changed by {growth:.1%} in the second half")
        ending, lost = stop_under_load(service, load, options.clients)
        failed += lost
        cuts = statistics.quantiles(load.seconds, n=100)
        report = {
            "requests": options.requests,
            "clients": options.clients,
            "workers": options.workers,
            "cores": os.cpu_count(),
            "seconds": round(seconds, 1),
            "valid_answers": len(load.seconds),
            "p50_seconds": round(cuts[49], 3),
            "p99_seconds": round(cuts[98], 3),
            "memory_megabytes": [round(size / 1e6) for size in (second_half[0], max(second_half), second_half[-1])],
            "memory_growth": round(growth, 4),
            "sigterm": ending,
            "statuses": {f"{kind} {status}": n for (kind, status), n in sorted(load.statuses.items())},
            "failed": failed[:10],
        }
        print(json.dumps(report, indent=2))
    finally:
        if service.process.poll() is None:
            service.process.kill()
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
