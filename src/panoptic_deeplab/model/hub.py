"""Model folders on a model hub (huggingface.co, or what $HF_ENDPOINT names): `download_from_hub`, `push_to_hub`.

The hub's own client keeps downloads in its own cache, goes on with interrupted ones, and works offline with what is
there. Only the files of a model folder are fetched or sent; none of them is code.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from panoptic_deeplab import __version__
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.model.card import CARD_FILE, PLACE, model_card

_CONFIG, _CATEGORIES, _WEIGHTS, _AVERAGED = "config.json", "categories.json", "model.safetensors", "ema.safetensors"


def download_from_hub(repo_id: str, *, revision: str | None = None) -> Path:
    """The model folder of a repository.

    Args:
        repo_id: `owner/name`.
        revision: branch, tag or commit; None = the main branch.

    Raises:
        CheckpointError: there is no such repository, it is not open to you, it holds no model of this package, or the
            hub cannot be reached and the model is not in its cache.
    """
    try:
        folder = Path(
            _api().snapshot_download(
                repo_id, revision=revision, allow_patterns=[_CONFIG, _CATEGORIES, _WEIGHTS, _AVERAGED, CARD_FILE]
            )
        )
    except Exception as error:  # the client raises many kinds: no network, no such repository, no permission
        raise CheckpointError(f"The model {repo_id!r} could not be had from the hub: {_reason(error)}") from error
    missing = [name for name in (_CONFIG, _CATEGORIES) if not (folder / name).exists()]
    if not (folder / _WEIGHTS).exists() and not (folder / _AVERAGED).exists():
        missing.append(_WEIGHTS)
    if missing:
        raise CheckpointError(f"{repo_id!r} on the hub is no model of this package: it lacks {', '.join(missing)}.")
    return folder


def push_to_hub(
    folder: str | Path, repo_id: str, *, private: bool = False, message: str = "Upload a Panoptic-DeepLab model"
) -> str:
    """Publish a model folder, with its model card; an earlier version stays in the history of the repository.

    Log in first, with `hf auth login` or $HF_TOKEN. Weights that are averaged over training are published alone, as
    those that `from_pretrained` would take.

    Args:
        folder: as `save_pretrained` or a training run wrote it.
        repo_id: `owner/name`; made where it does not exist.
        private: of a new repository.
        message: for the history.

    Returns:
        The address of the repository.

    Raises:
        CheckpointError: the folder is no model folder, or the hub refuses or cannot be reached.
    """
    from panoptic_deeplab.model.weights import load_pretrained

    folder = Path(folder)
    _, config, categories = load_pretrained(folder)  # nothing broken is published
    card_file = folder / CARD_FILE
    card = card_file.read_text("utf-8") if card_file.exists() else model_card(config, categories)
    weights = folder / _AVERAGED if (folder / _AVERAGED).exists() else folder / _WEIGHTS
    with tempfile.TemporaryDirectory() as staging:
        for source, name in ((folder / _CONFIG, _CONFIG), (folder / _CATEGORIES, _CATEGORIES), (weights, _WEIGHTS)):
            shutil.copyfile(source, Path(staging) / name)
        (Path(staging) / CARD_FILE).write_text(card.replace(PLACE, repo_id), "utf-8")
        api = _api()
        try:
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=staging, commit_message=message)
        except Exception as error:  # as above
            raise CheckpointError(f"{folder} could not be published as {repo_id!r}: {_reason(error)}") from error
    return str(address)


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(library_name="panoptic-deeplab", library_version=__version__)


def _reason(error: Exception) -> str:
    """What the client says, as the end of a sentence."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"it cannot be reached ({_first_line(error.__cause__ or error)}), and the model is not in its cache."
    if isinstance(error, (errors.RepositoryNotFoundError, errors.GatedRepoError)):
        return "there is no such repository, or it is not open to you; `hf auth login` says who you are."
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision."
    text = _first_line(error)
    return text if text.endswith(".") else f"{text}."


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
