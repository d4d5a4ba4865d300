"""`Pool`: the one queue of the service and the workers behind it.

Each worker is a process with its own models, and takes the next request when it is free. What nobody waits for any more
is taken out of the queue and never started. A process that dies is replaced, and its requests are told to come again.
"""

import asyncio
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from panoptic_deeplab.serving.jobs import Job, Reply
from panoptic_deeplab.serving.logs import log_as_json
from panoptic_deeplab.serving.options import ModelInfo
from panoptic_deeplab.serving.problems import Problem, fault, out_of_time
from panoptic_deeplab.serving.prometheus import Metrics
from panoptic_deeplab.serving.settings import Settings

logger = logging.getLogger(__name__)

_BATCH_WAIT = 0.003
"""Seconds that a batch waits for another image."""


@dataclass(eq=False)
class _Ticket:
    """A request that waits."""

    job: Job
    worker: int | None
    """The only one that can do it, or None."""
    future: asyncio.Future[Reply | Problem]
    since: float = field(default_factory=time.monotonic)


class Pool:
    """Workers, and what waits for them.

    Args:
        settings: those of the service.
        metrics: counts here.
        make_executor: gives what runs one worker; a process, or in tests a thread.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, make_executor: Callable[[], Executor] | None = None
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._make_executor = make_executor or _process
        self._executors: list[Executor] = []
        self._waiting: list[_Ticket] = []
        self._loops: list[asyncio.Task[None]] = []
        self._busy: set[int] = set()
        self._seconds_of_a_job = 1.0
        self.models: dict[str, ModelInfo] = {}
        """Name -> what there is, in order; empty before `load`."""
        self.workers_ready = 0

    def load(self) -> None:
        """Start the workers, and wait until all have opened the models.

        Raises:
            PanopticDeepLabError: a model cannot be opened.
        """
        self._executors = [self._make_executor() for _ in range(self._settings.workers)]
        opened = [e.submit(_open, self._settings, number) for number, e in enumerate(self._executors)]
        try:
            for future in opened:
                self.models = {info.name: info for info in future.result()}
        except BaseException:
            self.close()
            raise
        self._set_ready(len(opened))

    def close(self) -> None:
        """End the workers; those that compute finish first."""
        for executor in self._executors:
            executor.shutdown(wait=True, cancel_futures=True)
        self._set_ready(0)

    def start(self) -> None:
        """Begin to give out work, in the running event loop."""
        self._changed = asyncio.Event()
        self._loops = [asyncio.create_task(self._serve(number)) for number in range(len(self._executors))]

    async def stop(self) -> None:
        """Stop giving out work; nothing may wait any more."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def answer(
        self, job: Job, *, deadline: float, left: Callable[[], Coroutine[Any, Any, None]], worker: int | None = None
    ) -> Reply:
        """Wait in the queue, and for the answer.

        Args:
            job: what to do.
            deadline: moment of `time.monotonic` at which nobody waits any more.
            left: returns when the client has left.
            worker: the one that has the image.

        Raises:
            Problem: the queue is full, the time ran out, the client has left, or the worker's own.
        """
        self.check_room()
        ticket = _Ticket(job, worker, asyncio.get_running_loop().create_future())
        self._waiting.append(ticket)
        self._wake()
        leaving = asyncio.create_task(left())
        either: set[asyncio.Future[Any]] = {ticket.future, leaving}
        try:
            done, _ = await asyncio.wait(
                either, timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            leaving.cancel()
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                self._wake()
        if ticket.future in done:
            reply = ticket.future.result()
            if isinstance(reply, Problem):
                raise reply
            return reply
        ticket.future.cancel()
        raise Problem(499, "The client has left before its answer was ready.") if leaving in done else out_of_time()

    def check_room(self) -> None:
        """Refuse where the queue is full.

        Raises:
            Problem: says when to come again.
        """
        free = self.workers_ready - len(self._busy)
        if len(self._waiting) >= self._settings.queue + max(free, 0):
            seconds = self._seconds_of_a_job * (len(self._waiting) + 1) / self._settings.workers
            raise Problem(
                503,
                f"The queue is full: {len(self._waiting)} requests wait. Come again later.",
                {"Retry-After": str(min(max(1, math.ceil(seconds)), 60))},
            )

    async def _serve(self, number: int) -> None:
        """The life of one worker."""
        while True:
            tickets = await self._next(number)
            now = time.monotonic()
            for ticket in tickets:
                self._metrics.stage_seconds.labels("queue").observe(now - ticket.since)
            self._metrics.batch_images.observe(len(tickets))
            self._busy.add(number)
            died = None
            try:
                jobs = [ticket.job for ticket in tickets]
                replies = await asyncio.wrap_future(self._executors[number].submit(_answer, jobs))
            except BrokenExecutor:
                died = Problem(503, "The worker of this request ended unexpectedly. Try again.", {"Retry-After": "5"})
                replies = [died] * len(tickets)
            except Exception:
                logger.exception("A worker failed.")
                replies = [fault()] * len(tickets)
            finally:
                self._busy.discard(number)
            self._seconds_of_a_job += 0.1 * ((time.monotonic() - now) / len(tickets) - self._seconds_of_a_job)
            for ticket, reply in zip(tickets, replies, strict=True):
                if not ticket.future.done():
                    ticket.future.set_result(reply)
            if died is not None:
                await self._replace(number)

    async def _next(self, number: int) -> list[_Ticket]:
        """The oldest request that this worker can do, and with it some that can go through the network together."""
        while True:
            first = next(iter(self._eligible(number)), None)
            if first is not None:
                break
            self._changed.clear()
            await self._changed.wait()
        self._waiting.remove(first)
        tickets = [first]
        size = self.models[first.job.model].batch_size
        if size > 1 and first.job.image is not None:
            if len(self._waiting) < size - 1:
                await asyncio.sleep(_BATCH_WAIT)
            alike = [t for t in self._eligible(number) if t.job.image is not None and t.job.model == first.job.model]
            tickets += alike[: size - 1]
            self._waiting = [ticket for ticket in self._waiting if ticket not in tickets]
        self._metrics.waiting.set(len(self._waiting))
        return [ticket for ticket in tickets if not ticket.future.done()] or await self._next(number)

    def _eligible(self, number: int) -> list[_Ticket]:
        return [ticket for ticket in self._waiting if ticket.worker in (None, number)]

    def _wake(self) -> None:
        self._metrics.waiting.set(len(self._waiting))
        self._changed.set()

    async def _replace(self, number: int) -> None:
        logger.error("Worker %d ended unexpectedly and is started again.", number)
        self._metrics.worker_deaths.inc()
        self._set_ready(self.workers_ready - 1)
        while True:
            self._executors[number].shutdown(wait=False)
            self._executors[number] = self._make_executor()
            try:
                await asyncio.wrap_future(self._executors[number].submit(_open, self._settings, number))
                break
            except Exception:
                logger.exception("Worker %d could not be started; it is tried again.", number)
                await asyncio.sleep(5)
        self._set_ready(self.workers_ready + 1)

    def _set_ready(self, count: int) -> None:
        self.workers_ready = count
        self._metrics.workers_ready.set(count)


def _process() -> Executor:
    """One process that ends with this one, and leaves signals to it."""
    context = multiprocessing.get_context("spawn")  # a fork would copy threads of torch half
    return ProcessPoolExecutor(1, mp_context=context, initializer=_settle)


def _settle() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal and systemd send them to all processes
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    log_as_json()


_here = threading.local()
"""The worker of this process, or in tests of this thread."""


def _open(settings: Settings, number: int) -> list[ModelInfo]:
    from panoptic_deeplab.serving.worker import Worker  # brings torch, which the process that speaks HTTP does without

    _here.worker = Worker(settings, number)
    models: list[ModelInfo] = _here.worker.models()
    return models


def _answer(jobs: list[Job]) -> Any:
    return _here.worker.answer(jobs)
