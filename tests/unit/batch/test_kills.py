"""A batch run that is killed again and again: every image is finished exactly once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
pytest.importorskip("pyarrow")
pytest.importorskip("pycocotools")

_WORKER = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from panoptic_deeplab.batch import run, store
from panoptic_deeplab.batch.inputs import list_images
from panoptic_deeplab.inference.predictor import PanopticPredictor
model, images, output = sys.argv[1:]
predictor = PanopticPredictor.from_pretrained(model, device="cpu")
add = store.ResultStore.add
def logged(self, row):
    add(self, row)
    with open(output + ".log", "a") as file:
        file.write(repr(row["image"]) + "\\n")
store.ResultStore.add = logged
for _ in sys.stdin:
    child = os.fork()
    if child:
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    with store.ResultStore(Path(output), {"model": model}, shard_images=7) as results:
        run.run_batch(predictor, list_images([images]), results, pictures=("panoptic",))
        results.finish([])
    os._exit(0)
"""
"""Loads the model once; for each line that it gets, a process of its own goes on with the batch."""


@pytest.fixture(scope="module")
def images(make_collection: Callable[..., Path]) -> Path:
    """A hundred tiny images, with all that goes wrong in collections."""
    return make_collection(single=80, double=5)


def _lines(log: Path) -> list[str]:
    return log.read_text("utf-8").splitlines() if log.exists() else []


def test_five_kills_lose_and_repeat_nothing(images: Path, tiny_config: Config, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    categories = CategoryTable.load("synthetic")
    network = PanopticDeepLab(tiny_config.model, num_classes=len(categories))
    save_pretrained(tmp_path / "model", network, config=tiny_config, categories=categories)
    output, log, rng = tmp_path / "results", tmp_path / "results.log", random.Random(3)
    command = [sys.executable, "-c", _WORKER, str(tmp_path / "model"), str(images), str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        codes = []
        for _ in range(6):
            print("go", file=worker.stdin, flush=True)
            child = int(worker.stdout.readline())
            if len(codes) < 5:
                seen = len(_lines(log)) + rng.randint(1, 9)
                while len(_lines(log)) < seen:
                    time.sleep(0.002)
                time.sleep(rng.uniform(0.0, 0.02))
                os.kill(child, signal.SIGKILL)
            codes.append(int(worker.stdout.readline()))
    assert codes == [-signal.SIGKILL] * 5 + [0]

    rows = [row for path in sorted((output / "results").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    errors = [json.loads(line) for line in (output / "errors.jsonl").read_text("ascii").splitlines()]
    found = Counter(entry["image"] for entry in (*rows, *errors))
    expected = {
        str(path).encode("utf-8", "backslashreplace").decode()
        for path in images.rglob("*")
        if path.suffix and not path.is_dir()
    }
    assert found == Counter(expected)
    bad = {Path(entry["image"]).name for entry in errors}
    assert bad == {"empty.png", "corrupt.jpg", "cut.png", "huge.png", "link.png"}
    # a line of the log follows the sync of each result: nothing was predicted again that was finished
    assert set(Counter(_lines(log)).values()) == {1}
    manifest = json.loads((output / "manifest.json").read_text("ascii"))
    assert (manifest["images"], manifest["errors"]) == (len(rows), 5)
    assert (output / "pending.jsonl").read_text("ascii") == ""
    assert len(list(output.glob("panoptic/*/*.png"))) == len(rows)
    assert all((output / dict(row["files"])["panoptic"]).is_file() for row in rows)
    assert all(segment["rle"] for row in rows for segment in row["segments"])
