from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from panoptic_deeplab.weights.reading.size_limit import TooLargeError, at_most


def test_what_fits_is_made_and_the_rest_is_not() -> None:
    with at_most(4 * 100):
        assert nn.Linear(9, 10).weight.shape == (10, 9)
    with pytest.raises(TooLargeError), at_most(4 * 99):
        nn.Linear(9, 10)
    with pytest.raises(TooLargeError), at_most(10**12):
        nn.Linear(10**12, 10**12)  # more bytes than 64 bits count
    with pytest.raises(TooLargeError), at_most(10**12):
        nn.BatchNorm2d(10**12)
    nn.Linear(1000, 1000)  # the limit ends with the block


def test_what_takes_no_memory_is_not_counted() -> None:
    with torch.device("meta"), at_most(1):
        nn.Linear(9, 10)


def test_other_faults_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), at_most(100):
        torch.zeros(2).view(3)


def test_another_thread_is_not_counted() -> None:
    with ThreadPoolExecutor(1) as other, at_most(1):
        assert other.submit(nn.Linear, 9, 10).result().in_features == 9
