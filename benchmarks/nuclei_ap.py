"""AP of nuclei as microscopy papers count it, TP / (TP + FP + FN) at one IoU over all images, by kind of stain.

    python benchmarks/nuclei_ap.py nuclei --root datasets/dsb2018_nuclei --split dev

Nuclei are matched one to one, so that as many as can be are. Kinds are those of `nuclei_kinds.py`, together: all
fluorescence, all stained tissue, bright field.
"""

import argparse
from collections import defaultdict
from dataclasses import replace

import numpy as np
from nuclei_kinds import kind_of
from scipy.optimize import linear_sum_assignment

from panoptic_deeplab import PanopticPredictor, open_source
from panoptic_deeplab.results.panoptic_result import PanopticResult

THRESHOLDS = (0.5, 0.75)
GROUPS = {"pink": "stained", "purple": "stained", "bright_field": "bright field"}


def overlaps(prediction: PanopticResult, truth: PanopticResult) -> np.ndarray:
    """IoU of each predicted instance with each true one."""
    rows = {segment.id: i for i, segment in enumerate(prediction.instances())}
    columns = {segment.id: i for i, segment in enumerate(truth.instances())}
    result = np.zeros((len(rows), len(columns)))
    areas = [np.array([s.area for s in r.instances()], float) for r in (prediction, truth)]
    pairs, counts = np.unique(
        np.stack([prediction.panoptic_map.ravel(), truth.panoptic_map.ravel()]), axis=1, return_counts=True
    )
    for one, other, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
        if one in rows and other in columns:
            row, column = rows[one], columns[other]
            result[row, column] = count / (areas[0][row] + areas[1][column] - count)
    return result


def main() -> None:
    """Print a line a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--root", required=True)
    parser.add_argument("--split", required=True)
    arguments = parser.parse_args()
    predictor = PanopticPredictor.from_pretrained(arguments.model, device="cpu")
    source = open_source(replace(predictor.config.data, root=arguments.root), arguments.split)
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3 + len(THRESHOLDS), int))
    for index in range(len(source)):
        sample = source[index]
        iou = overlaps(predictor.predict(sample.pixels), sample.truth(source.categories))
        matched = [int((iou >= t)[linear_sum_assignment(-(iou >= t).astype(int))].sum()) for t in THRESHOLDS]
        group = GROUPS.get(kind_of(sample.image), "fluorescence")
        for name in (group, "all"):
            counts[name][:3] += (1, *iou.shape)
            counts[name][3:] += matched
    for name, (images, predicted, true, *matched) in counts.items():
        values = (100 * tp / (predicted + true - tp) for tp in matched)
        told = ", ".join(f"AP@{t} {value:.1f}" for t, value in zip(THRESHOLDS, values, strict=True))
        print(f"{name}: {images} images, {true} nuclei, {told}")


if __name__ == "__main__":
    main()
