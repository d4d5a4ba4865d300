"""What identifies a labeled set: `dataset.json` in a model folder, so that no other set is taken for it.

`data.root` is often relative: from another folder, it is another set. The file names no folder of this machine; it
holds, for each split, the number of images, the first and the last id, and two digests: of all ids in their order, and
of the bytes of a few images. Labels do not count, since people mend them.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.data.sample import PanopticSource, image_ids
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.errors import CheckpointError, DatasetError
from panoptic_deeplab.files import read_json, user_path

DATASET_FILE = "dataset.json"

_IMAGES = 5
"""So many image files of a split are read, evenly over it."""


def identify(data: DataConfig, sources: Mapping[str, PanopticSource]) -> dict[str, Any]:
    """What is written to `dataset.json`, of a run's section `data` and its splits by name."""
    return {"format": data.format, "splits": {split: _identity(source) for split, source in sources.items()}}


def difference(before: Any, now: Any) -> str | None:
    """The first split that differs in what `identify` said of the model's set and says now, in words; None if none.

    Raises:
        CheckpointError: `before` was not made by `identify`.
    """
    try:
        splits = {
            split: (old, now["splits"][split]) for split, old in before["splits"].items() if split in now["splits"]
        }
        for split, (old, new) in splits.items():
            if old != new:
                return f"{split!r} has {_words(new)}; it was {_words(old)}"
    except (LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"A {DATASET_FILE} is damaged ({type(error).__name__}).") from error
    return None


def open_same_source(data: DataConfig, split: str, *, like: Path | None) -> PanopticSource:
    """Open a split of the set that a model belongs to.

    Args:
        data: as in `open_source`.
        split: as in `open_source`. Where the model does not know it, another split of the set is compared.
        like: a model folder; without `dataset.json` in it (or None) nothing is compared.

    Raises:
        ConfigError: see `open_source`.
        DatasetError: `data.root` holds another set, or see `open_source`.
        CheckpointError: `dataset.json` is damaged.
    """
    path = None if like is None else like / DATASET_FILE
    if path is None or not path.exists():
        return open_source(data, split)
    stored = read_json(path, what="description of the data", error=CheckpointError)
    known = stored.get("splits") if isinstance(stored, dict) else None
    if not isinstance(known, dict) or not known:
        raise CheckpointError(f"{path} is damaged. Expected splits and what identifies them.")
    if stored.get("format") != data.format:  # somebody has chosen another set
        return open_source(data, split)
    compared = split if split in known else list(known)[-1]
    try:
        there = open_source(data, compared)
        found = difference(stored, identify(data, {compared: there}))
    except DatasetError as error:
        if compared == split:
            raise
        found = str(error).removesuffix(".")
    if found is not None:
        raise DatasetError(
            f"data.root {data.root!r} is {user_path(data.root).absolute()} here, and that is not the set that the model"
            f" was made with: {found}. Name the folder with --data.root; whatever is named there is taken."
        )
    return there if compared == split else open_source(data, split)


def _identity(source: PanopticSource) -> dict[str, Any]:
    ids = list(image_ids(source))
    digest = hashlib.sha256()
    for index in sorted({i * (len(ids) - 1) // max(_IMAGES - 1, 1) for i in range(_IMAGES)} if ids else ()):
        path = source[index].image_path
        if path is not None:  # else it is computed from its id
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return {
        "images": len(ids),
        "first": ids[0] if ids else None,
        "last": ids[-1] if ids else None,
        "ids": hashlib.sha256("\0".join(ids).encode("utf-8", "surrogatepass")).hexdigest(),
        "files": digest.hexdigest(),
    }


def _words(identity: Mapping[str, Any]) -> str:
    return (
        f"{identity['images']} images from {identity['first']!r} to {identity['last']!r}"
        f" (digest {identity['ids'][:6]}, {identity['files'][:6]})"
    )
