"""The method's formulas as plainly as they can be written: what the library must equal and outrun.

Whole arrays, and a Python loop over instances or segments; no trick. Tests compare the library with these functions,
and `bench.py` measures how much faster the library is.

Dimension letters: `C` classes, `K` centers, `H W` the network input. Points are `(y, x)`.
"""

import math
from collections import defaultdict

import numpy as np
import torch
from torch.nn import functional as F


# --- post-processing (sections 3.2 and 3.3) ---------------------------------------------------------------------------
def find_centers(heatmap, *, threshold, nms_kernel, top_k):
    """[(score, y, x)], the strongest first, equal ones in raster order; of equal ones in a window the first."""
    radius = nms_kernel // 2
    largest = F.max_pool2d(torch.from_numpy(heatmap)[None], nms_kernel, stride=1, padding=radius)[0].numpy()
    candidates = [tuple(point) for point in np.argwhere((heatmap > threshold) & (heatmap == largest)).tolist()]
    centers = [
        (heatmap[y, x], y, x)
        for y, x in candidates
        if not any(max(abs(y - v), abs(x - u)) <= radius and (v, u) < (y, x) for v, u in candidates)
    ]
    return sorted(centers, key=lambda center: (-center[0], center[1], center[2]))[:top_k]


def group_pixels(offset, is_thing, points):
    """Index of the nearest center of each thing pixel, len(points) elsewhere; the formula in float32."""
    if len(points) == 0:
        return np.zeros(is_thing.shape, np.int64)
    target = np.stack(np.indices(is_thing.shape, np.float32) + offset, axis=-1)  # H W 2
    difference = np.array(points, np.float32)[:, None, None] - target  # K H W 2
    distance = (difference**2).sum(axis=-1)  # K H W
    return np.where(is_thing, distance.argmin(axis=0), len(points))


def join_instances(instance_map, classes, fraction):
    """Instances of one class whose common border is at least `fraction` of the shorter outline, as one, the first."""
    height, width = instance_map.shape
    outline, border = defaultdict(int), defaultdict(int)
    for y in range(height):
        for x in range(width):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < height and u < width and instance_map[y, x] != instance_map[v, u]:
                    pair = tuple(sorted((int(instance_map[y, x]), int(instance_map[v, u]))))
                    border[pair] += 1
                    for one in pair:
                        outline[one] += 1
    whole = list(range(len(classes) + 1))  # the last stands for pixels without an instance
    for (one, other), length in border.items():
        shorter = min(outline[one], outline[other])
        is_long = np.float32(length) / np.float32(shorter) >= np.float32(fraction)
        if other < len(classes) and classes[one] == classes[other] and is_long:
            first, last = sorted((whole[one], whole[other]))
            whole = [first if index == last else index for index in whole]
    return np.array(whole)[instance_map]


def postprocess(logits, heatmap, offset, *, thing_mask, config):
    """(panoptic_map, semantic_map, segments) from maps at the resolution of the input.

    Segments are dictionaries with id, train_id, area, bbox (COCO), score.
    """
    semantic_map = logits.argmax(axis=0)
    exponential = np.exp(logits - logits.max(axis=0))
    probability = exponential / exponential.sum(axis=0)
    is_thing = thing_mask[semantic_map]
    centers = find_centers(heatmap, threshold=config.center_threshold, nms_kernel=config.nms_kernel, top_k=config.top_k)
    instance_map = group_pixels(offset, is_thing, [(y, x) for _, y, x in centers])
    if config.join_border_fraction is not None:
        masks = [is_thing & (instance_map == index) for index in range(len(centers))]
        classes = [np.bincount(semantic_map[mask]).argmax() if mask.any() else -1 for mask in masks]
        instance_map = join_instances(instance_map, classes, config.join_border_fraction)

    panoptic_map = np.zeros(semantic_map.shape, np.int32)
    segments = []

    def add(mask, train_id, objectness):
        ys, xs = np.nonzero(mask)
        segment = {
            "id": len(segments) + 1,
            "train_id": int(train_id),
            "area": len(ys),
            "bbox": (xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1),
            "score": objectness * probability[train_id][mask].mean(dtype=np.float64),
        }
        segments.append(segment)
        panoptic_map[mask] = segment["id"]

    for index, (score, _, _) in enumerate(centers):
        mask = is_thing & (instance_map == index)
        if mask.any() and mask.sum() >= config.instance_area_limit:
            add(mask, np.bincount(semantic_map[mask]).argmax(), score)
    for train_id in np.flatnonzero(~thing_mask):
        mask = semantic_map == train_id
        if mask.any() and mask.sum() >= config.stuff_area_limit:
            add(mask, train_id, 1.0)
    return panoptic_map, semantic_map, segments


