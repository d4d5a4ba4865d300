"""The metrics of every evaluation: PQ, mIoU, AP, and those that somebody adds."""

import logging
from collections.abc import Sequence

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.errors import ConfigError, MissingDependencyError
from panoptic_deeplab.metrics.instance_ap import InstanceAP
from panoptic_deeplab.metrics.metric import Metric
from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality
from panoptic_deeplab.metrics.semantic_iou import SemanticIoU

logger = logging.getLogger(__name__)


def standard_metrics(
    categories: CategoryTable, config: EvaluationConfig, further: Sequence[Metric] = ()
) -> tuple[list[Metric], list[str]]:
    """All metrics of an evaluation, PQ first, and a note for each that had to be left out.

    Raises:
        ConfigError: two metrics have the same name.
        MissingDependencyError: `config.metric` is AP and pycocotools is not installed.
    """
    metrics: list[Metric] = [PanopticQuality(categories), SemanticIoU(categories)]
    notes = []
    try:
        metrics.append(InstanceAP(categories, config.max_detections))
    except MissingDependencyError as error:
        if config.metric == "AP":
            raise
        logger.warning("%s AP is left out.", error)
        notes.append(f"AP was left out: {error}")
    metrics += further
    names = [metric.name for metric in metrics]
    if len({*names, "num_images", "seconds", "provenance"}) < len(names) + 3:  # keys of one JSON object
        raise ConfigError(
            f"Each metric needs a name of its own, not num_images, seconds or provenance. Got {', '.join(names)}."
        )
    return metrics, notes
