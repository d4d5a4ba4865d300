"""From raw maps to the answer, and what is measured of it."""

from dataclasses import dataclass
from typing import Literal

from panoptic_deeplab.config.checks import check_fields

Precision = Literal["float32", "bfloat16", "float16"]
"""Number type of the network in prediction; post-processing is always float32. float16 is for GPUs."""


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """Sections 3.2 and 3.3. Kernel and areas in pixels of the network input."""

    center_threshold: float = 0.1
    """Heatmap values at or below it are no center. Higher = fewer, surer instances."""
    nms_kernel: int = 7
    """Odd side of the max-pooling window; two centers in one window become one. Larger = fewer instances."""
    top_k: int = 200
    """At most so many centers an image, the strongest."""
    stuff_area_limit: int = 2048
    """Stuff classes with fewer pixels in the image become void (section 4: Cityscapes 2048, others 4096); 0 = off."""
    instance_area_limit: int = 0
    """Instances with fewer pixels become void; 0 keeps all, as the paper does. Nuclei gained from it what neither a
    limit on the distance to the center nor the joining of fragments gave (docs/explanation/limits-on-instances.md)."""
    join_border_fraction: float | None = None
    """Two instances of one class are one when their common border is at least this part of the shorter outline of both,
    above 0 and at most 1; null joins none, as in the paper. For large objects that fall into pieces; wrong where
    objects touch, as nuclei do (`postprocess/joining.py`, docs/explanation/limits-on-instances.md)."""
    score_calibration: tuple[float, float] | None = None
    """Slope and shift of the logistic curve from the paper's score of a thing to the probability that is shown; null
    cuts to [0, 1]. Fitted on held-out images, it belongs to the weights (`results/scores.py`)."""

    def __post_init__(self) -> None:
        kernel = (self.nms_kernel > 0 and self.nms_kernel % 2 == 1, "a positive odd number")
        limits = "stuff_area_limit instance_area_limit"
        fraction = self.join_border_fraction
        is_fraction = (fraction is None or 0 < fraction <= 1, "above 0 and at most 1, or null")
        check_fields(
            self,
            "postprocess",
            positive="top_k",
            at_least_0=limits,
            nms_kernel=kernel,
            join_border_fraction=is_fraction,
        )


@dataclass(frozen=True, kw_only=True)
class TestTimeAugmentationConfig:
    """Predict each image several times, resized and mirrored, and average the maps (section 4, "multi-scale").

    `predict` and `evaluate` do it; validations during training do not, since it takes many times as long.
    """

    enabled: bool = True
    """False = one pass, whatever the other fields say. Recipes of the paper keep its scales and leave them off."""
    scales: tuple[float, ...] = (1.0,)
    """Sizes relative to the input (section 4: 0.5, 0.75, ..., 2 for Cityscapes and Mapillary Vistas; 0.5, ..., 1.5 for
    COCO)."""
    flip: bool = False
    """Also the left-right mirrored image, at each scale."""
    __test__ = False  # for pytest, which takes every class with such a name for a test

    def __post_init__(self) -> None:
        are_scales = len(self.scales) > 0 and min(self.scales) > 0 and len(set(self.scales)) == len(self.scales)
        rule = (are_scales, "one or more different positive numbers")
        check_fields(self, "test_time_augmentation", scales=rule)

    @property
    def is_plain(self) -> bool:
        """Whether there is one view, the image as it is, and nothing to average."""
        return not self.enabled or (self.scales == (1.0,) and not self.flip)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What to measure."""

    metric: Literal["PQ", "mIoU", "AP"] = "PQ"
    """Chooses the `best` checkpoint."""
    max_detections: int = 100
    """Predicted instances of a class in an image that count for AP, the best first (COCO: 100)."""
    num_pictures: int = 8
    """Images in the mosaic of an evaluation, the first ones, and on its page, the worst ones."""

    def __post_init__(self) -> None:
        check_fields(self, "evaluation", positive="max_detections", at_least_0="num_pictures")
