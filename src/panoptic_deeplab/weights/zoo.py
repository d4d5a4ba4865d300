"""The zoo: `zoo_model` makes a model folder of a published checkpoint, by name (`zoo_list.py` has the names).

In the cache (`download.cache_folder`) a model has

    zoo/detectron2/R52_os16_dsconv/
    ├── download/model_final_23d03a.pkl    as published; files from Google Drive are put here by hand
    ├── record.json                        size and checksum at the first download, which later ones must have
    └── model/                             converted: a model folder
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock

from panoptic_deeplab import __version__
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import CheckpointError, did_you_mean
from panoptic_deeplab.files import make_folder, write_json
from panoptic_deeplab.weights.card import Results, model_card
from panoptic_deeplab.weights.download import Progress, download, sha256_of
from panoptic_deeplab.weights.zoo_list import ZooModel, read_record, unsupported_families, zoo_models

_ARCHIVES = (".pth", ".pkl", ".tar.gz")
"""What published files are called."""


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
    make_folder(model.folder)
    with FileLock(model.folder / ".lock"):  # the processes of torchrun ask at the same time
        folder = model.folder / "model"
        record = read_record(model)
        if folder.is_dir() and record.get("converted_by") == __version__:
            return folder
        file = _published_file(model, model.url, progress)
        found = {"url": model.url, "file": file.name, "size": file.stat().st_size, "sha256": sha256_of(file)}
        _verify(model, file, found, record)
        _write_converted(model, file, folder)
        # Not before: a wrong file that somebody put there must not be what later ones are held against.
        write_json(model.record_file, {**found, "converted_by": __version__}, indent=2)
        return folder


def card_of(model: ZooModel, config: Config, categories: CategoryTable) -> str:
    """The model card of a converted checkpoint."""
    note = "" if model.note is None else f" {model.note}"
    return model_card(
        config,
        categories,
        origin=f"Converted from `{model.name}`, published at <{model.url}>. {model.verification}",
        results=Results(
            metrics=model.reported,
            provenance=f"Reported by its authors for the validation split, not measured here.{note}",
            source=model.page,
        ),
        license_text=model.license,
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


def _write_converted(model: ZooModel, file: Path, folder: Path) -> None:
    from panoptic_deeplab.weights.converters import convert_checkpoint
    from panoptic_deeplab.weights.folder import save_pretrained

    network, config, categories = convert_checkpoint(file, model.name)
    card = card_of(model, config, categories)
    with tempfile.TemporaryDirectory(prefix=".converting_", dir=folder.parent) as temporary:
        finished = Path(temporary) / folder.name
        save_pretrained(finished, network, config=config, categories=categories, card=card)
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
