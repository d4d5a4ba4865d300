"""`Keeper`: what a run does with the outcome of each image, wherever it was predicted."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from panoptic_deeplab.batch.inputs import Item, UnreachableError
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.files import written_whole

Picture = Literal["panoptic", "labels"]
"""PNG files beside the tables: ids as COCO's panoptic format has them, or as numbers of 16 (else 32) bits."""

_MOST_UNREACHABLE = 10
"""Images one after another whose place does not answer, after which a run stops instead of calling all others bad."""


class Outcome(NamedTuple):
    """What became of an image; it can be pickled."""

    item: Item
    row: dict[str, Any] | None
    """For `ResultStore.add`, without the places of the pictures; None where it could not be predicted."""
    pictures: dict[Picture, bytes]
    """PNG files by kind."""
    error: str
    """Why there is no row."""
    is_unreachable: bool = False
    """Whether there is no row because the place of the image did not answer."""


class Progress(NamedTuple):
    """How far a run has come."""

    done: int
    """Images that are finished, those of earlier calls too."""
    total: int
    errors: int
    """Images without a result, among these."""
    per_second: float
    """Images a second of this call; 0 before the first."""

    @property
    def seconds_left(self) -> float | None:
        """At this speed; None before the first image."""
        return (self.total - self.done) / self.per_second if self.per_second > 0 else None


class Keeper:
    """Writes outcomes into a store, each image once, and says how far it is.

    Args:
        store: open.
        items: all images of the job.
        on_progress: is called after each image.
    """

    def __init__(self, store: ResultStore, items: Sequence[Item], on_progress: Callable[[Progress], None]) -> None:
        self._store, self._items, self._on_progress = store, items, on_progress
        keys = {item.key for item in items}
        self._total, self._before = len(keys), len(keys & store.finished)
        self._count, self._start = 0, time.monotonic()
        self._unreachable = 0

    def left(self) -> list[Item]:
        """The images that are not finished."""
        return [item for item in self._items if item.key not in self._store.finished]

    def keep(self, outcomes: Sequence[Outcome], *, is_last_try: bool) -> None:
        """Write outcomes; then their images are finished, and an outcome that comes a second time is dropped.

        Args:
            outcomes: in the order in which they came.
            is_last_try: whether an image whose place does not answer is a bad one; else it stays unfinished.

        Raises:
            OutputError: the system refuses to write.
            UnreachableError: many images one after another cannot be had; nothing is noted of them.
        """
        rows, done = [], 0
        stop: UnreachableError | None = None
        for outcome in outcomes:
            self._unreachable = self._unreachable + 1 if outcome.is_unreachable else 0
            if outcome.item.key in self._store.finished:
                continue
            if outcome.is_unreachable and not is_last_try:
                if self._unreachable >= _MOST_UNREACHABLE:
                    stop = UnreachableError(
                        f"{self._unreachable} images one after another cannot be had: {outcome.error} Call again when"
                        " their place answers; what is finished stays so."
                    )
                    break
                continue
            if outcome.row is None:
                self._store.add_error(outcome.item.key, outcome.error)
            else:
                rows.append(outcome.row | {"files": self._written(outcome)})
            done += 1
        if rows:
            self._store.add(*rows)
        for _ in range(done):
            self._count += 1
            per_second = self._count / max(time.monotonic() - self._start, 1e-9)
            self._on_progress(Progress(self._before + self._count, self._total, self._store.num_errors, per_second))
        if stop is not None:
            raise stop

    def _written(self, outcome: Outcome) -> dict[str, str]:
        """Write the pictures, and give their places, relative to the store's folder."""
        files: dict[str, str] = {}
        for kind, content in outcome.pictures.items():
            path = self._store.picture(kind, outcome.item.key, outcome.item.stem)
            with written_whole(path) as temporary:
                temporary.write_bytes(content)
            files[kind] = path.relative_to(self._store.folder).as_posix()
        return files
