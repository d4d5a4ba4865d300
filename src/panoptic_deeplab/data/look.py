"""Reading samples once, before work that would find a damaged one only after hours."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from panoptic_deeplab.data.loader import ignore_signals
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.errors import PanopticDeepLabError

_WORTH_WORKERS = 32
"""Fewer samples are read before worker processes have started."""


@dataclass(frozen=True)
class Look:
    """What a sample turned out to be."""

    error: str | None = None
    """Why it cannot be used."""
    labeled: bool = False
    segments: int = 0


def look_at(source: PanopticSource, indices: Sequence[int], *, num_workers: int) -> list[Look]:
    """Read the samples at `indices` as training and evaluation do; with workers, the source must be picklable."""
    loader = DataLoader(
        _Looks(source, indices),
        batch_size=None,
        num_workers=num_workers if len(indices) >= _WORTH_WORKERS else 0,
        worker_init_fn=ignore_signals,
    )
    return list(loader)


class _Looks(Dataset[Look]):
    def __init__(self, source: PanopticSource, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Look:
        try:
            sample = self.source[self.indices[place]]
        except PanopticDeepLabError as error:
            return Look(error=str(error))
        return Look(labeled=sample.panoptic_map is not None, segments=len(sample.segments_info))
