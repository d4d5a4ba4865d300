"""`ask_actors`: put questions to actors on Ray Data, each of which holds a model, whatever dies meanwhile.

Ray Data spreads the questions, restarts an actor whose process has died, and puts its question to an actor again. Where
a machine is lost, its actors wait for another one; at the latest when the others have nothing left to do, they take
their places. A question whose process dies each time is given up, so that one image that kills a process (by a fault of
a library, or for want of memory) does not end the work of a cluster.

Ray connects to the cluster that `RAY_ADDRESS` names, or to the one that runs on this machine (`ray start`), and starts
on this machine where there is none, or where `RAY_ADDRESS` is `local`. All machines need this package, and paths mean
the same on all of them.
"""

import os
import pickle
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from panoptic_deeplab.errors import ClusterError, ConfigError, PanopticDeepLabError, first_line, quiet, require

Worker = Callable[[Any], Any]
"""Answers questions; lives in an actor."""

_PURPOSE = "Working on a cluster"

_OBJECT_STORE = 512 * 2**20
"""Bytes of shared memory for questions and answers on their way, where Ray is started here. Its default would be 30 %
of the machine."""

_ANSWERS_WITHIN = 10.0
"""Seconds."""

_GIVEN_UP = "given up"
"""The answer to a question whose processes die. No worker gives it."""


@contextmanager
def on_ray(actors: int | None = None) -> Iterator[None]:
    """Connect to Ray, or start it here, without a dashboard and without statistics of use; leave it at the end.

    Args:
        actors: so many processors has a Ray that is started here; None = those of the machine.

    Raises:
        ConfigError: `RAY_ADDRESS` names no cluster.
        ClusterError: the Ray that runs on this machine cannot be used.
        MissingDependencyError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else its core writes to stderr what is no fault
    ray = require("ray", extra="ray", purpose=_PURPOSE)
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "")
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    here = how | {"num_cpus": actors, "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
    if address == "local":
        ray.init(address="local", **here)
    else:
        try:
            _check_answers(address)
            ray.init(address=address or "auto", **how)
        except (OSError, RuntimeError, ValueError) as error:
            if address:
                raise ConfigError(
                    f"There is no Ray cluster at RAY_ADDRESS={address} ({first_line(error)}). Name the address that"
                    " `ray start --head` prints, or `local` for this machine alone."
                ) from error
            if not isinstance(error, ConnectionError):  # there is one, of another version
                raise ClusterError(
                    f"The Ray that runs on this machine cannot be used ({first_line(error)}). Stop it with `ray stop`,"
                    " or set RAY_ADDRESS=local."
                ) from error
            ray.init(address="local", **here)
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """See that something listens at `HOST:PORT`, since Ray tries for minutes; other addresses are not looked at.

    Raises:
        OSError: nothing does.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=_ANSWERS_WITHIN).close()


def places(device: str) -> tuple[int, int]:
    """How many actors the cluster has room for, one a GPU or one a processor, and the GPUs of each, 1 or 0.

    Args:
        device: the option: `cpu`, `cuda`, or `auto` = GPUs where the cluster has any.

    Raises:
        ConfigError: a GPU is named by its number.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"`device` must be `cpu`, `cuda` or `auto` on Ray, which deals out the GPUs. Got {device!r}.")
    there = require("ray", extra="ray", purpose=_PURPOSE).cluster_resources()
    on_gpu = device == "cuda" or (device == "auto" and there.get("GPU", 0) >= 1)
    return max(1, int(there.get("GPU" if on_gpu else "CPU", 1))), int(on_gpu)


def ask_actors(
    make: Callable[[], Worker], questions: Sequence[Any], *, actors: int, gpus: int = 0, tries: int = 2
) -> Iterator[tuple[int, Any]]:
    """Yield answers as they come, each with the number of its question; those of questions given up are missing.

    Args:
        make: makes what answers; is called in each actor. What it is made of travels there by pickle, as all does that
            goes through Ray.
        questions: anything that can be pickled, of some seconds of work each.
        actors: processes.
        gpus: GPUs of each.
        tries: a question is given up when so many processes that began to answer it have died.

    Raises:
        ClusterError: Ray gave up; or `make` or a worker raised what is not an error of this package.
        PanopticDeepLabError: `make` or a worker raised it.
    """
    ray = require("ray", extra="ray", purpose=_PURPOSE)
    data = require("ray.data", extra="ray", purpose=_PURPOSE)
    if not questions:
        return
    affinity = require("ray.util.scheduling_strategies", extra="ray", purpose=_PURPOSE).NodeAffinitySchedulingStrategy
    here = affinity(ray.get_runtime_context().get_node_id(), soft=True)  # this machine lives as long as the work
    begun = ray.remote(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1)(_Begun).remote()
    with quiet("ray", "ray.data"):
        rows = data.from_items(
            [{"number": number, "question": pickle.dumps(question)} for number, question in enumerate(questions)],
            override_num_blocks=len(questions),
        )
        answers = rows.map_batches(
            _Actor,
            fn_constructor_args=(make, begun, tries),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(actors, len(questions))),
            num_cpus=1,
            num_gpus=gpus,
        )
        answers.context.enable_progress_bars = False
        seen: set[int] = set()
        try:
            for block in answers.iter_batches(batch_size=None, prefetch_batches=0):
                for number, packed in zip(block["number"].tolist(), block["answer"], strict=True):
                    answer = pickle.loads(packed)
                    if isinstance(answer, Exception):
                        raise answer
                    if number not in seen and answer != _GIVEN_UP:
                        seen.add(number)
                        yield number, answer
        except ray.exceptions.RayError as error:
            raise ClusterError(f"Ray has given up ({first_line(error)}). What was done is kept.") from error


class _Begun:
    """Counts, in a process of its own that outlives the actors, how often a question was begun."""

    def __init__(self) -> None:
        self._times: dict[int, int] = {}

    def again(self, number: int) -> int:
        """Count once more, and give how often it was begun before."""
        before = self._times.get(number, 0)
        self._times[number] = before + 1
        return before


class _Actor:
    """Holds what answers.

    Args:
        make: as for `ask_actors`.
        begun: handle of the `_Begun`.
        tries: as for `ask_actors`.
    """

    def __init__(self, make: Callable[[], Worker], begun: Any, tries: int) -> None:
        self._begun, self._tries = begun, tries
        self._failure: Exception | None = None
        try:
            self._worker = make()
        except Exception as error:  # Ray would try to make it again and again
            self._failure = _told(error)

    def __call__(self, block: Mapping[str, Any]) -> dict[str, list[Any]]:
        (number,), (question,) = block["number"].tolist(), block["question"]
        return {"number": [number], "answer": [pickle.dumps(self._answer(number, question))]}

    def _answer(self, number: int, question: bytes) -> Any:
        if self._failure is not None:
            return self._failure
        import ray

        if ray.get(self._begun.again.remote(number)) >= self._tries:
            return _GIVEN_UP
        try:
            return self._worker(pickle.loads(question))
        except Exception as error:
            return _told(error)


def _told(error: Exception) -> Exception:
    """The error in a form that travels: one of this package as it is."""
    if not isinstance(error, PanopticDeepLabError):
        error_of_ours = ClusterError(f"An actor has failed ({type(error).__name__}: {first_line(error)}).")
        error_of_ours.add_note("".join(traceback.format_exception(error)))
        return error_of_ours
    return error
