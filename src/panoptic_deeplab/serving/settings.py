"""What `panoptic-deeplab serve` is told, as one value for the service and its workers."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from panoptic_deeplab.config import Precision
from panoptic_deeplab.config.checks import check_fields
from panoptic_deeplab.errors import ConfigError

_NO_NAMES = ("best", "last")
"""Folders whose name says nothing; the folder above does."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Models, machine and limits."""

    models: dict[str, str] = field(default_factory=dict)
    """Name in the service -> what `PanopticPredictor.from_pretrained` takes."""
    device: str = "auto"
    precision: Precision = "float32"
    workers: int = 1
    threads: int | None = None
    """Of each worker; None = the cores divided among the workers."""
    batch_size: int | None = None
    """Images of one size that go through the network together; None = as measured at the start."""
    max_bytes: int = 20_000_000
    """Of a request's body."""
    max_pixels: int = 16_000_000
    queue: int = 16
    """Requests that wait for a worker."""
    concurrency: int = 64
    """Requests inside of the service: arriving, waiting, being computed, being sent."""
    max_seconds: float = 60.0
    """For a request, from its head to its answer."""
    kept_bytes: int = 256_000_000
    """Maps of recent images that each worker keeps, for other post-processing."""
    token: str | None = None
    cors_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        positive = "workers threads batch_size max_bytes max_pixels concurrency max_seconds"
        check_fields(self, "serve", positive=positive, at_least_0="queue kept_bytes")

    @property
    def threads_of_a_worker(self) -> int:
        """Cores that this process may use, divided: threads that fight for a core make each other wait."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.threads or max(1, cores // self.workers)


def named_models(models: tuple[str, ...]) -> dict[str, str]:
    """The names under which models are served.

    Args:
        models: each as `NAME=MODEL` or `MODEL`, whose name is then that of the file, the folder, or the folder above
            `best` and `last`; names of the zoo stay as they are.

    Raises:
        ConfigError: no model, or two of one name.
    """
    named: dict[str, str] = {}
    for text in models:
        name, equals, model = text.partition("=")
        if not equals:
            model, path = text, Path(text)
            name = text if not path.exists() else path.stem if path.is_file() else path.resolve().name
            if path.exists() and name in _NO_NAMES:
                name = Path(os.path.abspath(path)).parent.name  # noqa: PTH100 - `best` is a link
        if not name or not model:
            raise ConfigError(f"A model must be MODEL or NAME=MODEL. Got {text!r} instead.")
        if name in named:
            raise ConfigError(f"Two models have the name {name!r}. Name them: {name}-1={named[name]} {name}-2={model}")
        named[name] = model
    if not named:
        raise ConfigError("`serve` needs at least one model: a folder, a published name or an exported file. Got none.")
    return named
