"""The two scores of a predicted segment: the paper's, which ranks, and a number in [0, 1], which people see."""

import math


def predicted_scores(
    raw: float, *, isthing: bool, calibration: tuple[float, float] | None = None
) -> dict[str, float | None]:
    """The fields `score` and `objectness_score` of a `Segment`.

    The paper's score of a thing is objectness times class probability (section 3.3). Nothing keeps a heatmap below 1,
    and 0.5 means nothing by itself. With a calibration `(slope, shift)`, fitted on held-out images
    (`benchmarks/calibrate_scores.py`), what is shown is the probability that the IoU with a true object is above 0.5.

    Args:
        raw: the paper's score; of stuff, the mean probability of its class.
        isthing: whether it is a thing.
        calibration: score = 1 / (1 + exp(-(slope * raw + shift))), of things; None = cut to [0, 1].

    >>> predicted_scores(1.05, isthing=True)
    {'score': 1.0, 'objectness_score': 1.05}
    >>> predicted_scores(0.5, isthing=True, calibration=(4.0, -2.0))
    {'score': 0.5, 'objectness_score': 0.5}
    """
    score = min(max(raw, 0.0), 1.0)
    if isthing and calibration is not None:
        slope, shift = calibration
        score = 0.5 * (1 + math.tanh(0.5 * (slope * raw + shift)))  # the logistic function, without overflow
    return {"score": score, "objectness_score": raw if isthing else None}