# --- training targets (sections 3.1 and 4) ----------------------------------------------------------------------------
def make_targets(panoptic_map, segments_info, *, categories, config):
    """The fields of `maps.Targets` by name, as arrays."""
    height, width = panoptic_map.shape
    y, x = np.indices((height, width), np.float64)
    radius = math.ceil(3 * config.sigma) + 1
    semantic = np.full((height, width), 255, np.uint8)
    heatmap = np.zeros((height, width))
    offset = np.zeros((2, height, width))
    semantic_weight, center_weight, offset_weight = np.zeros((3, height, width))
    for segment in segments_info:
        mask = panoptic_map == segment.id
        if not mask.any() or (segment.iscrowd and config.ignore_crowd_in_semantic):
            continue
        semantic[mask] = categories.train_id_by_category_id[segment.category_id]
        semantic_weight[mask] = 1
        if segment.iscrowd:
            continue
        center_weight[mask] = 1
        if not segment.isthing:
            continue
        if mask.sum() < config.small_instance_area:
            semantic_weight[mask] = config.small_instance_weight
        offset_weight[mask] = 1
        center_y, center_x = y[mask].mean(), x[mask].mean()
        offset[0][mask] = center_y - y[mask]
        offset[1][mask] = center_x - x[mask]
        vertical, horizontal = (
            np.exp(-(distance**2) / (2 * config.sigma**2)) * (abs(distance) <= radius)
            for distance in (y[:, 0] - np.rint(center_y), x[0] - np.rint(center_x))
        )
        heatmap = np.maximum(heatmap, np.outer(vertical, horizontal))
    return {
        "semantic": semantic,
        "center_heatmap": heatmap,
        "offset": offset,
        "semantic_weight": semantic_weight,
        "center_weight": center_weight,
        "offset_weight": offset_weight,
    }


# --- Panoptic Quality (Kirillov et al., CVPR 2019, with the rules of its reference implementation) --------------------
def panoptic_quality(prediction, truth):
    """{category_id: [sum of IoU, true positives, false positives, false negatives]} of one image."""
    sums = defaultdict(lambda: [0.0, 0, 0, 0])
    codes, counts = np.unique(truth.panoptic_map.astype(np.int64) * 2**24 + prediction.panoptic_map, return_counts=True)
    shared = {divmod(code, 2**24): count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)}
    true_area, predicted_area = (
        dict(zip(*(a.tolist() for a in np.unique(result.panoptic_map, return_counts=True)), strict=True))
        for result in (truth, prediction)
    )
    matched_truth, matched_prediction = set(), set()
    for segment in truth.segments_info:
        for candidate in prediction.segments_info:
            intersection = shared.get((segment.id, candidate.id), 0)
            if segment.iscrowd or segment.category_id != candidate.category_id or intersection == 0:
                continue
            union = true_area[segment.id] + predicted_area[candidate.id] - intersection
            iou = intersection / (union - shared.get((0, candidate.id), 0))
            if iou > 0.5:
                sums[segment.category_id][0] += iou
                sums[segment.category_id][1] += 1
                matched_truth.add(segment.id)
                matched_prediction.add(candidate.id)
    crowd_of_category = {segment.category_id: segment.id for segment in truth.segments_info if segment.iscrowd}
    for segment in truth.segments_info:
        if segment.id not in matched_truth and not segment.iscrowd:
            sums[segment.category_id][3] += 1
    for candidate in prediction.segments_info:
        crowd = crowd_of_category.get(candidate.category_id)
        ignored = shared.get((0, candidate.id), 0) + (0 if crowd is None else shared.get((crowd, candidate.id), 0))
        if candidate.id not in matched_prediction and ignored <= 0.5 * predicted_area[candidate.id]:
            sums[candidate.category_id][2] += 1
    return dict(sums)
