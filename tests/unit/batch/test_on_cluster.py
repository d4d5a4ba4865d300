"""A cluster of three machines on this one, where a process, a machine and the run itself are killed on the way."""

import ast
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.batch.evaluate_on_ray import Evaluated, evaluate_on_ray
from panoptic_deeplab.batch.inputs import list_images
from panoptic_deeplab.batch.keep import Progress
from panoptic_deeplab.batch.on_ray import run_on_ray
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.evaluation.evaluate import evaluate
from panoptic_deeplab.inference.predictor import PanopticPredictor

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")]


class Machines:
    """The cluster: one machine leads, two have a processor each."""

    def __init__(self) -> None:
        memory = {"object_store_memory": 80 * 2**20}
        self._cluster = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory}
        )
        self.workers = [self._cluster.add_node(num_cpus=1, **memory) for _ in range(2)]
        ray.init(address=self._cluster.address, log_to_driver=False, logging_level="error")

    def lose(self) -> None:
        """Kill one with all its processes."""
        self._cluster.remove_node(self.workers.pop(), allow_graceful=False)

    def close(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors cannot import this file
    machines = Machines()
    yield machines
    machines.close()


@pytest.fixture(scope="module")
def images(make_collection: Callable[..., Path]) -> Path:
    """Five hundred tiny images, with all that goes wrong in collections."""
    return make_collection(single=470, double=10, more=("deadly.png", "a/deadly.png"))


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


class StoppedError(Exception):
    """The run ends here."""


def test_each_image_is_once_in_results_or_errors(
    images: Path, tiny_model: Path, machines: Machines, tmp_path: Path
) -> None:
    log = tmp_path / "predicted"

    def load() -> PanopticPredictor:
        predictor = PanopticPredictor.from_pretrained(tiny_model, device="cpu")
        ready = predictor.ready

        def logged(image: Path) -> Any:
            if "deadly" in image.name:
                os.kill(os.getpid(), signal.SIGKILL)
            with log.open("a", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {str(image)!r}\n")
            return ready(image)

        predictor.ready = logged  # type: ignore[method-assign]
        return predictor

    events: list[tuple[int, Callable[[], None]]] = []

    def on_progress(progress: Progress) -> None:
        if events and progress.done >= events[0][0]:
            events.pop(0)[1]()

    def kill_a_process() -> None:
        os.kill(int(_lines(log)[-1].split()[0]), signal.SIGKILL)

    def stop() -> None:
        raise StoppedError

    items = list_images([str(images)])
    finished: set[str] = set()
    events[:] = [(60, kill_a_process), (150, stop)]
    with pytest.raises(StoppedError), ResultStore(tmp_path / "out", {}, shard_images=100) as store:
        run_on_ray(load, items, store, actors=2, pictures=("labels",), on_progress=on_progress)
    before = len(_lines(log))
    events[:] = [(250, machines.lose), (330, kill_a_process)]
    with ResultStore(tmp_path / "out", {}, shard_images=100) as store:
        finished |= store.finished
        assert 150 <= len(finished) < 250
        run_on_ray(load, items, store, actors=2, pictures=("labels",), on_progress=on_progress)
        store.finish([])
    assert not events

    shards = [pq.read_table(path).to_pylist() for path in sorted((tmp_path / "out" / "results").glob("*.parquet"))]
    assert [len(shard) for shard in shards] == [100] * 4 + [len(shards[-1])]
    rows = [row for shard in shards for row in shard]
    errors = [json.loads(line) for line in _lines(tmp_path / "out" / "errors.jsonl")]
    assert Counter(entry["image"] for entry in (*rows, *errors)) == Counter(item.key for item in items)
    bad = {Path(error["image"]).name: error["error"] for error in errors}
    assert set(bad) == {"empty.png", "corrupt.jpg", "cut.png", "huge.png", "link.png", "deadly.png"}
    assert len(errors) == 7
    assert "ended each process that predicted it" in bad["deadly.png"]
    assert all((tmp_path / "out" / dict(row["files"])["labels"]).is_file() for row in rows)
    # the second run has asked for no image that was finished
    again = {ast.literal_eval(line.partition(" ")[2]) for line in _lines(log)[before:]}
    assert not again & {item.place for item in items if item.key in finished}


def test_an_evaluation_survives_the_death_of_a_process_and_of_a_machine(
    tiny_model: Path, machines: Machines, tmp_path: Path
) -> None:
    log = tmp_path / "processes"

    def load() -> Evaluated:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return Evaluated(
            PanopticPredictor.from_pretrained(tiny_model, device="cpu"), SyntheticSource(200, seed=5, size=(48, 64))
        )

    here, config = load(), EvaluationConfig(num_pictures=2)
    log.unlink()
    done: list[int] = []

    def on_image(count: int, total: int) -> None:
        done.append(count)
        if len(done) == 2:
            os.kill(int(_lines(log)[-1]), signal.SIGKILL)
        if len(done) == 5:
            machines.lose()

    shared = evaluate_on_ray(load, here, config=config, actors=2, on_image=on_image).to_json()
    local = evaluate(here.predictor, here.source, config=config).to_json()
    assert local["semantic"]["pixel_accuracy"] > 0
    for part in ("semantic", "instances", "num_images"):
        assert shared[part] == local[part]
    for group in ("all", "things", "stuff"):
        assert shared["panoptic"][group] == pytest.approx(local["panoptic"][group], rel=1e-12)
    assert done[-1] == 200
    assert len(_lines(log)) > 2
