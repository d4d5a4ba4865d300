"""The rasterizer of polygons against pycocotools on the whole image, and against the even-odd rule, point by point."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panoptic_deeplab.data.formats.common.coco_rle import counts_fault, mask_of_counts, rle_counts
from panoptic_deeplab.data.formats.common.shapes import Patch, mask_patch, polygon_patch

SIZE = (11, 14)

coordinates = st.floats(-6, 22, allow_nan=False).map(lambda v: round(v, 3))
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9).map(np.array)


def decoded(rle: dict[str, object]) -> np.ndarray:
    """The mask, by pycocotools, which asks numpy in an old way."""
    coco_mask = pytest.importorskip("pycocotools.mask")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return np.asarray(coco_mask.decode(rle)) > 0


def spread(patch: Patch) -> np.ndarray:
    full = np.zeros(SIZE, bool)
    height, width = patch.mask.shape
    full[patch.y : patch.y + height, patch.x : patch.x + width] = patch.mask
    return full


@given(parts=st.lists(polygons, min_size=1, max_size=3))
def test_drawing_the_box_alone_changes_nothing(parts: list[np.ndarray]) -> None:
    coco_mask = pytest.importorskip("pycocotools.mask")
    whole = coco_mask.merge(coco_mask.frPyObjects([part.ravel().tolist() for part in parts], *SIZE))
    np.testing.assert_array_equal(spread(polygon_patch(parts, SIZE)), decoded(whole))


def inside(corners: np.ndarray, y: float, x: float) -> bool:
    """The textbook's rule: a ray to the right crosses the outline an odd number of times."""
    odd = False
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            odd = not odd
    return odd


def distance(corners: np.ndarray, y: float, x: float) -> float:
    """From a point to the outline."""
    point, ends = np.array([x, y]), np.roll(corners, -1, axis=0)
    along = ends - corners
    squared = np.maximum((along**2).sum(1), 1e-12)
    share = np.clip(((point - corners) * along).sum(1) / squared, 0, 1)
    return float(np.hypot(*(corners + share[:, None] * along - point).T).min())


@given(corners=polygons)
def test_pixels_whose_center_is_inside_by_the_even_odd_rule_belong(corners: np.ndarray) -> None:
    pytest.importorskip("pycocotools.mask")
    mask = spread(polygon_patch([corners], SIZE))
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            # Corners are rounded to a fifth of a pixel and outlines are walked in such steps.
            if distance(corners, y + 0.5, x + 0.5) > 0.3:
                assert mask[y, x] == inside(corners, y + 0.5, x + 0.5), (y, x)


@given(x=st.integers(-6, 20), y=st.integers(-6, 20), width=st.integers(1, 20), height=st.integers(1, 20))
def test_a_rectangle_covers_its_pixels_exactly(x: int, y: int, width: int, height: int) -> None:
    pytest.importorskip("pycocotools.mask")
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], float)
    expected = np.zeros(SIZE, bool)
    expected[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = True
    np.testing.assert_array_equal(spread(polygon_patch([corners], SIZE)), expected)


@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.0, 0.002, 0.5]))
def test_the_patch_of_a_mask_gives_the_mask_back(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(SIZE) < share
    np.testing.assert_array_equal(spread(mask_patch(mask)), mask)


@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_run_lengths_are_read_as_pycocotools_wrote_them(seed: int, share: float) -> None:
    coco_mask = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).random((203, 190)) < share
    mask[:, 150:] = False  # a long run
    counts = rle_counts(coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"])
    assert counts_fault(counts, mask.shape) is None
    np.testing.assert_array_equal(mask_of_counts(counts, mask.shape), mask)
