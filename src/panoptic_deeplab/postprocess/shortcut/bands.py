"""Work on a CPU in bands of rows: small enough for its cache, and one band a core at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_ELEMENTS = 2**18
"""Numbers in a band."""


def for_each_band(work: Callable[[slice], None], *, num_rows: int, elements_a_row: int) -> None:
    """Call a function for all bands of rows, on as many threads as PyTorch uses.

    Args:
        work: takes the rows. It should use NumPy, whose operations run beside each other; those of PyTorch would each
            start threads of their own.
        num_rows: how many rows there are in all.
        elements_a_row: numbers that are worked on for each row.
    """
    step = max(1, _ELEMENTS // elements_a_row)
    bands = [slice(first, min(first + step, num_rows)) for first in range(0, num_rows, step)]
    num_threads = min(torch.get_num_threads(), len(bands))
    if num_threads == 1:
        for band in bands:
            work(band)
        return
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in pool.map(work, bands):  # raises what a band has raised
            pass
