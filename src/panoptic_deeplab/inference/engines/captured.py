"""CUDA graphs: all work on an image of a known size, recorded the second time the size comes, and started as one.

A network and its post-processing are hundreds of short kernels, and a GPU is often done with one before the host has
started the next. A graph has no host in between. It holds for one size of images and of their content, and for memory
that stays where it is; so images are copied into the graph's own, and its results are read before it runs again.

Written for GPUs and not run on one yet: see `docs/explanation/speed.md`.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from panoptic_deeplab.inference.engines.device_path import Queued
from panoptic_deeplab.maps import Size

_MOST = 8
"""Sizes that are kept, each with its graph and memory. The one that was not used for the longest time goes first."""

_WARM_UP = 3
"""Runs before the recording, in which libraries choose their algorithms and torch.compile compiles."""


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    images: Tensor
    answer: Queued


class CapturedPath:
    """A function on a GPU, which never waits for it and depends on sizes alone, as a CUDA graph for each size."""

    def __init__(self, run: Callable[[Tensor, tuple[Size, ...]], Queued]) -> None:
        self._run = run
        self._recordings: OrderedDict[tuple[object, ...], _Recording | None] = OrderedDict()

    def __call__(self, images: Float[Tensor, "B 3 H W"], content_sizes: tuple[Size, ...]) -> Queued:
        """Run on images on the device; the next call for the same sizes overwrites the answer."""
        with torch.cuda.device(images.device):
            return self._replay(images, content_sizes)

    def _replay(self, images: Tensor, content_sizes: tuple[Size, ...]) -> Queued:
        key = (tuple(images.shape), content_sizes)
        if key not in self._recordings:  # a size that never comes again is not worth a recording
            while len(self._recordings) >= _MOST:
                self._recordings.popitem(last=False)
            self._recordings[key] = None
            return self._run(images, content_sizes)
        recording = self._recordings.pop(key) or self._record(images, content_sizes)
        self._recordings[key] = recording  # the last one in line
        recording.images.copy_(images, non_blocking=True)
        recording.graph.replay()
        return recording.answer

    def _record(self, images: Tensor, content_sizes: tuple[Size, ...]) -> _Recording:
        images = images.clone()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                self._run(images, content_sizes)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = self._run(images, content_sizes)
        return _Recording(graph, images, answer)
