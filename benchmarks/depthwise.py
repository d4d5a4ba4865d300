"""What `model/depthwise.py` is for: PyTorch's depthwise convolutions against ours: `python benchmarks/depthwise.py`

Shapes of the training step of `coco27_lite0` (batch 8) and of ASPP on a Cityscapes image of half size. One line for
each: milliseconds of PyTorch's own and of ours, for the output and for both gradients.
"""

import argparse
import copy
import time

import torch
from torch import Tensor, nn

from panoptic_deeplab.model.depthwise import use_fast_depthwise
from panoptic_deeplab.training.allocator import keep_freed_memory

SHAPES = {
    "decoder 5x5, 128 channels": ((8, 128, 81, 81), {"kernel_size": 5, "padding": 2}),
    "backbone 5x5, stride 2": ((8, 144, 81, 81), {"kernel_size": 5, "padding": 2, "stride": 2}),
    "backbone 3x3": ((8, 96, 81, 81), {"kernel_size": 3, "padding": 1}),
    "backbone 3x3, stride 2": ((8, 96, 161, 161), {"kernel_size": 3, "padding": 1, "stride": 2}),
    "ASPP rate 6, small map": ((8, 320, 11, 11), {"kernel_size": 3, "padding": 6, "dilation": 6}),
    "ASPP rate 12": ((1, 2048, 33, 65), {"kernel_size": 3, "padding": 12, "dilation": 12}),
    "ASPP rate 18": ((1, 2048, 33, 65), {"kernel_size": 3, "padding": 18, "dilation": 18}),
}


def measure(shape: tuple[int, ...], settings: dict[str, int], dtype: torch.dtype) -> list[list[float]]:
    """Seconds [PyTorch's, ours][output, gradients], each the best of five, in turns."""
    channels = shape[1]
    plain = nn.Conv2d(channels, channels, groups=channels, bias=False, **settings).to(dtype)
    fast = copy.deepcopy(plain)
    use_fast_depthwise(fast)
    best = [[float("inf")] * 2 for _ in range(2)]
    features = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    for _ in range(6):
        for seconds, module in zip(best, (plain, fast), strict=True):
            start = time.perf_counter()
            output: Tensor = module(features)
            gradient = torch.ones_like(output)
            middle = time.perf_counter()
            torch.autograd.grad(output, (features, module.weight), gradient)
            end = time.perf_counter()
            seconds[:] = min(seconds[0], middle - start), min(seconds[1], end - middle)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    print(f"{'PyTorch -> ours, ms':36}{'output':>18}{'gradients':>18}")
    for dtype in (torch.float32, torch.bfloat16):
        for name, (shape, settings) in SHAPES.items():
            cells = (f"{1e3 * p:.1f} -> {1e3 * o:.1f}" for p, o in zip(*measure(shape, settings, dtype), strict=True))
            print(f"{name:27}{str(dtype)[6:]:9}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
