"""Work on a Ray that is started here: what comes back, what becomes of errors and deaths, and the two verbs."""

import dataclasses
import functools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.batch.actors import ask_actors, on_ray, places
from panoptic_deeplab.batch.evaluate_on_ray import Evaluated, evaluate_on_ray
from panoptic_deeplab.batch.inputs import list_images
from panoptic_deeplab.batch.on_ray import run_on_ray
from panoptic_deeplab.batch.run import run_batch
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.cli import main
from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.errors import ClusterError, ConfigError, ImageError
from panoptic_deeplab.evaluation.evaluate import evaluate
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.results.panoptic_result import PanopticResult

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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "nonsense"])
def test_an_address_without_a_cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        monkeypatch.setenv("RAY_ADDRESS", address.format(port=unused.getsockname()[1]))
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        with pytest.raises(ConfigError, match="There is no Ray cluster at RAY_ADDRESS="), on_ray():
            pass


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


class Shifted:
    """Predicts the truth, moved to the side by up to two pixels."""

    def __init__(self, source: SyntheticSource) -> None:
        self.categories = source.categories
        self._truth = {
            source[index].image.tobytes(): source[index].truth(source.categories) for index in range(len(source))
        }

    def predict(self, image: np.ndarray) -> PanopticResult:
        truth = self._truth[image.tobytes()]
        moved = np.roll(truth.panoptic_map, len(truth.segments_info) % 3, 1)
        result = PanopticResult.from_maps(moved, {s.id: s.category_id for s in truth.segments_info}, self.categories)
        scored = [dataclasses.replace(segment, score=1 / segment.id) for segment in result.segments_info]
        return dataclasses.replace(result, segments_info=scored)


def check_equal(shared: dict[str, Any], local: dict[str, Any]) -> None:
    """See that two reports have the same numbers, PQ to 12 digits."""
    for group in ("all", "things", "stuff"):
        assert shared["panoptic"][group] == pytest.approx(local["panoptic"][group], rel=1e-12)
    for rows in zip(shared["panoptic"]["per_class"], local["panoptic"]["per_class"], strict=True):
        numbers = [{name: value for name, value in row.items() if not isinstance(value, str)} for row in rows]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-12)
    for part in ("semantic", "instances", "num_images"):
        assert shared[part] == local[part]
    assert set(shared["seconds"]) == set(local["seconds"])


@pytest.mark.parametrize("is_real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_evaluation_is_that_of_one_process(is_real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_real:  # all but Ray itself: two actors in this process, which answer in turns

        def ask(make: Callable[[], Any], questions: list[list[int]], **_: Any) -> Iterator[tuple[int, Any]]:
            actors = [make(), make()] if questions else []
            for number in reversed(range(len(questions))):
                _, part = actors[number % 2](questions[number])
                yield number, (f"process {number % 2}", part)

        monkeypatch.setattr("panoptic_deeplab.batch.evaluate_on_ray.ask_actors", ask)

    def load() -> Evaluated:
        source = SyntheticSource(13, seed=4, size=(48, 64))
        return Evaluated(Shifted(source), source)

    here, config = load(), EvaluationConfig(num_pictures=3)
    local = evaluate(here.predictor, here.source, config=config)
    done: list[int] = []
    shared = evaluate_on_ray(load, here, config=config, actors=2, on_image=lambda count, total: done.append(count))
    assert 0 < local.metric("PQ") < 1
    assert 0 < local.metric("AP") < 1
    check_equal(shared.to_json(), local.to_json())
    assert shared.images == local.images
    for kind in ("pictures", "worst"):
        names = [[picture.image_id for picture in getattr(report, kind)] for report in (shared, local)]
        assert names[0] == names[1]
        assert len(names[0]) == 3
    assert shared.provenance["processes"] == 2
    assert (done[-1], sorted(done)) == (13, done)


@pytest.mark.slow
def test_the_verb_evaluates_on_ray(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco_panoptic(SyntheticSource(5, seed=1, size=(48, 64)), tmp_path / "set", "val")
    monkeypatch.chdir(tmp_path)  # actors run in another folder
    where = ("--data.format", "coco_panoptic", "--data.root", "set", "--split", "val")
    reports = []
    for runner in (("local",), ("ray",)):
        main(["evaluate", "--model", str(tiny_model), *where, "--json", "--runner", *runner])
        reports.append(json.loads(capsys.readouterr().out))
    local, shared = reports
    assert local["semantic"]["pixel_accuracy"] > 0
    check_equal(shared, local)
    assert (shared["provenance"]["models"], shared["provenance"]["device"]) == ([str(tiny_model)], "cpu")


@pytest.mark.slow
def test_stdout_is_the_document_alone_whatever_ray_says(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> PanopticPredictor:
        predictor = PanopticPredictor.from_pretrained(tiny_model, device="cpu")
        ready = predictor.ready

        def or_die(image: Path) -> Any:
            if image.stem == "deadly":
                os.kill(os.getpid(), signal.SIGKILL)
            return ready(image)

        predictor.ready = or_die  # type: ignore[method-assign]
        return predictor

    monkeypatch.setattr("panoptic_deeplab.cli.ray_options.RunsOnRay.loader", lambda verb, gpus: load)
    for name in ("a", "deadly"):
        Image.new("RGB", (40, 30), "gray").save(tmp_path / f"{name}.png")
    how = ("--model", str(tiny_model), "--output", str(tmp_path / "out"), "--runner", "ray", "--json")
    with pytest.raises(SystemExit) as stopped:
        main(["batch", str(tmp_path / "a.png"), str(tmp_path / "deadly.png"), *how])
    captured = capsys.readouterr()
    assert stopped.value.code == 1
    assert (json.loads(captured.out)["images"], json.loads(captured.out)["errors"]) == (1, 1)
    assert "1 of 2 images could not be predicted" in captured.err


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--actors", "2"), "is for --runner ray"), (("--runner", "ray", "--actors", "0"), "must be positive")],
)
def test_options_that_do_not_go_together(
    options: tuple[str, ...], message: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--model", str(tiny_model), *options])
    assert message in capsys.readouterr().err
