"""Samples of sources that somebody else wrote."""

from typing import Any

import numpy as np
import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.sample import PanopticSource, Sample, image_ids
from panoptic_deeplab.errors import DatasetError

IMAGE = np.zeros((4, 6, 3), np.uint8)
MAP = np.zeros((4, 6), np.int32)


@pytest.mark.parametrize(
    ("image", "panoptic_map", "said"),
    [
        (IMAGE.astype(np.float32), MAP, r"a: the image is ndarray float32 \(4, 6, 3\). Expected RGB"),
        (IMAGE[..., 0], MAP, "Expected RGB"),
        ([[0, 0, 0]], MAP, "the image is list"),
        (IMAGE, MAP.astype(np.int64), "label map is ndarray int64.*from_maps"),
        (IMAGE, MAP[:3], r"size \(4, 6\), its label map \(3, 6\)"),
    ],
)
def test_what_no_transform_could_use_is_refused(image: Any, panoptic_map: Any, said: str) -> None:
    sample = Sample(image_id="a", image=IMAGE, panoptic_map=MAP, segments_info=[])
    object.__setattr__(sample, "image", image)  # after the types were checked, which only tests do
    object.__setattr__(sample, "panoptic_map", panoptic_map)
    with pytest.raises(DatasetError, match=said):
        sample.__post_init__()


class _Smallest:
    categories = CategoryTable.load("synthetic")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        return Sample(image_id=f"image_{index}", image=IMAGE, panoptic_map=MAP, segments_info=[])


def test_a_source_needs_no_names() -> None:
    source = _Smallest()
    assert isinstance(source, PanopticSource)
    assert image_ids(source) == ["0", "1"]
