import pytest
import torch
from torch import nn

from panoptic_deeplab.weights.size_limit import TooLargeError, at_most


def test_what_fits_is_made_and_the_rest_is_not() -> None:
    with at_most(4 * 100):
        assert nn.Linear(9, 10).weight.shape == (10, 9)
    with pytest.raises(TooLargeError), at_most(4 * 99):
        nn.Linear(9, 10)
    with pytest.raises(TooLargeError), at_most(10**12):
        torch.zeros(10**6, 10**6, 10**6, 10**6)  # more than 64 bits count
    torch.zeros(1000)  # the limit ends with the block


def test_nothing_is_counted_without_a_limit_or_without_values() -> None:
    with at_most(None):
        torch.zeros(10)
    with torch.device("meta"), at_most(1):
        nn.Linear(9, 10)
