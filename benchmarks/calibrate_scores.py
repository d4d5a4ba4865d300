"""Fit `postprocess.score_calibration` of a model folder on held-out images, and write it into its `config.json`.

    python benchmarks/calibrate_scores.py RUN/best --root FOLDER --split dev

A predicted instance counts as right where its IoU with a true one of its class is above 0.5. Printed are the curve and
the mean error of the shown score in ten bins of equal size, before and after.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from panoptic_deeplab import PanopticPredictor, open_source
from panoptic_deeplab.config.io import config_to_dict
from panoptic_deeplab.files import write_json
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.weights.checksums import CHECKSUMS_FILE, write_checksums
from panoptic_deeplab.weights.folder import CATEGORIES_FILE, CONFIG_FILE, read_settings


def is_right(prediction: PanopticResult, truth: PanopticResult) -> list[tuple[float, bool]]:
    """Objectness score of each predicted thing, and whether a true one matches it."""
    areas = {segment.id: segment.area for segment in truth.segments_info}
    kinds = {segment.id: segment.category_id for segment in truth.segments_info}
    rows = []
    for segment in prediction.segments_info:
        if segment.objectness_score is None:
            continue
        ids, counts = np.unique(truth.panoptic_map[prediction.panoptic_map == segment.id], return_counts=True)
        best = max(
            (
                count / (segment.area + areas[id_] - count)
                for id_, count in zip(ids.tolist(), counts.tolist(), strict=True)
                if kinds.get(id_) == segment.category_id
            ),
            default=0.0,
        )
        rows.append((segment.objectness_score, best > 0.5))
    return rows


def fit(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and shift of the logistic curve of the largest likelihood, by Newton's method; rising."""
    design = np.stack([scores, np.ones_like(scores)], axis=1)
    weights = np.zeros(2)
    for _ in range(100):
        shown = 1 / (1 + np.exp(-design @ weights))
        hessian = (design * (shown * (1 - shown))[:, None]).T @ design + 1e-6 * np.eye(2)
        weights -= np.linalg.solve(hessian, design.T @ (shown - right))
    assert weights[0] > 0, "higher scores are not surer"
    return round(float(weights[0]), 4), round(float(weights[1]), 4)


def error(shown: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of the shown score from the share that is right, over ten bins of equal size."""
    order = np.array_split(np.argsort(shown, kind="stable"), 10)
    return float(np.mean([abs(shown[part].mean() - right[part].mean()) for part in order]))


def main() -> None:
    """Predict, fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--root", required=True)
    parser.add_argument("--split", default="dev")
    arguments = parser.parse_args()
    predictor = PanopticPredictor.from_pretrained(arguments.model)
    data = replace(
        predictor.config.data, root=arguments.root, categories=str(arguments.model / CATEGORIES_FILE), outside_root=True
    )
    source = open_source(data, arguments.split)
    samples = (source[index] for index in range(len(source)))
    rows = [row for s in samples for row in is_right(predictor.predict(s.pixels), s.truth(source.categories))]
    scores, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], float)
    slope, shift = fit(scores, right)
    before = error(np.clip(scores, 0, 1), right)
    after = error(1 / (1 + np.exp(-(slope * scores + shift))), right)
    print(
        f"{len(rows)} instances, {right.mean():.3f} right; slope {slope}, shift {shift};"
        f" error {before:.3f} -> {after:.3f}"
    )
    config = read_settings(arguments.model)[0]
    config = replace(config, postprocess=replace(config.postprocess, score_calibration=(slope, shift)))
    write_json(arguments.model / CONFIG_FILE, config_to_dict(config), indent=2)
    if (arguments.model / CHECKSUMS_FILE).exists():
        write_checksums(arguments.model, {CONFIG_FILE: arguments.model / CONFIG_FILE})


if __name__ == "__main__":
    main()
