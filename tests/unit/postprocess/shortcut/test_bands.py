"""Bands of rows, on one thread and on several."""

import numpy as np
import pytest

from panoptic_deeplab.postprocess.shortcut import bands
from panoptic_deeplab.postprocess.shortcut.bands import for_each_band


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("elements_a_row", [1, 10, 10**9])
def test_every_row_is_worked_on_once(monkeypatch, num_threads, elements_a_row):
    monkeypatch.setattr(bands.torch, "get_num_threads", lambda: num_threads)
    monkeypatch.setattr(bands, "_ELEMENTS", 25)
    seen = np.zeros(17, np.int64)

    def work(rows):
        seen[rows] += 1

    for_each_band(work, num_rows=17, elements_a_row=elements_a_row)
    assert (seen == 1).all()


@pytest.mark.parametrize("num_threads", [1, 2])
def test_an_error_in_a_band_is_raised(monkeypatch, num_threads):
    monkeypatch.setattr(bands.torch, "get_num_threads", lambda: num_threads)
    monkeypatch.setattr(bands, "_ELEMENTS", 1)

    def work(rows):
        if rows.start == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_each_band(work, num_rows=5, elements_a_row=1)
