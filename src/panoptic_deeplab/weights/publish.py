"""`push_to_hub`: a model folder becomes a repository on a model hub (huggingface.co, or what $HF_ENDPOINT names)."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import config_to_dict
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import read_text, user_path, write_json, write_text
from panoptic_deeplab.weights.card import CARD_FILE, PLACE, model_card
from panoptic_deeplab.weights.folder import CATEGORIES_FILE, CONFIG_FILE, EMA_FILE, MODEL_FILE
from panoptic_deeplab.weights.hub import client, reason
from panoptic_deeplab.weights.open import open_pretrained


def push_to_hub(
    folder: str | Path, repo_id: str, *, private: bool = False, message: str = "Upload a Panoptic-DeepLab model"
) -> str:
    """Publish a model folder, with its model card; an earlier version stays in the history of the repository.

    Log in first, with `hf auth login` or $HF_TOKEN. Weights that are averaged over training are published alone, as
    those that `from_pretrained` would take. Settings that name files of this machine are left out of `config.json`.

    Args:
        folder: as `save_pretrained` or a training run wrote it.
        repo_id: `owner/name`; made where it does not exist.
        private: whether a new repository is.
        message: text for the history.

    Returns:
        The address of the repository.

    Raises:
        CheckpointError: the folder is no model folder, or the hub refuses or cannot be reached.
    """
    folder = user_path(folder)
    _, config, categories = open_pretrained(folder)  # nothing broken is published
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
        api = client()
        try:
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=staging, commit_message=message)
        except Exception as error:  # as above
            raise CheckpointError(f"{folder} could not be published as {repo_id!r}: {reason(error)}") from error
    return str(address)


def _without_paths(config: Config) -> Config:
    """The configuration without the settings that name files of this machine; whose weights the training
    began with is in the card."""
    backbone_weights = config.model.backbone_weights
    if backbone_weights != "imagenet" and not (backbone_weights or "").startswith("package:"):
        backbone_weights = None
    model = replace(config.model, weights=None, reset_heads=False, backbone_weights=backbone_weights)
    data = replace(config.data, root=Config().data.root, categories=Path(config.data.categories).name)
    return replace(config, model=model, data=data)
