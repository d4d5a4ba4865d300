"""Outlines of segments along the edges of their pixels, so that their area is the number of pixels.

A corner `(x, y)` with whole numbers is where four pixels meet: pixel `(y, x)` is the square from `(x, y)` to
`(x + 1, y + 1)`. All segments of a map are outlined at once. First the corners are found, of every segment that has
one, three or two diagonal ones of the four pixels around a point. Along each line of the grid two consecutive corners
of one side are the ends of an edge, so sorting gives the edges, and following them gives the rings.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, Integer

from panoptic_deeplab.results.run_lengths import find_runs

Ring = list[list[int]]
"""Corners `[x, y]` in pixels, the last one equal to the first.

With x to the right and y up, the ring around a part turns counterclockwise and the ring around a hole clockwise, as
GeoJSON wants it.
"""

Polygon = list[Ring]
"""One part: the ring around it, then the rings around its holes."""


def outlines(panoptic_map: Integer[np.ndarray, "H W"]) -> dict[int, list[Polygon]]:
    """Outlines of all segments, by id; 0 is none.

    Pixels that touch at a corner only are two parts. No ring passes a point twice, so each outline is valid as a
    MultiPolygon of GeoJSON (OGC Simple Features).

    Args:
        panoptic_map: segment ids.
    """
    corners = _find_corners(panoptic_map)
    rings = _follow(corners)
    if not rings:
        return {}
    width = panoptic_map.shape[1]
    ends = np.cumsum([len(ring) for ring in rings])
    starts = np.concatenate([[0], ends[:-1]])
    in_order = np.concatenate(rings)
    ring_of_edge = np.empty(len(in_order), np.int64)
    ring_of_edge[in_order] = np.repeat(np.arange(len(rings)), ends - starts)
    place = corners.y[in_order] * (width + 1) + corners.x[in_order]
    y, x = np.divmod(np.minimum.reduceat(place, starts), width + 1)  # the top corner, of several the left one
    labels = corners.label[in_order[starts]]
    below_right = np.pad(panoptic_map, ((0, 1), (0, 1)))[y, x]
    is_hole = below_right != labels
    holes = np.flatnonzero(is_hole)
    parents = np.arange(len(rings))  # a ring around a part is its own; a hole has the ring around its part
    # The run of pixels that ends at the upper left corner of a hole begins at another ring of the same part.
    runs = find_runs(panoptic_map).starts
    begins = runs[np.searchsorted(runs, y[holes] * width + x[holes] - 1, "right") - 1] % width
    edges = np.searchsorted(corners.vertical_key, corners.key_of_vertical_edge(begins, y[holes]), "right")
    parents[holes] = ring_of_edge[
        corners.vertical_order[edges]
    ]  # the lower end: with the part on the right, it goes up
    while (parents != parents[parents]).any():
        parents = parents[parents]
    points = np.stack([corners.x[in_order], corners.y[in_order]], axis=1).tolist()
    found: dict[int, list[Polygon]] = {}
    polygons: dict[int, Polygon] = {}
    columns = (np.arange(len(rings)), parents, labels, starts, ends)
    parts_first = np.argsort(is_hole, kind="stable")
    for number, parent, label, start, end in zip(*(column[parts_first].tolist() for column in columns), strict=True):
        ring = [*points[start:end], list(points[start])]
        if number == parent:
            polygons[number] = [ring]
            found.setdefault(label, []).append(polygons[number])
        else:
            polygons[parent].append(ring)
    return found


class _Corners(NamedTuple):
    """Where the outlines turn; a point may be a corner of several segments, and of one segment twice."""

    y: Int64[np.ndarray, " N"]
    x: Int64[np.ndarray, " N"]
    label: Integer[np.ndarray, " N"]
    successor: Int64[np.ndarray, " N"]
    """The corner at the end of the edge that leaves this one, which has the segment on its right (with y down)."""
    twice: Bool[np.ndarray, " N"]
    """The segment has two diagonal ones of the four pixels."""
    vertical_key: Int64[np.ndarray, " N"]
    """Sorted: the ends of the vertical edges, upper and lower in turn."""
    vertical_order: Int64[np.ndarray, " N"]
    """The corners in that order."""
    rows: int
    """Horizontal lines of the grid."""

    def key_of_vertical_edge(self, x: Int64[np.ndarray, " K"], y: Int64[np.ndarray, " K"]) -> Int64[np.ndarray, " K"]:
        """What is sorted between the ends of the edge on the left side of the pixel `(y, x)`."""
        return _key(x, np.zeros_like(x), y, 1, self.rows)


def _find_corners(panoptic_map: Integer[np.ndarray, "H W"]) -> _Corners:
    height, width = panoptic_map.shape
    padded = np.pad(panoptic_map, 1)
    across = padded[:, :-1] != padded[:, 1:]
    down = padded[:-1] != padded[1:]
    y, x = np.nonzero((across[:-1] | across[1:]) & (down[:, :-1] | down[:, 1:]))
    around = np.stack([padded[y, x], padded[y, x + 1], padded[y + 1, x], padded[y + 1, x + 1]])
    parts = []
    for at in (3, 2, 1, 0):  # below right (so rings begin at the top left), below left, above right, above left
        pixel, beside, opposite = around[at], around[at ^ 1], around[at ^ 2]
        diagonal = around[at ^ 3]
        convex = (pixel != beside) & (pixel != opposite)
        concave = (pixel == beside) & (pixel == opposite) & (pixel != diagonal)
        kept = np.flatnonzero((pixel != 0) & (convex | concave))
        columns = y, x, pixel, np.full(len(pixel), at), convex, convex & (pixel == diagonal)
        parts.append([column[kept] for column in columns])
    y, x, label, place, convex, twice = (np.concatenate(column) for column in zip(*parts, strict=True))
    above: Bool[np.ndarray, " N"] = place < 2
    left: Bool[np.ndarray, " N"] = place % 2 == 0
    # At a convex corner both edges are sides of the pixel itself; at a concave one they lead away from it.
    key = _key(y, above, x, left ^ convex, width + 1)
    vertical_key = _key(x, left, y, above ^ convex, height + 1)
    along_row, along_column = _other_ends(np.argsort(key)), np.argsort(vertical_key)
    successor = np.where(above ^ left ^ convex, along_row, _other_ends(along_column))
    return _Corners(y, x, label, successor, twice, vertical_key[along_column], along_column, height + 1)


def _key(
    line: Int64[np.ndarray, " N"],
    side: Bool[np.ndarray, " N"] | Int64[np.ndarray, " N"],
    along: Int64[np.ndarray, " N"],
    forward: Bool[np.ndarray, " N"] | int,
    length: int,
) -> Int64[np.ndarray, " N"]:
    """Order of the ends of edges: by line of the grid, side on which the segment lies, place; an end before a start."""
    key: Int64[np.ndarray, " N"] = ((line * 2 + side) * length + along) * 2 + forward
    return key


def _other_ends(order: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    ends = np.empty_like(order)
    ends[order[::2]], ends[order[1::2]] = order[1::2], order[::2]
    return ends


def _follow(corners: _Corners) -> list[list[int]]:
    """The rings as lists of corners; each corner, and the edge that leaves it, is in one.

    Where a path comes to a point again, what lies between is a ring of its own: a hole that touches the outside, or
    another hole, at a corner.
    """
    successor, twice = corners.successor.tolist(), corners.twice.tolist()
    point = (corners.y * (int(corners.x.max(initial=0)) + 1) + corners.x).tolist()
    is_done = bytearray(len(successor))
    rings: list[list[int]] = []
    for start in range(len(successor)):
        path: list[int] = []
        seen: dict[int, int] = {}
        corner = start
        while not is_done[corner]:
            is_done[corner] = True
            if twice[corner]:
                begin = seen.get(point[corner])
                if begin is not None:
                    rings.append(path[begin:])
                    del path[begin:]
                seen[point[corner]] = len(path)
            path.append(corner)
            corner = successor[corner]
        if path:
            rings.append(path)
    return rings
