"""Centers from a list of pixels; `test_centers.py` and the property tests hold them against those of the whole map."""

import torch

from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.postprocess.shortcut import peaks
from panoptic_deeplab.postprocess.shortcut.cells import make_cells
from panoptic_deeplab.postprocess.shortcut.peaks import centers_of_list


def test_a_flat_map_is_not_gone_through_pixel_by_pixel(monkeypatch):
    """A list would hold all pixels times all neighbors."""
    monkeypatch.setattr(peaks, "_LONGEST_LIST", 10_000)
    cells = make_cells((40, 50), (40, 50), (40, 50), align_corners=True)
    assert centers_of_list(torch.full((40, 50), 0.5), cells, PostprocessConfig(nms_kernel=21)) is None
    few = torch.zeros(40, 50)
    few[20, 30] = 0.5
    assert centers_of_list(few, cells, PostprocessConfig(nms_kernel=21)).valid.sum() == 1
