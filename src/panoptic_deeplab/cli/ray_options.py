"""The options of verbs that run in this process or on Ray."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from panoptic_deeplab.cli.inference_options import InferenceVerb
from panoptic_deeplab.cli.terminal import prints_on_stderr
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import user_path

if TYPE_CHECKING:
    from panoptic_deeplab.inference.predictor import PanopticPredictor


@dataclass(frozen=True, kw_only=True)
class RunsOnRay(InferenceVerb):
    """A verb whose work many processes can share."""

    runner: Literal["local", "ray"] = "local"
    """local: this process. ray: processes on all machines of the Ray cluster that RAY_ADDRESS names or that runs on
    this machine, else on this machine alone. Images, data and model must have the same paths on all machines."""
    actors: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: all there is room for)")] = (
        None
    )
    """Processes that hold the model, with --runner ray: each has one GPU where --device is cuda, or where it is auto
    and the cluster has GPUs, else one processor."""

    def check_runner(self) -> None:
        """Refuse what does not go together.

        Raises:
            ConfigError: it does not.
        """
        if self.actors is None:
            return
        if self.runner != "ray":
            raise ConfigError("`actors` is for --runner ray. Leave it out, or add --runner ray.")
        if self.actors < 1:
            raise ConfigError(f"`actors` must be positive. Got {self.actors} instead.")

    @contextmanager
    def cluster(self) -> Iterator[tuple[int, int]]:
        """Ray, and how many actors there are to be, with how many GPUs each. What Ray prints goes to stderr.

        Raises:
            ConfigError, MissingDependencyError: as for `on_ray` and `places`.
        """
        from panoptic_deeplab.batch.actors import on_ray, places

        with prints_on_stderr(), on_ray(self.actors):
            room, gpus = places(self.device)
            yield self.actors or room, gpus

    def models_anywhere(self) -> tuple[str, ...]:
        """The models as processes in other folders name them: files from the root."""
        paths = [(name, user_path(name)) for name in self.model]
        return tuple(str(path.absolute()) if path.exists() else name for name, path in paths)

    def load_here(self) -> "PanopticPredictor":
        """The model in the process that only leads the actors, whose machine need not have their devices.

        Raises:
            CheckpointError, ConfigError: as for `load_predictor`.
        """
        return replace(self, precision="float32", compile=False).load_predictor(device="cpu")

    def loader(self, gpus: int) -> "Callable[[], PanopticPredictor]":
        """What loads the model in an actor.

        Args:
            gpus: those of the actor.
        """
        return functools.partial(
            replace(self, model=self.models_anywhere()).load_predictor, device="cuda" if gpus else "cpu"
        )
