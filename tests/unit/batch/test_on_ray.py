"""Work on a Ray that is started here: what comes back, what becomes of errors and deaths, and the two verbs."""

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.batch.actors import ask_actors, on_ray, places
from panoptic_deeplab.batch.inputs import list_images
from panoptic_deeplab.batch.on_ray import run_on_ray
from panoptic_deeplab.batch.run import run_batch
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.errors import ClusterError, ConfigError, ImageError
from panoptic_deeplab.inference.predictor import PanopticPredictor

ray = pytest.importorskip("ray")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")  # it warns itself of its own settings


@pytest.fixture(scope="module", autouse=True)
def _here() -> Iterator[None]:
    """One for all tests of the file, since it takes seconds to start. Actors cannot import this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        patch.setattr("panoptic_deeplab.batch.actors._OBJECT_STORE", 80 * 2**20)
        with on_ray(2):
            yield


def _maker(worker: Callable[[Any], Any]) -> Callable[[], Callable[[Any], Any]]:
    """What gives `worker`."""
    return functools.partial(lambda worker: worker, worker)


def test_a_question_that_kills_is_given_up_and_all_others_are_answered_once(tmp_path: Path) -> None:
    def answer(question: int) -> tuple[int, int]:
        if question == 3:
            with (tmp_path / "tried").open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return question**2, os.getpid()

    answers = list(ask_actors(_maker(answer), range(8), actors=2, tries=2))
    assert sorted((number, square) for number, (square, _) in answers) == [(n, n * n) for n in range(8) if n != 3]
    assert os.getpid() not in {process for _, (_, process) in answers}
    assert (tmp_path / "tried").read_text() == "xx"


def test_errors_travel() -> None:
    def answer(question: int) -> int:
        raise (ImageError("a.png is no image.") if question else ZeroDivisionError("division by zero"))

    with pytest.raises(ImageError, match=r"a\.png is no image"):
        list(ask_actors(_maker(answer), [1], actors=1))
    with pytest.raises(ClusterError, match=r"An actor has failed \(ZeroDivisionError: division by zero\)") as caught:
        list(ask_actors(_maker(answer), [0], actors=1))
    assert "in answer" in caught.value.__notes__[0]

    def make() -> Callable[[Any], Any]:
        raise ConfigError("There is no such model.")

    with pytest.raises(ConfigError, match="no such model"):
        list(ask_actors(make, [0], actors=1))


def test_places() -> None:
    assert places("cpu") == places("auto") == (2, 0)
    with pytest.raises(ConfigError, match="`device` must be `cpu`, `cuda` or `auto` on Ray"):
        places("cuda:1")


def test_results_are_those_without_ray(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "наклон", "d", "e"):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "empty.png").touch()
    monkeypatch.chdir(tmp_path)  # relative names are the keys, wherever an actor runs
    items = list_images(["in"])

    def load() -> PanopticPredictor:
        return PanopticPredictor.from_pretrained(tiny_model, device="cpu")

    done = []
    for folder in ("ray", "local"):
        with ResultStore(tmp_path / folder, {}, shard_images=3) as store:
            if folder == "ray":
                run_on_ray(load, items, store, actors=1, pictures=("panoptic",), on_progress=done.append)
            else:
                run_batch(load(), items, store, pictures=("panoptic",))
            store.finish([])
    assert [progress.done for progress in done] == list(range(1, 7))
    rows: dict[str, list[dict[str, Any]]] = {}
    for folder in ("ray", "local"):
        shards = [pq.read_table(path).to_pylist() for path in sorted((tmp_path / folder / "results").iterdir())]
        assert [len(shard) for shard in shards] == [3, 2]
        rows[folder] = sorted((row for shard in shards for row in shard), key=lambda row: row["image"])
    assert rows["ray"] == rows["local"]
    assert rows["ray"][0]["image"] == str(Path("in", "a.png"))
    for row in rows["ray"]:
        ((_, picture),) = row["files"]
        assert (tmp_path / "ray" / picture).read_bytes() == (tmp_path / "local" / picture).read_bytes()
    errors = [(tmp_path / folder / "errors.jsonl").read_text() for folder in ("ray", "local")]
    assert "empty.png is corrupt or no image" in errors[0]
    assert errors[0].replace(f"{tmp_path}/", "") == errors[1]
