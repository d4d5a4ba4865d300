"""The checks that several metrics share."""

import numpy as np
from jaxtyping import Shaped

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.panoptic_result import PanopticResult, check_categories


def check_prediction_size(
    prediction: Shaped[np.ndarray, "H W"], truth: Shaped[np.ndarray, "truth_H truth_W"], *, image_id: str
) -> None:
    """Hold the sizes of two maps against each other.

    Raises:
        DatasetError: they differ.
    """
    if prediction.shape != truth.shape:
        raise DatasetError(
            f"Image {image_id}: the prediction has (height, width) {prediction.shape}, the truth {truth.shape}."
            " Metrics need predictions at the size of the label, not of the network input."
        )


def train_ids_of(result: PanopticResult, categories: CategoryTable, *, where: str) -> list[int]:
    """Train id of each segment, in the order of `segments_info`.

    Args:
        result: truth or prediction.
        categories: the table of the evaluation.
        where: whose segments they are, for the message.

    Raises:
        DatasetError: a segment has a category that the table lacks.
    """
    check_categories(result.segments_info, categories, where=where)
    return [categories.train_id_by_category_id[segment.category_id] for segment in result.segments_info]
