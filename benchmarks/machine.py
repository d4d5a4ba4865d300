"""What this machine can do at best: `python benchmarks/machine.py [--threads N]`

The bounds in `docs/explanation/speed.md` are bytes over these bandwidths and operations over these rates.
"""

import argparse
import time
from collections.abc import Callable

import torch

_LARGE = 2**26
"""Numbers: 256 MiB, far more than caches hold."""
_SMALL = 2**14
"""Numbers: 64 KiB, which stay in the cache of a core."""


def rates() -> dict[str, float]:
    """Bandwidths and rates, the best of several runs, with PyTorch's threads."""
    large, other = torch.ones(_LARGE), torch.empty(_LARGE)
    small, result = torch.rand(_SMALL), torch.empty(_SMALL)
    matrix, product = torch.rand(2048, 2048), torch.empty(2048, 2048)
    image = torch.rand(1, 256, 129, 257).contiguous(memory_format=torch.channels_last)
    kernel = torch.rand(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return {
            "read, GB/s": 4 * _LARGE / _best(lambda: large.max()) / 1e9,
            "copy (read + write), GB/s": 8 * _LARGE / _best(lambda: other.copy_(large)) / 1e9,
            "exponentials in cache, 1e9/s": _SMALL / _best(lambda: torch.exp(small, out=result), 200) / 1e9,
            "multiplications in cache, 1e9/s": _SMALL / _best(lambda: torch.mul(small, small, out=result), 200) / 1e9,
            "float32 matrix product, GFLOP/s": 2 * 2048**3 / _best(lambda: torch.mm(matrix, matrix, out=product)) / 1e9,
            "float32 3x3 convolution, GFLOP/s": 2
            * 9
            * 256**2
            * 129
            * 257
            / _best(lambda: torch.nn.functional.conv2d(image, kernel, padding=1))
            / 1e9,
        }


def _best(run: Callable[[], object], count: int = 7) -> float:
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    for name, rate in rates().items():
        print(f"{name:34}{rate:8.2f}")
