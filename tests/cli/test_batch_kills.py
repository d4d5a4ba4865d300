"""`panoptic-deeplab batch` over 500 files, killed five times at random moments: each is finished exactly once.

`tests/unit/batch/test_kills.py` does the same with fewer images in seconds; this is the command itself with the bundled
model, killed also while it starts, and with more of what is wrong in collections.
"""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import unicodedata
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.data.formats.common.coco_rle import mask_of_counts, rle_counts
from panoptic_deeplab.data.samples import NUCLEI

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")]
pq = pytest.importorskip("pyarrow.parquet")

_COUNT = 500
_KILLS = 5

_COMMAND = """
import os, sys
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.cli import main
ResultStore.__init__.__kwdefaults__["shard_images"] = 37
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND)
add, add_error = ResultStore.add, ResultStore.add_error
def logged_add(self, row):
    add(self, row)
    os.write(log, (ascii(row["image"]) + "\\n").encode())
def logged_error(self, key, message):
    add_error(self, key, message)
    os.write(log, (ascii(key) + "\\n").encode())
ResultStore.add, ResultStore.add_error = logged_add, logged_error
main(sys.argv[1:])
"""
"""The command with small shards; it notes an image when that is finished, one write each."""


def _collection(folder: Path) -> set[str]:
    """Write 500 files that are listed as images, and give the names of those that cannot be predicted."""
    rng = np.random.default_rng(18)
    samples = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((NUCLEI / "images").glob("*.png"))]
    bad: set[str] = set()
    written = 0

    def place(name: str | bytes, *, is_bad: bool = False) -> Path:
        nonlocal written
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists()
        written += 1
        if is_bad:
            bad.add(str(path))
        return path

    def good(name: str | bytes) -> bytes:
        path, sample = place(name), samples[rng.integers(len(samples))]
        height, width = rng.integers(48, 112, 2)
        top, left = rng.integers(0, sample.shape[0] - height), rng.integers(0, sample.shape[1] - width)
        Image.fromarray(sample[top : top + height, left : left + width]).save(path)
        return path.read_bytes()

    for number in range(30):  # one name in several folders
        for part in ("plate 1", "plate 2/week 1", "plate 2/week 2"):
            good(f"{part}/{number:03d}.png")
        good(f"plate 1/{number:03d}.PNG")
        good(f"plate 1/{number:03d}.jpg")
    names = ["клетка.png", "細胞.png", "خلية.jpg", "🔬.png", "a\u202eb.png", "nbsp\u00a0.png", "x" * 251 + ".png"]
    names += [unicodedata.normalize(form, "Zellkörper.png") for form in ("NFC", "NFD")]
    names += [
        "line\nbreak.png",
        "tab\t.png",
        'quote".png',
        "back\\slash.png",
        "-o.png",
        "a*b[0].png",
        "%20.png",
        " .png",
    ]
    names += ["s3:/bucket.png", "two..dots.tif", "~user.png", "#.png", "nul\x7f.png"]
    for name in names:
        good(f"names/{name}")
    good(b"names/bytes \xff\xfe.png")

    whole = good("whole.png")
    for number in range(10):
        place(f"bad/empty {number}.png", is_bad=True).touch()
        place(f"bad/noise {number}.jpg", is_bad=True).write_bytes(rng.bytes(500))
        cut = int(rng.integers(1, len(whole) // 2))
        place(f"bad/cut {number}.png", is_bad=True).write_bytes(whole[:cut])
        flipped = bytearray(whole)
        flipped[whole.index(b"IDAT") + 6 + number] ^= 0xFF
        place(f"bad/flipped {number}.png", is_bad=True).write_bytes(flipped)
    for number, (width, height) in enumerate([(30_000, 30_000), (2**31 - 1, 2**31 - 1), (10_000, 9_500), (1, 2**27)]):
        place(f"bad/huge {number}.png", is_bad=True).write_bytes(_png_that_claims(width, height))
    place("bad/huge.ppm", is_bad=True).write_bytes(b"P6 60000 60000 255\n")
    place("bad/text.tif", is_bad=True).write_text("no picture")
    place("bad/photo.heic", is_bad=True).write_bytes(b"\0\0\0\x18ftypheic")
    place("bad/drawing.eps", is_bad=True).write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    place("bad/gone.png", is_bad=True).symlink_to("nowhere.png")
    place("bad/loop.png", is_bad=True).symlink_to("loop.png")
    os.mkfifo(place("bad/pipe.png", is_bad=True))
    frames = [Image.fromarray(sample[:50, :50]) for sample in samples[:3]]
    frames[0].save(place("bad/pages.tif", is_bad=True), save_all=True, append_images=frames[1:])

    (folder / "folder.png").mkdir()  # and what is no image
    (folder / "notes.txt").write_text("x")
    (folder / "._whole.png").write_bytes(b"hidden")
    while written < _COUNT:
        good(f"more/{written:03d}.png")
    return bad


def _png_that_claims(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _finished(log: Path) -> list[str]:
    return log.read_text("ascii").splitlines()


def test_500_images_and_five_kills(tmp_path: Path) -> None:
    folder, output, log = tmp_path / "collection", tmp_path / "results", tmp_path / "log"
    bad = _collection(folder)
    log.touch()
    command = [sys.executable, "-c", _COMMAND, str(log), "batch", str(folder), "--model", "nuclei", "--device", "cpu"]
    command += ["--output", str(output), "--save", "panoptic", "labels"]
    rng = random.Random(18)  # what it meets depends on the machine's speed too
    starts = {0, 3}  # calls that are killed while they start
    for kill in range(_KILLS):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        if kill not in starts:
            goal = len(_finished(log)) + rng.randint(20, 110)
            while len(_finished(log)) < goal:
                assert process.poll() is None, process.communicate()[1].decode()
                time.sleep(0.001)
        time.sleep(rng.uniform(0, 6 if kill in starts else 0.1))
        process.kill()
        _, said = process.communicate()
        assert process.returncode == -signal.SIGKILL, said.decode()
    assert len(_finished(log)) < _COUNT
    last = subprocess.run(command, capture_output=True, check=False)
    assert last.returncode == 1, last.stderr.decode()

    rows = [row for path in sorted((output / "results").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    errors = [json.loads(line) for line in (output / "errors.jsonl").read_text("ascii").splitlines()]
    found = Counter(entry["image"] for entry in (*rows, *errors))
    listed = [p for p in folder.rglob("*") if p.suffix not in ("", ".txt") and not p.is_dir() and p.name[:2] != "._"]
    assert found == Counter(_key(str(path)) for path in listed)
    assert len(found) == _COUNT
    assert {error["image"] for error in errors} == {_key(path) for path in bad}
    assert all(error["error"].endswith(".") and "\n" not in error["error"] for error in errors), errors
    assert set(Counter(_finished(log)).values()) == {1}  # nothing that was finished was done again

    manifest = json.loads((output / "manifest.json").read_text("ascii"))
    assert (manifest["images"], manifest["errors"]) == (len(rows), len(bad))
    assert sum(shard["images"] for shard in manifest["shards"]) == len(rows)
    files = [dict(row["files"]) for row in rows]
    for kind in ("panoptic", "labels"):
        assert sorted(path for path in output.glob(f"{kind}/*/*")) == sorted(output / row[kind] for row in files)
    for row, names in zip(rows, files, strict=True):
        labels = np.asarray(Image.open(output / names["labels"]))
        assert labels.shape == (row["height"], row["width"])
        for segment in row["segments"]:
            mask = mask_of_counts(rle_counts(segment["rle"]), labels.shape)
            np.testing.assert_array_equal(mask, labels == segment["id"])


def _key(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
