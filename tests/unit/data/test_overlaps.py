"""What is told of annotations that overlap."""

import numpy as np

from panoptic_deeplab.data.formats.common.shapes import Painted
from panoptic_deeplab.data.overlaps import Overlaps


def test_places_name_the_image_and_pixels_add_up() -> None:
    overlaps = Overlaps()
    overlaps.add(Painted(np.zeros((1, 1), np.int32), [], 5, empty=["annotations[1]"], hidden=[]), "7")
    assert overlaps.messages() == [
        "Annotations that cover no pixel of their image (empty, outside, thinner than a pixel): 1, the first is"
        " annotations[1] (image 7)."
    ]
    overlaps.add(Painted(np.zeros((1, 1), np.int32), [], 4, empty=[], hidden=["annotations[8]"]), "8")
    assert overlaps.pixels == 9
    assert overlaps.messages()[1].endswith("not seen: 1, the first is annotations[8] (image 8).")
