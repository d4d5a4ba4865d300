"""The published models of other implementations: `zoo.json` as objects.

A model names the packaged recipe that has its whole configuration: every choice that changes the outputs is a field
there, with its source. `zoo.json` has what a recipe does not say: where the weights are, what their authors reported,
and how far the conversion was checked.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import read_json
from panoptic_deeplab.weights.download import cache_folder

_VERIFICATION = {
    "recorded outputs": "Outputs agree with a recording of the original code.",
    "names and shapes": (
        "All names and shapes of weights are those of the original code; outputs are not verified against it."
    ),
    None: "Not verified against a recording of the original code.",
}


@dataclass(frozen=True, kw_only=True)
class ZooModel:
    """A model of another implementation, whose weights are published or can be trained there."""

    name: str
    """`FAMILY/MODEL`, as for `convert --from`."""
    recipe: str
    """The packaged recipe that has its configuration."""
    dataset: str
    """What it was trained and measured on: name of a category table."""
    backbone: str
    parameters: int
    """Numbers that training changes."""
    reported: dict[str, float]
    """PQ, SQ, RQ, AP, mIoU in [0, 1] on the validation split, as its authors report them; not measured here."""
    note: str | None
    """How to read these numbers."""
    license: str
    page: str
    """Where the authors describe it."""
    url: str | None
    """URL of the file; None if none is published, and `convert` takes what somebody trained."""
    verified: Literal["recorded outputs", "names and shapes"] | None
    """What of it was compared with the original code."""

    @property
    def family(self) -> str:
        """The implementation."""
        return self.name.partition("/")[0]

    @property
    def config(self) -> Config:
        """The complete configuration."""
        return load_config(self.recipe)

    @property
    def verification(self) -> str:
        """How far the conversion has been checked, as a sentence."""
        return _VERIFICATION[self.verified]

    @property
    def is_on_google_drive(self) -> bool:
        """Whether only a browser gets the file."""
        return self.url is not None and self.url.startswith("https://drive.google.com/")

    @property
    def folder(self) -> Path:
        """Its folder in the cache."""
        return cache_folder() / "zoo" / self.name

    @property
    def is_in_cache(self) -> bool:
        """Whether it can be used without a network."""
        return (self.folder / "model").is_dir()

    @property
    def record_file(self) -> Path:
        """Where the first download is recorded, in the cache."""
        return self.folder / "record.json"

    @property
    def size(self) -> int | None:
        """Bytes of the file, as the first download recorded them; None before that."""
        return read_record(self).get("size")


@dataclass(frozen=True, kw_only=True)
class UnsupportedFamily:
    """Published checkpoints that are not read here."""

    family: str
    models: tuple[str, ...]
    reason: str
    page: str


@cache
def zoo_models() -> dict[str, ZooModel]:
    """All models by name."""
    return {row["name"]: ZooModel(**row) for row in _read_list()["models"]}


@cache
def unsupported_families() -> tuple[UnsupportedFamily, ...]:
    """What is published elsewhere and not read here, with the reason."""
    return tuple(UnsupportedFamily(**row | {"models": tuple(row["models"])}) for row in _read_list()["unsupported"])


def is_zoo_family(name: str) -> bool:
    """Whether the first part of a name is one of the zoo's."""
    return name.partition("/")[0] in {model.family for model in zoo_models().values()}


def read_record(model: ZooModel) -> dict[str, Any]:
    """What was recorded at the first download; empty before that.

    Raises:
        CheckpointError: it cannot be read.
    """
    if not model.record_file.exists():
        return {}
    try:
        record: Any = read_json(model.record_file, what="record of a download", error=CheckpointError)
    except CheckpointError as error:
        raise CheckpointError(f"{str(error).removesuffix('.')}; delete it.") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{model.record_file} is no record of a download; delete it.")
    return record


def _read_list() -> Any:
    return read_json(resources.files(__package__) / "zoo.json", what="list of models", error=CheckpointError)
