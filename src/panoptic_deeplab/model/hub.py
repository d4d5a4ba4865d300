"""Model folders on a model hub (huggingface.co, or what $HF_ENDPOINT names): `download_from_hub`, `push_to_hub`.

The hub's own client keeps downloads in its own cache, goes on with interrupted ones, and works offline with what is
there. Only the files of a model folder are fetched or sent; none of them is code.
"""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from panoptic_deeplab import __version__
from panoptic_deeplab.config import Config
from panoptic_deeplab.config_io import config_to_dict
from panoptic_deeplab.errors import CheckpointError, first_line
from panoptic_deeplab.model.card import CARD_FILE, PLACE, model_card
from panoptic_deeplab.model.weights import CATEGORIES_FILE, CONFIG_FILE, EMA_FILE, MODEL_FILE, load_pretrained

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
    folder = Path(folder)
    _, config, categories = load_pretrained(folder)  # nothing broken is published
    card_file = folder / CARD_FILE
    card = card_file.read_text("utf-8") if card_file.exists() else model_card(config, categories)
    weights = folder / EMA_FILE if (folder / EMA_FILE).exists() else folder / MODEL_FILE
    with tempfile.TemporaryDirectory() as staging:
        public = config_to_dict(_without_paths(config))
        (Path(staging) / CONFIG_FILE).write_text(json.dumps(public, indent=2) + "\n", "utf-8")
        shutil.copyfile(folder / CATEGORIES_FILE, Path(staging) / CATEGORIES_FILE)
        shutil.copyfile(weights, Path(staging) / MODEL_FILE)
        (Path(staging) / CARD_FILE).write_text(card.replace(PLACE, repo_id), "utf-8")
        api = _api()
        try:
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=staging, commit_message=message)
        except Exception as error:  # as above
            raise CheckpointError(f"{folder} could not be published as {repo_id!r}: {_reason(error)}") from error
    return str(address)


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
