"""Panoptic-DeepLab in PyTorch: train, evaluate and predict panoptic segmentation.

How the parts fit together:

    image ─▶ images/ ─▶ model/ ─▶ RawMaps ─▶ postprocess/ ─▶ results/ ─▶ metrics/, visualize/
                          ▲                                       inference/ and evaluation/ drive this row
    labeled set ─▶ data/ ─┴─▶ targets ─▶ losses ◀─ RawMaps        training/ drives this row

    weights/ fills model/ (folders, names, hub, converters) · export/ writes the first row as one file
    config/ + recipes/ set everything · profiling/ measures · cli/ stands on top

Two contracts join the boxes: `maps.py` (what network, loss and post-processing exchange) and `results/` (what everybody
else sees). `model/` turns images into maps and imports `config`, `maps` and `errors`; `PanopticDeepLab.from_pretrained`
is an alias into `weights/`. One inference path, `PanopticPredictor`, serves validation, command line, demo and timing,
and runs the PyTorch network and every exported file alike, because what differs stands behind one `Engine`. (A file
with the whole pipeline has its own post-processing in its graph; `export/agreement.py` measures how far it agrees.)

    from panoptic_deeplab import PanopticPredictor, draw_panoptic

    predictor = PanopticPredictor.from_pretrained("runs/street/best")
    result = predictor.predict("street.jpg")
    result.segments_info[0]          # Segment(id=1, category_id=7, name='road', isthing=False, area=..., score=...)
    draw_panoptic("street.jpg", result).save("overlay.png")

Names are imported on first use, so `import panoptic_deeplab` is quick and does not load PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Category",
    "CategoryTable",
    "CheckpointError",
    "Config",
    "ConfigError",
    "DatasetError",
    "ImageError",
    "MissingDependencyError",
    "OutputError",
    "PanopticDeepLab",
    "PanopticDeepLabError",
    "PanopticPredictor",
    "PanopticResult",
    "Segment",
    "TrainingError",
    "draw_panoptic",
    "evaluate",
    "load_config",
    "load_result",
    "push_to_hub",
    "save_pretrained",
    "save_result",
    "to_coco_instances",
    "to_coco_panoptic",
    "to_polygons",
    "to_rle",
    "train",
]

if TYPE_CHECKING:
    from panoptic_deeplab.categories import Category, CategoryTable
    from panoptic_deeplab.config import Config
    from panoptic_deeplab.config.io import load_config
    from panoptic_deeplab.errors import (
        CheckpointError,
        ConfigError,
        DatasetError,
        ImageError,
        MissingDependencyError,
        OutputError,
        PanopticDeepLabError,
        TrainingError,
    )
    from panoptic_deeplab.evaluation.evaluate import evaluate
    from panoptic_deeplab.inference.predictor import PanopticPredictor
    from panoptic_deeplab.model.network import PanopticDeepLab
    from panoptic_deeplab.results.formats import (
        load_result,
        save_result,
        to_coco_instances,
        to_coco_panoptic,
        to_polygons,
        to_rle,
    )
    from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment
    from panoptic_deeplab.training.trainer import train
    from panoptic_deeplab.visualize.draw import draw_panoptic
    from panoptic_deeplab.weights.folder import save_pretrained
    from panoptic_deeplab.weights.publish import push_to_hub

_MODULE_OF = {
    "Category": "categories",
    "CategoryTable": "categories",
    "CheckpointError": "errors",
    "Config": "config",
    "ConfigError": "errors",
    "DatasetError": "errors",
    "ImageError": "errors",
    "MissingDependencyError": "errors",
    "OutputError": "errors",
    "PanopticDeepLab": "model.network",
    "PanopticDeepLabError": "errors",
    "PanopticPredictor": "inference.predictor",
    "PanopticResult": "results.panoptic_result",
    "Segment": "results.panoptic_result",
    "TrainingError": "errors",
    "draw_panoptic": "visualize.draw",
    "evaluate": "evaluation.evaluate",
    "load_config": "config.io",
    "load_result": "results.formats",
    "push_to_hub": "weights.publish",
    "save_pretrained": "weights.folder",
    "save_result": "results.formats",
    "to_coco_instances": "results.formats",
    "to_coco_panoptic": "results.formats",
    "to_polygons": "results.formats",
    "to_rle": "results.formats",
    "train": "training.trainer",
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
