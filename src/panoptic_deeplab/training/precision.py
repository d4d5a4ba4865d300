"""`train.precision: auto`: bfloat16 where it is faster; and the one precision of all validations."""

from dataclasses import replace

import torch

from panoptic_deeplab.config import Config, Precision

VALIDATION_PRECISION: Precision = "float32"
"""Whatever the training computes in: that of `evaluate` and `predict`, so that one checkpoint has one PQ."""


def with_resolved_precision(config: Config, device: str) -> Config:
    """Replace `auto` by `bfloat16` or `float32`, so that the run folder says what the run computed in.

    Args:
        config: configuration of the run.
        device: that it trains on, `cpu` or `cuda...`.
    """
    if config.train.precision != "auto":
        return config
    return replace(config, train=replace(config.train, precision="bfloat16" if has_bfloat16(device) else "float32"))


def has_bfloat16(device: str) -> bool:
    """Whether there are instructions for it (on an x86 processor or a GPU): emulated, it is slower than float32."""
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.12
    capabilities = get_capabilities() if get_capabilities else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
