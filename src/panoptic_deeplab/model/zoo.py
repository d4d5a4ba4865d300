"""The zoo: models of other implementations by name; `zoo_model` makes a model folder of a published checkpoint.

`zoo.json` lists them, with what their authors reported. In the cache (`download.cache_folder`) a model has

    zoo/detectron2/R52_os16_dsconv/
    ├── download/model_final_23d03a.pkl    as published; files from Google Drive are put here by hand
    ├── record.json                        size and checksum at the first download, which later ones must have
    └── model/                             converted: a model folder
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from filelock import FileLock

from panoptic_deeplab import __version__
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import CheckpointError, did_you_mean
from panoptic_deeplab.model.card import Results, model_card
from panoptic_deeplab.model.download import Progress, cache_folder, download, sha256_of

_ARCHIVES = (".pth", ".pkl", ".tar.gz")
"""What published files are called."""


@dataclass(frozen=True, kw_only=True)
class ZooModel:
    """A model of another implementation, whose weights are published or can be trained there."""

    name: str
    """`FAMILY/MODEL`, as for `convert --from`."""
    dataset: str
    """What it was trained and measured on: name of a category table."""
    backbone: str
    parameters: int
    """Numbers that training changes."""
    reported: dict[str, float]
    """PQ, SQ, RQ, AP, mIoU in [0, 1] on the validation split, as its authors report them; not measured here."""
    note: str | None
    """How to read these numbers."""
    licence: str
    page: str
    """Where the authors describe it."""
    url: str | None
    """Of the file; None = none is published, and `convert` takes what somebody trained."""

    @property
    def family(self) -> str:
        """The implementation."""
        return self.name.partition("/")[0]

    @property
    def is_on_google_drive(self) -> bool:
        """Whether only a browser gets the file."""
        return self.url is not None and self.url.startswith("https://drive.google.com/")

    @property
    def folder(self) -> Path:
        """In the cache."""
        return cache_folder() / "zoo" / self.name

    @property
    def is_in_cache(self) -> bool:
        """Whether it can be used without a network."""
        return (self.folder / "model").is_dir()

    @property
    def record_file(self) -> Path:
        """In the cache."""
        return self.folder / "record.json"

    @property
    def size(self) -> int | None:
        """Bytes of the file, as the first download recorded them; None before that."""
        return _read_record(self).get("size")


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


def zoo_model(name: str, *, progress: Progress | None = None) -> Path:
    """The model folder of a published checkpoint; downloaded and converted the first time.

    Args:
        name: `FAMILY/MODEL`.
        progress: called with bytes that have arrived and bytes of the whole file.

    Raises:
        CheckpointError: there is no such model; it cannot be had (the message says what to do); the file is not the one
            of the first download; or it cannot be converted.
    """
    if name not in zoo_models():
        raise CheckpointError(_unknown(name))
    return fetch(zoo_models()[name], progress=progress)


def fetch(model: ZooModel, *, progress: Progress | None = None) -> Path:
    """What `zoo_model` does, for any entry."""
    if model.url is None:
        raise CheckpointError(
            f"No weights of {model.name} are published. Convert those that you trained with:"
            f" panoptic-deeplab convert CHECKPOINT --from {model.name} --output FOLDER"
        )
    model.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(model.folder / ".lock"):  # the processes of torchrun ask at the same time
        folder = model.folder / "model"
        record = _read_record(model)
        if folder.is_dir() and record.get("converted_by") == __version__:
            return folder
        file = _published_file(model, model.url, progress)
        found = {"url": model.url, "file": file.name, "size": file.stat().st_size, "sha256": sha256_of(file)}
        _verify(model, file, found, record)
        _convert(model, file, folder)
        # Not before: a wrong file that somebody put there must not be what later ones are held against.
        _write_record(model, {**found, "converted_by": __version__})
        return folder


def card_of(model: ZooModel, config: Config, categories: CategoryTable) -> str:
    """The model card of a converted checkpoint."""
    from panoptic_deeplab.model.converters.presets import verification

    note = "" if model.note is None else f" {model.note}"
    return model_card(
        config,
        categories,
        origin=f"Converted from `{model.name}`, published at <{model.url}>. {verification(model.name)}",
        results=Results(
            metrics=model.reported,
            provenance=f"Reported by its authors for the validation split, not measured here.{note}",
            source=model.page,
        ),
        licence=model.licence,
    )


def _published_file(model: ZooModel, url: str, progress: Progress | None) -> Path:
    folder = model.folder / "download"
    folder.mkdir(exist_ok=True)
    found = sorted(file for file in folder.iterdir() if file.name.endswith(_ARCHIVES))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found)
        raise CheckpointError(f"{folder} must hold the one file of {model.name}. Got {names}; delete what is too much.")
    if model.is_on_google_drive:
        raise CheckpointError(
            f"{model.name} lies on Google Drive, which gives such files to browsers only. Download {url} and put"
            f" the file into {folder}; then run the same command again."
        )
    file = folder / url.rpartition("/")[2]
    try:
        download(url, file, progress=progress)
    except CheckpointError as error:
        raise CheckpointError(
            f"{model.name} is not in the cache: {error} A copy of the file can also be put into {folder}."
        ) from error
    return file


def _verify(model: ZooModel, file: Path, found: dict[str, Any], record: dict[str, Any]) -> None:
    """Size and checksum are those of the first time, if there was one."""
    for key in ("size", "sha256"):
        if key in record and record[key] != found[key]:
            raise CheckpointError(
                f"{file} has the {key} {found[key]}, but the first download of {model.name} had {record[key]}."
                f" Delete the file to get it again, or {model.record_file} if the authors replaced it."
            )


def _convert(model: ZooModel, file: Path, folder: Path) -> None:
    from panoptic_deeplab.model.converters import convert_checkpoint
    from panoptic_deeplab.model.weights import save_pretrained

    converted, config, categories = convert_checkpoint(file, model.name)
    card = card_of(model, config, categories)
    with tempfile.TemporaryDirectory(prefix=".converting_", dir=folder.parent) as temporary:
        finished = Path(temporary) / folder.name
        save_pretrained(finished, converted, config=config, categories=categories, card=card)
        if folder.exists():
            shutil.rmtree(folder)
        finished.rename(folder)


def _unknown(name: str) -> str:
    family, _, model = name.partition("/")
    for unsupported in unsupported_families():
        if family == unsupported.family and model in unsupported.models:
            return f"{name} is published at {unsupported.page}, but not read here: {unsupported.reason}"
    suggestion = did_you_mean(name, zoo_models(), see_all="panoptic-deeplab models")
    return f"There is no model {name!r} in the zoo. {suggestion}"


def _read_list() -> Any:
    return json.loads((resources.files(__package__) / "zoo.json").read_text("utf-8"))


def _read_record(model: ZooModel) -> dict[str, Any]:
    try:
        record = json.loads(model.record_file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{model.record_file} cannot be read ({error}); delete it.") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{model.record_file} is no record of a download; delete it.")
    return record


def _write_record(model: ZooModel, record: dict[str, Any]) -> None:
    temporary = model.record_file.with_name("record.json.new")
    temporary.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    temporary.replace(model.record_file)
