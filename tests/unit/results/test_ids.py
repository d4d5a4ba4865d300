"""How ids are stored."""

import numpy as np
import pytest

from panoptic_deeplab.results.ids import MAX_SEGMENT_ID, id_to_rgb, rgb_to_id


def test_red_is_the_lowest_byte():
    assert id_to_rgb(np.array([[1, 256, 65536, 0x030201]])).tolist() == [[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 2, 3]]]


def test_uint8_does_not_overflow():
    white = np.full((1, 1, 3), 255, np.uint8)
    assert rgb_to_id(white)[0, 0] == MAX_SEGMENT_ID
    assert rgb_to_id(white).dtype == np.int32


@pytest.mark.parametrize("wrong", [-1, MAX_SEGMENT_ID + 1])
def test_ids_that_do_not_fit(wrong):
    with pytest.raises(ValueError, match=f"between 0 and {MAX_SEGMENT_ID}.*{wrong}"):
        id_to_rgb(np.array([[wrong, wrong]]))


def test_empty_map():
    assert id_to_rgb(np.zeros((0, 4), np.int32)).shape == (0, 4, 3)
