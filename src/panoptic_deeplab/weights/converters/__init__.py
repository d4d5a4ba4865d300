"""Published weights of other implementations, as models of this package.

    file ─▶ checkpoint_files.py  ─▶ bowenc0221.py | detectron2.py ─▶ PanopticDeepLab
          | tensorflow_bundle.py    | deeplab2.py
            never runs code         their names -> ours             built as its recipe says

`convert_checkpoint` is the one door: a file and the name of what is in it become the model, its complete configuration
and its categories, ready for `save_pretrained`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import CheckpointError, did_you_mean
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.converters import bowenc0221, deeplab2, detectron2
from panoptic_deeplab.weights.converters.checkpoint_files import read_checkpoint
from panoptic_deeplab.weights.folder import load_weights
from panoptic_deeplab.weights.zoo_list import zoo_models


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the checkpoints of one implementation become ours."""

    read: Callable[[Path], dict[str, Tensor]]
    """File -> tensors by the implementation's names."""
    convert: Callable[[Mapping[str, Tensor], PanopticDeepLab, Config, str], dict[str, Tensor]]
    """Those tensors, the model they are for, its configuration and the file's name -> tensors by our names.
    A `CheckpointError` lists every entry that is missing or unexpected."""


FAMILIES: dict[str, Family] = {
    "bowenc0221": Family(read=read_checkpoint, convert=bowenc0221.convert_state),
    "detectron2": Family(read=read_checkpoint, convert=detectron2.convert_state),
    "deeplab2": Family(read=deeplab2.read_state, convert=deeplab2.convert_state),
}
"""Families by the first part of a checkpoint's name."""


def convert_checkpoint(path: str | Path, name: str) -> tuple[PanopticDeepLab, Config, CategoryTable]:
    """Read a checkpoint that another implementation published or trained.

    Args:
        path: the file (or folder, for a family whose checkpoints are folders).
        name: what it is, as `FAMILY/MODEL` (`detectron2/R52_os16_dsconv`); a key of `zoo_models()`.

    Returns:
        The model in evaluation mode, its complete configuration (input, post-processing) and its categories.

    Raises:
        CheckpointError: the name is unknown, the file cannot be read safely, or an entry is missing, unexpected or of
            another shape.
    """
    if name not in zoo_models():
        suggestion = did_you_mean(name, zoo_models(), see_all="panoptic-deeplab models")
        raise CheckpointError(f"There is no converter for checkpoints of {name!r}. {suggestion}")
    family = FAMILIES[name.partition("/")[0]]
    config = zoo_models()[name].config
    state = family.read(Path(path))
    categories = CategoryTable.load(config.data.categories)
    model = PanopticDeepLab(config.model, categories.num_classes)
    load_weights(model, family.convert(state, model, config, str(path)), where=str(path))
    return model.eval(), config, categories
