"""The post-processing of sections 3.2 and 3.3 as plainly as it can be written: loops, whole arrays, no tricks.

What `panoptic_deeplab.postprocess` must equal. Slow, for small images only; it takes maps that are already at the
resolution of the image.
"""

import numpy as np


def find_centers(heatmap, *, threshold, nms_kernel, top_k):
    """[(score, y, x)], the strongest first, equal ones in raster order."""
    radius = nms_kernel // 2
    candidates = []
    for y, x in np.ndindex(heatmap.shape):
        window = heatmap[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        if heatmap[y, x] > threshold and heatmap[y, x] == window.max():
            candidates.append((y, x))
    centers = [
        (heatmap[y, x], y, x)
        for y, x in candidates
        if not any(max(abs(y - v), abs(x - u)) <= radius and (v, u) < (y, x) for v, u in candidates)
    ]
    return sorted(centers, key=lambda center: (-center[0], center[1], center[2]))[:top_k]


def group_pixels(offset, is_thing, points):
    """Index of the nearest center of each thing pixel, len(points) elsewhere; float32 as in the formula."""
    index = np.full(is_thing.shape, len(points), np.int32)
    if len(points) == 0:
        return index
    centers = np.array(points, np.float32)
    for y, x in np.argwhere(is_thing):
        dy = (np.float32(y) + offset[0, y, x]) - centers[:, 0]
        dx = (np.float32(x) + offset[1, y, x]) - centers[:, 1]
        index[y, x] = np.argmin(dy * dy + dx * dx)
    return index


def postprocess(logits, heatmap, offset, *, thing_mask, config):
    """(panoptic_map, semantic_map, rows), a row for each segment: id, train_id, area, bbox, score."""
    semantic_map = logits.argmax(0)
    shifted = np.exp(logits.astype(np.float64) - logits.max(0))
    probability = shifted / shifted.sum(0)
    is_thing = thing_mask[semantic_map]

    centers = find_centers(heatmap, threshold=config.center_threshold, nms_kernel=config.nms_kernel, top_k=config.top_k)
    instance = group_pixels(offset, is_thing, [(y, x) for _, y, x in centers])
    panoptic_map = np.zeros(semantic_map.shape, np.int32)
    rows = []

    def add(mask, train_id, objectness):
        ys, xs = np.nonzero(mask)
        panoptic_map[mask] = len(rows) + 1
        rows.append(
            {
                "id": len(rows) + 1,
                "train_id": train_id,
                "area": len(ys),
                "bbox": (xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1),
                "score": objectness * probability[train_id][mask].mean(),
            }
        )

    for index, (score, _, _) in enumerate(centers):
        mask = instance == index
        if mask.any():
            add(mask, np.bincount(semantic_map[mask]).argmax(), score)
    for train_id in np.flatnonzero(~thing_mask):
        mask = semantic_map == train_id
        if mask.any() and mask.sum() >= config.stuff_area_limit:
            add(mask, train_id, 1.0)
    return panoptic_map, semantic_map, rows
