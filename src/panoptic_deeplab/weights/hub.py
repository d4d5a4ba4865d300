"""Model folders on a model hub (huggingface.co, or what $HF_ENDPOINT names): `download_from_hub`, `push_to_hub`.

The hub's own client keeps downloads in its own cache, goes on with interrupted ones, and works offline with what is
there. Only the files of a model folder are fetched or sent; none of them is code.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from panoptic_deeplab import __version__
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import config_to_dict
from panoptic_deeplab.errors import CheckpointError, first_line
from panoptic_deeplab.files import read_text, user_path, write_json, write_text
from panoptic_deeplab.weights.card import CARD_FILE, PLACE, model_card
from panoptic_deeplab.weights.folder import CATEGORIES_FILE, CONFIG_FILE, EMA_FILE, MODEL_FILE, load_pretrained

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
        folder = Path(_api().snapshot_download(repo_id, revision=revision, allow_patterns=[*_FILES, CARD_FILE]))
    except Exception as error:  # the client raises many kinds: no network, no such repository, no permission
        raise CheckpointError(f"The model {repo_id!r} could not be had from the hub: {_reason(error)}") from error
    missing = [name for name in (CONFIG_FILE, CATEGORIES_FILE) if not (folder / name).exists()]
    if not (folder / MODEL_FILE).exists() and not (folder / EMA_FILE).exists():
        missing.append(MODEL_FILE)
    if missing:
        raise CheckpointError(f"{repo_id!r} on the hub is no model of this package: it lacks {', '.join(missing)}.")
    return folder


def push_to_hub(
    folder: str | Path, repo_id: str, *, private: bool = False, message: str = "Upload a Panoptic-DeepLab model"
) -> str:
    """Publish a model folder, with its model card; an earlier version stays in the history of the repository.

    Log in first, with `hf auth login` or $HF_TOKEN. Weights that are averaged over training are published alone, as
    those that `from_pretrained` would take. Settings that name files of this machine are left out of `config.json`.

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
    folder = user_path(folder)
    _, config, categories = load_pretrained(folder)  # nothing broken is published
    card_file = folder / CARD_FILE
    if card_file.exists():
        card = read_text(card_file, what="model card", error=CheckpointError)
    else:
        card = model_card(config, categories)
    weights = folder / EMA_FILE if (folder / EMA_FILE).exists() else folder / MODEL_FILE
    with tempfile.TemporaryDirectory() as staging:
        write_json(Path(staging) / CONFIG_FILE, config_to_dict(_without_paths(config)), indent=2)
        write_json(Path(staging) / CATEGORIES_FILE, categories.to_json(), indent=2)
        shutil.copyfile(weights, Path(staging) / MODEL_FILE)
        write_text(Path(staging) / CARD_FILE, card.replace(PLACE, repo_id))
        api = _api()
        try:
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=staging, commit_message=message)
        except Exception as error:  # as above
            raise CheckpointError(f"{folder} could not be published as {repo_id!r}: {_reason(error)}") from error
    return str(address)


def why_unreachable() -> str | None:
    """What is wrong with the way to the hub, asked once and for a few seconds; None if it answers."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS_TO_ANSWER)
    except Exception as error:  # of one of two HTTP clients, by the version; or it was told to stay offline
        return first_line(error)
    return None


@contextmanager
def quiet_client() -> Iterator[None]:
    """Without what the hub's client says of each attempt: what comes of it is one sentence of ours."""
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        client.setLevel(level)


def _without_paths(config: Config) -> Config:
    """Without the settings that name files of this machine; whose weights the training began with is in the card."""
    backbone_weights = config.model.backbone_weights
    if backbone_weights != "imagenet" and not (backbone_weights or "").startswith("package:"):
        backbone_weights = None
    model = replace(config.model, weights=None, reset_heads=False, backbone_weights=backbone_weights)
    return replace(
        config,
        model=model,
        data=replace(config.data, root=Config().data.root, categories=Path(config.data.categories).name),
    )


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(library_name="panoptic-deeplab", library_version=__version__)


def _reason(error: Exception) -> str:
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
