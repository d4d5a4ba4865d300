"""Mean intersection over union of the semantic segmentation, counted as Cityscapes' official tool counts it.

    IoU = TP / (TP + FP + FN) over the labeled pixels of all images together, for each class, then averaged

Void pixels of the truth count nowhere. A *predicted* void pixel is a wrong prediction: a false negative of the true
class, and no class's false positive. Classes that occur neither in the truth nor in the predictions (on labeled
pixels) are left out of the mean.

Dimension letters: `C` classes, `H W` the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from panoptic_deeplab.categories import IGNORE_INDEX, CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.metrics.checks import check_prediction_size
from panoptic_deeplab.metrics.metric import Metric, MetricReport
from panoptic_deeplab.results.panoptic_result import PanopticResult


@dataclass(frozen=True, kw_only=True)
class ClassIoU:
    """IoU of one class; None where it occurs neither in truth nor in predictions."""

    category_id: int
    name: str
    iou: float | None


@dataclass(frozen=True, kw_only=True)
class SemanticIoUReport(MetricReport):
    """The numbers of `SemanticIoU`, as fractions in [0, 1]."""

    numbers: ClassVar = {"mIoU": "miou", "accuracy": "pixel_accuracy"}
    row_name: ClassVar[str] = "Pixels"
    class_numbers: ClassVar = {"IoU": "iou"}

    miou: float | None
    """Mean over the classes that occur; None where none does."""
    num_classes: int
    """How many classes were averaged."""
    pixel_accuracy: float | None
    """Right pixels over labeled pixels."""
    per_class: tuple[ClassIoU, ...]
    """In the order of train ids."""
    confusion: list[list[int]]
    """Pixels by true class (row) and predicted class (column), in the order of train ids; last column: void."""


class SemanticIoU(Metric):
    """Accumulates the confusion matrix over images."""

    name = "semantic"
    note = "mIoU: Cityscapes' algorithm on the semantic map before merging, with this table's classes."

    def __init__(self, categories: CategoryTable) -> None:
        self.categories = categories
        self.confusion: Int64[Tensor, "C C+1"] = torch.zeros(len(categories), len(categories) + 1, dtype=torch.int64)
        """Pixels by true class (row) and predicted class (column); the last column is predicted void."""

    def update(self, prediction: PanopticResult, truth: PanopticResult, image_id: str) -> None:
        """Add one image.

        The prediction's `semantic_map` counts, the argmax before merging; results that carry none are taken as their
        merged map shows them, with void where no segment is.

        Raises:
            DatasetError: the sizes differ, or a map has a train id beyond the table.
        """
        predicted = prediction.train_id_map() if prediction.semantic_map is None else prediction.semantic_map
        true = truth.train_id_map() if truth.semantic_map is None else truth.semantic_map
        check_prediction_size(predicted, true, image_id=image_id)
        num_classes = len(self.categories)
        # Rows and columns num_classes and num_classes + 1 take void and impossible ids, so one pass counts and checks.
        fold = np.full(256, num_classes + 1, np.int64)
        fold[:num_classes] = np.arange(num_classes)
        fold[IGNORE_INDEX] = num_classes
        codes = (fold * (num_classes + 2))[true]
        codes += fold[predicted]
        square = (num_classes + 2, num_classes + 2)
        counts = np.bincount(codes.ravel(), minlength=square[0] * square[1]).reshape(square)
        for who, map_, impossible in (("truth", true, counts[-1]), ("prediction", predicted, counts[:, -1])):
            if impossible.any():
                self._raise_impossible(map_, f"the {who} of image {image_id}")
        self.confusion += torch.from_numpy(counts[:num_classes, : num_classes + 1])

    def counted(self) -> Int64[Tensor, "C C+1"]:
        """The confusion matrix so far."""
        return self.confusion

    def merge(self, parts: Sequence[Int64[Tensor, "C C+1"]]) -> None:
        """Add up the matrices of several parts."""
        self.confusion = torch.stack(list(parts)).sum(0)

    def compute(self) -> SemanticIoUReport:
        """The numbers of all images so far."""
        num_classes = len(self.categories)
        confusion = self.confusion.numpy()
        right = np.diagonal(confusion)
        union = confusion.sum(1) + confusion[:, :num_classes].sum(0) - right
        ious = [int(r) / int(u) if u else None for r, u in zip(right, union, strict=True)]
        occurring = [iou for iou in ious if iou is not None]
        labeled = int(confusion.sum())
        return SemanticIoUReport(
            miou=sum(occurring) / len(occurring) if occurring else None,
            num_classes=len(occurring),
            pixel_accuracy=int(right.sum()) / labeled if labeled else None,
            per_class=tuple(
                ClassIoU(category_id=category.id, name=category.name, iou=iou)
                for category, iou in zip(self.categories.categories, ious, strict=True)
            ),
            confusion=confusion.tolist(),
        )

    def _raise_impossible(self, map_: UInt8[np.ndarray, "H W"], where: str) -> None:
        wrong = np.unique(map_[(map_ >= len(self.categories)) & (map_ != IGNORE_INDEX)])
        raise DatasetError(
            f"The semantic map of {where} has train ids {wrong.tolist()}; expected 0 to {len(self.categories) - 1}"
            f" and {IGNORE_INDEX} for void. Are these results of another category table?"
        )
