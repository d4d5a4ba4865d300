"""The models that come with the package, a model folder each: `bundled_models` lists what lies here.

bundled/NAME/
├── model.safetensors    float16 on disk, float32 once it is open
├── config.json, categories.json, checksums.json, README.md (the card), as in every model folder
└── about.json           what it is for, its figures, its terms: the rest of `BundledModel`

`benchmarks/bundle_model.py` makes such a folder of a trained one. Code for weights does not belong here.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import read_json

ABOUT_FILE = "about.json"


@dataclass(frozen=True, kw_only=True)
class BundledModel:
    """A model of this project that needs no download."""

    name: str
    """For `--model`."""
    folder: Path
    purpose: str
    """What it finds on which images, as a sentence."""
    measured: dict[str, float]
    """Measures in [0, 1] by their names, on images that it was not trained on."""
    measured_on: str
    """Those images, and by which weights, as a sentence."""
    license: str
    """Terms of the weights and of the images behind them, as a sentence."""


@cache
def bundled_models() -> dict[str, BundledModel]:
    """All models by name.

    Raises:
        CheckpointError: the installation is damaged.
    """
    models = {}
    for path in sorted(Path(__file__).parent.glob(f"*/{ABOUT_FILE}")):
        about = read_json(path, what="description of a model", error=CheckpointError)
        name = path.parent.name
        models[name] = BundledModel(name=name, folder=path.parent, **about)
    return models
