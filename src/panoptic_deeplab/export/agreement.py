"""How an exported file's answers compare with those of PyTorch.

The network's maps differ by rounding. In the whole pipeline, such a difference can turn a decision that was close: the
class of a pixel, a peak of the heatmap, the nearest center, a vote, the area of stuff.

Dimension letters: `H W` an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Int32, UInt8

from panoptic_deeplab.inference.engines.pipeline_engine import PipelineEngine
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.results.ids import VOID_ID
from panoptic_deeplab.results.panoptic_result import PanopticResult


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How two predictors agree over some images."""

    num_images: int
    differing_pixels: int
    """Pixels of another segment in the one panoptic map than in the other."""
    num_pixels: int
    score_difference: float
    """Largest, of segments that both have."""
    map_differences: dict[str, float] = field(default_factory=dict)
    """Largest difference of each raw map, in its standard deviations; empty for a file with the whole pipeline."""

    @property
    def pixel_agreement(self) -> float:
        """Share of the pixels, 0 to 1."""
        return 1 - self.differing_pixels / self.num_pixels

    def summary(self) -> str:
        """One line for people."""
        maps = "".join(f", {name} within {value:.1e} deviations" for name, value in self.map_differences.items())
        return (
            f"Agrees with PyTorch on {self.num_pixels - self.differing_pixels} of {self.num_pixels} pixels"
            f" ({100 * self.pixel_agreement:.4f} %) of {self.num_images} images, scores within"
            f" {self.score_difference:.1e}{maps}"
        )


def measure_agreement(
    reference: PanopticPredictor, exported: PanopticPredictor, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
) -> Agreement:
    """Predict some images, at least one, with the PyTorch model `reference` and with the file."""
    differing = num_pixels = 0
    score_difference = 0.0
    map_differences: dict[str, float] = {}
    for image in images:
        ours, theirs = reference.predict(image), exported.predict(image)
        match = match_segments(ours, theirs)
        differing += int(differing_pixels(ours, theirs).sum())
        num_pixels += ours.panoptic_map.size
        scores = {segment.id: segment.ranking_score or 0.0 for segment in theirs.segments_info}
        for segment in ours.segments_info:
            if match[segment.id] != VOID_ID:
                score_difference = max(
                    score_difference, abs((segment.ranking_score or 0.0) - scores[match[segment.id]])
                )
        if not isinstance(exported.engine, PipelineEngine):
            for name, value in _map_differences(reference, exported, image).items():
                map_differences[name] = max(map_differences.get(name, 0.0), value)
    return Agreement(
        num_images=len(images),
        differing_pixels=differing,
        num_pixels=num_pixels,
        score_difference=score_difference,
        map_differences=map_differences,
    )


def match_segments(ours: PanopticResult, theirs: PanopticResult) -> dict[int, int]:
    """Our id of each segment -> their id of the one it shares most pixels with, of the same class; void if none."""
    their_category = {segment.id: segment.category_id for segment in theirs.segments_info}
    match = {VOID_ID: VOID_ID}
    for segment in ours.segments_info:
        ids, counts = np.unique(theirs.panoptic_map[ours.panoptic_map == segment.id], return_counts=True)
        same = [i for i in ids[np.argsort(-counts, kind="stable")] if their_category.get(int(i)) == segment.category_id]
        match[segment.id] = int(same[0]) if same else VOID_ID
    return match


def differing_pixels(ours: PanopticResult, theirs: PanopticResult) -> Bool[np.ndarray, "H W"]:
    """Where the maps show different segments; how these are numbered does not matter."""
    match = match_segments(ours, theirs)
    lookup = np.zeros(max(match) + 1, np.int32)
    lookup[list(match)] = list(match.values())
    expected: Int32[np.ndarray, "H W"] = lookup[ours.panoptic_map]
    lost = ~np.isin(ours.panoptic_map, [i for i, j in match.items() if j != VOID_ID or i == VOID_ID])
    differing: Bool[np.ndarray, "H W"] = (expected != theirs.panoptic_map) | lost
    return differing


@torch.inference_mode()
def _map_differences(
    reference: PanopticPredictor, exported: PanopticPredictor, image: UInt8[np.ndarray, "H W 3"]
) -> dict[str, float]:
    ours, theirs = reference.raw_maps(image), exported.raw_maps(image)
    differences = {}
    for name, our_map, their_map in zip(ours._fields, ours, theirs, strict=True):
        if our_map is not None and their_map is not None:
            scale = max(float(our_map.std()), 1e-12)
            differences[name] = float((our_map - their_map.to(our_map.device)).abs().max()) / scale
    return differences
