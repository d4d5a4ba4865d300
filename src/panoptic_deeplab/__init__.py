"""Panoptic-DeepLab in PyTorch: train, evaluate and predict panoptic segmentation.

How the parts fit together:

    image ─▶ images/ ─▶ model/ ─▶ RawMaps ─▶ postprocess/ ─▶ results/ ─▶ metrics/, visualize/
                          ▲                                       inference/ and evaluation/ drive this row
    labeled set ─▶ data/ ─┴─▶ targets ─▶ losses ◀─ RawMaps        training/ drives this row

    weights/ fills model/ (folders, names, hub, converters) · export/ writes the first row as one file
    config/ + recipes/ set everything · profiling/ measures · batch/ predicts collections ·
    serving/ answers over HTTP · cli/ stands on top

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

if TYPE_CHECKING:  # for type checkers; a test holds it equal to the table below
    from panoptic_deeplab.categories import Category as Category
    from panoptic_deeplab.categories import CategoryTable as CategoryTable
    from panoptic_deeplab.config import CompatConfig as CompatConfig
    from panoptic_deeplab.config import Config as Config
    from panoptic_deeplab.config import DataConfig as DataConfig
    from panoptic_deeplab.config import EvaluationConfig as EvaluationConfig
    from panoptic_deeplab.config import InputConfig as InputConfig
    from panoptic_deeplab.config import LossConfig as LossConfig
    from panoptic_deeplab.config import ModelConfig as ModelConfig
    from panoptic_deeplab.config import PostprocessConfig as PostprocessConfig
    from panoptic_deeplab.config import TargetConfig as TargetConfig
    from panoptic_deeplab.config import TestTimeAugmentationConfig as TestTimeAugmentationConfig
    from panoptic_deeplab.config import TrainConfig as TrainConfig
    from panoptic_deeplab.config.io import load_config as load_config
    from panoptic_deeplab.config.io import recipe_names as recipe_names
    from panoptic_deeplab.config.io import save_config as save_config
    from panoptic_deeplab.data.check import check_source as check_source
    from panoptic_deeplab.data.convert import write_coco_panoptic as write_coco_panoptic
    from panoptic_deeplab.data.dataset import Example as Example
    from panoptic_deeplab.data.dataset import PanopticDataset as PanopticDataset
    from panoptic_deeplab.data.loader import Batch as Batch
    from panoptic_deeplab.data.loader import training_batches as training_batches
    from panoptic_deeplab.data.sample import PanopticSource as PanopticSource
    from panoptic_deeplab.data.sample import Sample as Sample
    from panoptic_deeplab.data.sources import open_source as open_source
    from panoptic_deeplab.data.targets import make_targets as make_targets
    from panoptic_deeplab.errors import CheckpointError as CheckpointError
    from panoptic_deeplab.errors import ClusterError as ClusterError
    from panoptic_deeplab.errors import ConfigError as ConfigError
    from panoptic_deeplab.errors import DatasetError as DatasetError
    from panoptic_deeplab.errors import ExportError as ExportError
    from panoptic_deeplab.errors import ImageError as ImageError
    from panoptic_deeplab.errors import MissingDependencyError as MissingDependencyError
    from panoptic_deeplab.errors import OutputError as OutputError
    from panoptic_deeplab.errors import PanopticDeepLabError as PanopticDeepLabError
    from panoptic_deeplab.errors import TrainingError as TrainingError
    from panoptic_deeplab.evaluation.evaluate import EvaluationReport as EvaluationReport
    from panoptic_deeplab.evaluation.evaluate import evaluate as evaluate
    from panoptic_deeplab.evaluation.submission import SubmissionWriter as SubmissionWriter
    from panoptic_deeplab.export.exporter import export_model as export_model
    from panoptic_deeplab.images.prepare import PreparedImage as PreparedImage
    from panoptic_deeplab.images.prepare import prepare_image as prepare_image
    from panoptic_deeplab.images.read import read_image as read_image
    from panoptic_deeplab.images.regions import Regions as Regions
    from panoptic_deeplab.images.regions import open_regions as open_regions
    from panoptic_deeplab.images.video import Frame as Frame
    from panoptic_deeplab.images.video import Video as Video
    from panoptic_deeplab.images.video import VideoWriter as VideoWriter
    from panoptic_deeplab.images.video import open_video as open_video
    from panoptic_deeplab.inference.engines.engine import Answer as Answer
    from panoptic_deeplab.inference.engines.engine import Engine as Engine
    from panoptic_deeplab.inference.engines.engine import ReadyImage as ReadyImage
    from panoptic_deeplab.inference.predictor import PanopticPredictor as PanopticPredictor
    from panoptic_deeplab.maps import RawMaps as RawMaps
    from panoptic_deeplab.maps import Targets as Targets
    from panoptic_deeplab.metrics.cityscapes_ap import CityscapesAP as CityscapesAP
    from panoptic_deeplab.metrics.instance_ap import InstanceAP as InstanceAP
    from panoptic_deeplab.metrics.metric import Metric as Metric
    from panoptic_deeplab.metrics.metric import MetricReport as MetricReport
    from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality as PanopticQuality
    from panoptic_deeplab.metrics.semantic_iou import SemanticIoU as SemanticIoU
    from panoptic_deeplab.model.network import PanopticDeepLab as PanopticDeepLab
    from panoptic_deeplab.postprocess.dropped import Dropped as Dropped
    from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor as PanopticPostprocessor
    from panoptic_deeplab.results.coco import to_coco_instances as to_coco_instances
    from panoptic_deeplab.results.coco import to_coco_panoptic as to_coco_panoptic
    from panoptic_deeplab.results.coco import to_rle as to_rle
    from panoptic_deeplab.results.conversions import to_geojson as to_geojson
    from panoptic_deeplab.results.conversions import to_labels as to_labels
    from panoptic_deeplab.results.conversions import to_polygons as to_polygons
    from panoptic_deeplab.results.conversions import to_supervision as to_supervision
    from panoptic_deeplab.results.conversions import to_transformers as to_transformers
    from panoptic_deeplab.results.large_result import LargeResult as LargeResult
    from panoptic_deeplab.results.measurements import table_csv as table_csv
    from panoptic_deeplab.results.measurements import to_table as to_table
    from panoptic_deeplab.results.panoptic_result import PanopticResult as PanopticResult
    from panoptic_deeplab.results.panoptic_result import Segment as Segment
    from panoptic_deeplab.results.saved import load_result as load_result
    from panoptic_deeplab.results.saved import save_result as save_result
    from panoptic_deeplab.results.stored import Scratch as Scratch
    from panoptic_deeplab.training.callbacks import Callback as Callback
    from panoptic_deeplab.training.loggers.to_mlflow import MlflowLogger as MlflowLogger
    from panoptic_deeplab.training.loggers.to_tensorboard import TensorBoardLogger as TensorBoardLogger
    from panoptic_deeplab.training.loggers.to_wandb import WandbLogger as WandbLogger
    from panoptic_deeplab.training.losses import LossTerms as LossTerms
    from panoptic_deeplab.training.losses import PanopticDeepLabLoss as PanopticDeepLabLoss
    from panoptic_deeplab.training.trainer import train as train
    from panoptic_deeplab.visualize.draw import draw_panoptic as draw_panoptic
    from panoptic_deeplab.visualize.draw import draw_semantic as draw_semantic
    from panoptic_deeplab.visualize.figure4 import draw_figure4 as draw_figure4
    from panoptic_deeplab.visualize.maps import draw_heatmap as draw_heatmap
    from panoptic_deeplab.visualize.maps import draw_offset as draw_offset
    from panoptic_deeplab.weights.folder import save_pretrained as save_pretrained
    from panoptic_deeplab.weights.open import Pretrained as Pretrained
    from panoptic_deeplab.weights.open import fill_network as fill_network
    from panoptic_deeplab.weights.open import open_pretrained as open_pretrained
    from panoptic_deeplab.weights.publish import push_to_hub as push_to_hub

_PUBLIC_NAMES = {
    "categories": "Category CategoryTable",
    "config": "CompatConfig Config DataConfig EvaluationConfig InputConfig LossConfig ModelConfig PostprocessConfig"
    " TargetConfig TestTimeAugmentationConfig TrainConfig",
    "config.io": "load_config recipe_names save_config",
    "data.check": "check_source",
    "data.convert": "write_coco_panoptic",
    "data.dataset": "Example PanopticDataset",
    "data.loader": "Batch training_batches",
    "data.sample": "PanopticSource Sample",
    "data.sources": "open_source",
    "data.targets": "make_targets",
    "errors": "CheckpointError ClusterError ConfigError DatasetError ExportError ImageError MissingDependencyError"
    " OutputError PanopticDeepLabError TrainingError",
    "evaluation.evaluate": "EvaluationReport evaluate",
    "evaluation.submission": "SubmissionWriter",
    "export.exporter": "export_model",
    "images.prepare": "PreparedImage prepare_image",
    "images.read": "read_image",
    "images.regions": "Regions open_regions",
    "images.video": "Frame Video VideoWriter open_video",
    "inference.engines.engine": "Answer Engine ReadyImage",
    "inference.predictor": "PanopticPredictor",
    "maps": "RawMaps Targets",
    "metrics.cityscapes_ap": "CityscapesAP",
    "metrics.instance_ap": "InstanceAP",
    "metrics.metric": "Metric MetricReport",
    "metrics.panoptic_quality": "PanopticQuality",
    "metrics.semantic_iou": "SemanticIoU",
    "model.network": "PanopticDeepLab",
    "postprocess.dropped": "Dropped",
    "postprocess.pipeline": "PanopticPostprocessor",
    "results.conversions": "to_geojson to_labels to_polygons to_supervision to_transformers",
    "results.coco": "to_coco_instances to_coco_panoptic to_rle",
    "results.measurements": "table_csv to_table",
    "results.large_result": "LargeResult",
    "results.panoptic_result": "PanopticResult Segment",
    "results.saved": "load_result save_result",
    "results.stored": "Scratch",
    "training.callbacks": "Callback",
    "training.loggers.to_mlflow": "MlflowLogger",
    "training.loggers.to_tensorboard": "TensorBoardLogger",
    "training.loggers.to_wandb": "WandbLogger",
    "training.losses": "LossTerms PanopticDeepLabLoss",
    "training.trainer": "train",
    "visualize.draw": "draw_panoptic draw_semantic",
    "visualize.figure4": "draw_figure4",
    "visualize.maps": "draw_heatmap draw_offset",
    "weights.folder": "save_pretrained",
    "weights.open": "Pretrained fill_network open_pretrained",
    "weights.publish": "push_to_hub",
}
"""The public names of each file."""

_MODULE_OF = {name: module for module, names in _PUBLIC_NAMES.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
