"""The checks that several metrics share."""

import numpy as np
from jaxtyping import Shaped

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment, check_categories


def check_prediction_size(
    prediction: Shaped[np.ndarray, "H W"], truth: Shaped[np.ndarray, "truth_H truth_W"], *, image_id: str
) -> None:
    """Hold the sizes of two maps against each other, or raise a `DatasetError`."""
    if prediction.shape != truth.shape:
        raise DatasetError(
            f"Image {image_id}: the prediction has (height, width) {prediction.shape}, the truth {truth.shape}."
            " Metrics need predictions at the size of the label, not of the network input."
        )


def train_ids_of(result: PanopticResult, categories: CategoryTable, *, where: str) -> list[int]:
    """Train id of each segment, in the order of `segments_info`; a category beyond the table is a `DatasetError`."""
    check_categories(result.segments_info, categories, where=where)
    return [categories.train_id_by_category_id[segment.category_id] for segment in result.segments_info]


def score_of(segment: Segment, *, image_id: str) -> float:
    """Score of a predicted instance, which AP ranks by; none is a `DatasetError`."""
    score = segment.ranking_score
    if score is None:
        raise DatasetError(
            f"Prediction of image {image_id}: segment {segment.id} ({segment.name}) has no score. AP ranks instances by"
            " score; write one for every thing segment."
        )
    return score
