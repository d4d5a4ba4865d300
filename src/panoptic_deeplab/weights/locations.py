"""`model_folder`: what people write after `--model` or in `from_pretrained(...)` -> the model folder it means.

runs/street/best                     a folder
nuclei                               a model that comes with the package
detectron2/R52_os16_dsconv           a model of the zoo: downloaded and converted the first time
owner/name, hf://owner/name          a repository on the hub; `@revision` behind it names a branch, tag or commit
"""

import re
from pathlib import Path

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import user_path
from panoptic_deeplab.weights.bundled import bundled_models
from panoptic_deeplab.weights.download import Progress

_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def model_folder(model: str | Path, *, progress: Progress | None = None) -> Path:
    """The model folder that a name means.

    Args:
        model: a folder, which has the first say; the name of a bundled or a zoo model; or a repository on the hub.
        progress: called while a file of the zoo arrives, with bytes that have and bytes of the whole.

    Raises:
        CheckpointError: it means nothing, or what it means cannot be had.
    """
    path, name = user_path(model), str(model)
    if not model:  # an empty variable of a shell, which a path would take for the current folder
        raise CheckpointError("The model has an empty name. Expected a folder, or a name of the zoo or the hub.")
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a name too long
        raise CheckpointError(f"There is no model folder {name:.80}...: {error.strerror}.") from error
    if is_folder:
        return path
    if name.startswith("hf://"):
        return _from_hub(name.removeprefix("hf://"), name)
    if isinstance(model, str) and not is_there and model in bundled_models():
        return bundled_models()[model].folder
    if isinstance(model, Path) or is_there or len(path.parts) != 2:
        raise CheckpointError(_nothing(name))
    from panoptic_deeplab.weights.zoo import zoo_model
    from panoptic_deeplab.weights.zoo_list import is_zoo_family

    if is_zoo_family(name):
        return zoo_model(name, progress=progress)
    if path.parent.is_dir():  # a slip of the pen in a path, and nothing to ask the hub for
        raise CheckpointError(_nothing(name))
    return _from_hub(name, name)


def _from_hub(repository: str, name: str) -> Path:
    from panoptic_deeplab.weights.hub import download_from_hub

    found = _REPOSITORY.fullmatch(repository)
    if found is None:
        raise CheckpointError(_nothing(name))
    return download_from_hub(found["repo"], revision=found["revision"])


def _nothing(name: str) -> str:
    path = user_path(name)
    if path.is_file() and (path.parent / "config.json").is_file():
        return f"There is no model folder {name}: it is a file. Name its folder: {path.parent}"
    if path.name == "best" and (path.parent / "last" / "config.json").is_file():
        return (
            f"There is no model folder {name} yet: the run has made no validation. Its newest checkpoint is"
            f" {path.parent / 'last'}"
        )
    return (
        f"There is no model folder {name}. Expected a folder with model.safetensors, config.json and categories.json,"
        " such as runs/NAME/best; or a name that `panoptic-deeplab models` lists; or owner/name of a repository on the"
        " hub."
    )
