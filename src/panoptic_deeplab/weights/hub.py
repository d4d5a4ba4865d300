"""Model folders of a model hub (huggingface.co, or what $HF_ENDPOINT names): `download_from_hub`.

The hub's own client keeps downloads in its own cache, goes on with interrupted ones, and works offline with what is
there. Only the files of a model folder are fetched or sent; none of them is code.
"""

from pathlib import Path
from typing import Any

from panoptic_deeplab import __version__
from panoptic_deeplab.errors import CheckpointError, first_line
from panoptic_deeplab.weights.card import CARD_FILE
from panoptic_deeplab.weights.folder import CATEGORIES_FILE, CONFIG_FILE, EMA_FILE, MODEL_FILE

_SECONDS_TO_ANSWER = 5.0

_FILES = (CONFIG_FILE, CATEGORIES_FILE, MODEL_FILE, EMA_FILE)


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
        folder = Path(client().snapshot_download(repo_id, revision=revision, allow_patterns=[*_FILES, CARD_FILE]))
    except Exception as error:  # the client raises many kinds: no network, no such repository, no permission
        raise CheckpointError(f"The model {repo_id!r} could not be had from the hub: {reason(error)}") from error
    missing = [name for name in (CONFIG_FILE, CATEGORIES_FILE) if not (folder / name).exists()]
    if not (folder / MODEL_FILE).exists() and not (folder / EMA_FILE).exists():
        missing.append(MODEL_FILE)
    if missing:
        raise CheckpointError(f"{repo_id!r} on the hub is no model of this package: it lacks {', '.join(missing)}.")
    return folder


def why_unreachable() -> str | None:
    """What is wrong with the way to the hub, asked once and for a few seconds; None if it answers."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS_TO_ANSWER)
    except Exception as error:  # of one of two HTTP clients, by the version; or it was told to stay offline
        return first_line(error)
    return None


def client() -> Any:
    """Give the hub's own client."""
    from huggingface_hub import HfApi

    return HfApi(library_name="panoptic-deeplab", library_version=__version__)


def reason(error: Exception) -> str:
    """What the client says, as the end of a sentence."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"it cannot be reached ({first_line(error.__cause__ or error)}), and the model is not in its cache."
    if isinstance(error, (errors.RepositoryNotFoundError, errors.GatedRepoError)):
        return "there is no such repository, or it is not open to you; `hf auth login` says who you are."
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision."
    text = first_line(error)
    return text if text.endswith(".") else f"{text}."
