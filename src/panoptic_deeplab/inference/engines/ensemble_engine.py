"""Several models averaged (section 4.3 and Table 5: "our ensemble of six models").

    image ─┬─ as model 1 wants it ─▶ model 1 ─▶ RawMaps ─────────────────────────────┐
           ├─ as model 2 wants it ─▶ model 2 ─▶ RawMaps ─ onto the grid of model 1 ──┼─ mean ─▶ RawMaps ─▶ as one model
           └─ ...                                                                    ┘

Each model sees the image as it would alone: with its own resizing, colors, padding, and scales and mirror images where
its configuration asks for them. So backbones, output strides and conventions of the models may differ; classes may not.
The first model's grid, post-processing settings and input size are those of the ensemble. What is averaged, and why, is
in `fusion.py`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import PostprocessConfig, TestTimeAugmentationConfig
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.images.prepare import PreparedImage
from panoptic_deeplab.inference.engines.engine import Answer, Engine, ReadyImage
from panoptic_deeplab.inference.engines.network_engine import NetworkEngine
from panoptic_deeplab.inference.engines.pipeline_engine import PipelineEngine
from panoptic_deeplab.inference.fusion import Average, Estimate, to_estimate, to_raw_maps
from panoptic_deeplab.maps import RawMaps, Size, are_finite
from panoptic_deeplab.postprocess.dropped import Dropped
from panoptic_deeplab.results.panoptic_result import PanopticResult


class EnsembleEngine(Engine):
    """The mean of the maps of several models.

    Args:
        members: at least one, on one device. One alone predicts what it would without this class.

    Raises:
        CheckpointError: the members have different classes.
        ConfigError: some members have instance heads and others have none, a member is a file with the whole pipeline,
            or there is no member.
    """

    def __init__(self, members: Sequence[Engine]) -> None:
        if not members:
            raise ConfigError("An ensemble needs at least one model. Got none.")
        networks = []
        for member in members:
            if isinstance(member, PipelineEngine):
                raise ConfigError(
                    f"{member.pipeline.path} holds the whole pipeline, so it gives no maps that could be averaged. Use"
                    " its model folder, or export the model without --panoptic."
                )
            if not isinstance(member, NetworkEngine):
                raise ConfigError(f"An ensemble averages networks. Got a {type(member).__name__}.")
            networks.append(member)
        first, *others = networks
        for other in others:
            _check_same_classes(first.categories, other.categories)
        with_instances = [member.config.model.instance_branch for member in networks]
        if len(set(with_instances)) > 1:
            raise ConfigError(
                "Models with instance heads cannot be averaged with semantic-only ones. Number"
                f" {with_instances.index(not with_instances[0]) + 1} of {len(members)} differs from the first."
            )
        super().__init__(
            first.config, first.categories, device=first.device, precision=first.precision, compile=first.compile
        )
        self.members = tuple(networks)

    def ready(self, image: UInt8[np.ndarray, "H W 3"]) -> ReadyImage:
        """Prepare an image as each member takes it."""
        first, *others = (member.ready(image) for member in self.members)
        return first._replace(others=tuple(other.prepared for other in others))

    def predict(self, batch: Sequence[ReadyImage]) -> Answer:
        """Segment images; see `Engine.predict`."""
        raw_maps = self._average(batch)
        return Answer(self.members[0].results(raw_maps, batch), raw_maps)

    def explain(self, image: ReadyImage) -> tuple[PanopticResult, Dropped]:
        """Segment one image and say what the result leaves out; see `Engine.explain`."""
        return self.members[0].explained(self.raw_maps([image]), image)

    def results(self, raw_maps: RawMaps, batch: Sequence[ReadyImage]) -> list[PanopticResult]:
        """Turn maps into results; see `Engine.results`."""
        return self.members[0].results(raw_maps, batch)

    def changed(
        self, *, postprocess: PostprocessConfig, test_time_augmentation: TestTimeAugmentationConfig
    ) -> "EnsembleEngine":
        """The same models with other settings; see `Engine.changed`."""
        settings: Any = {"postprocess": postprocess, "test_time_augmentation": test_time_augmentation}
        return EnsembleEngine([member.changed(**settings) for member in self.members])

    def check_memory(self, size: Size, *, where: str) -> None:
        """See that an image can be predicted by each member, one after the other; see `Engine.check_memory`."""
        for member in self.members:
            member.check_memory(size, where=where)

    def raw_maps(self, batch: Sequence[ReadyImage]) -> RawMaps:
        """Average the maps on the grid of the first member; see `Engine.raw_maps`."""
        raw_maps = self._average(batch)
        self.members[0].check_finite(are_finite(raw_maps))
        return raw_maps

    @torch.inference_mode()
    def _average(self, batch: Sequence[ReadyImage]) -> RawMaps:
        """All images of the batch have one geometry (`ReadyImage.group`)."""
        first, *others = self.members
        raw_maps = first.unchecked_maps([item._replace(others=()) for item in batch])
        if not others:
            return raw_maps
        average = Average()
        grid = _Grid.of(raw_maps, batch[0].prepared, first)
        average.add(to_estimate(raw_maps))
        for index, member in enumerate(others):
            own = [ReadyImage(item.others[index], item.original_size) for item in batch]
            raw_maps = member.unchecked_maps(own)
            own_grid = _Grid.of(raw_maps, own[0].prepared, member)
            average.add(_resampled(to_estimate(raw_maps), own_grid, grid))
        return to_raw_maps(average.mean())


class _Axis(NamedTuple):
    """Where the pixels of a map lie along one axis of the image."""

    map_length: int
    input_length: int
    """Length of the network's input, padding included."""
    content_length: int
    """Length of the part of it that is the image."""
    align_corners: bool

    def to_image(self, index: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
        """Pixels of the map -> position in the image, 0 and 1 its borders."""
        if self.align_corners:
            pixel = index * ((self.input_length - 1) / max(self.map_length - 1, 1))
        else:
            pixel = (index + 0.5) * (self.input_length / self.map_length) - 0.5
        return (pixel + 0.5) / self.content_length  # images are resized border to border

    def from_image(self, position: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
        """The inverse of `to_image`."""
        pixel = position * self.content_length - 0.5
        if self.align_corners:
            return pixel * ((self.map_length - 1) / max(self.input_length - 1, 1))
        return (pixel + 0.5) * (self.map_length / self.input_length) - 0.5


class _Grid(NamedTuple):
    rows: _Axis
    columns: _Axis

    @classmethod
    def of(cls, raw_maps: RawMaps, prepared: PreparedImage, engine: Engine) -> "_Grid":
        lengths = zip(
            raw_maps.semantic_logits.shape[-2:], prepared.tensor.shape[-2:], prepared.content_size, strict=True
        )
        return cls(*(_Axis(*sides, engine.config.model.align_corners) for sides in lengths))


def _resampled(estimate: Estimate, own: _Grid, target: _Grid) -> Estimate:
    """The estimate at the pixels of another grid on the same image, bilinear; offsets in pixels of that grid."""
    if own == target:
        return estimate
    maps = []
    for map_ in estimate:
        if map_ is not None:
            for dim, from_axis, to_axis in ((-2, own.rows, target.rows), (-1, own.columns, target.columns)):
                map_ = _sample(map_, _positions(from_axis, to_axis), dim=dim)
        maps.append(map_)
    probability, heatmap, offset = maps
    assert probability is not None
    if offset is not None:
        growth = [_growth(own.rows, target.rows), _growth(own.columns, target.columns)]
        offset *= torch.tensor(growth, dtype=offset.dtype, device=offset.device).view(1, 2, 1, 1)
    return Estimate(probability, heatmap, offset)


def _positions(own: _Axis, target: _Axis) -> Float64[np.ndarray, " N"]:
    """Where each pixel of `target` along the axis is on `own`."""
    position = own.from_image(target.to_image(np.arange(target.map_length, dtype=np.float64)))
    inside: Float64[np.ndarray, " N"] = np.clip(position, 0, own.map_length - 1)
    return inside


def _growth(own: _Axis, target: _Axis) -> float:
    """How many pixels of `target` make up one of `own`."""
    start, end = own.from_image(target.to_image(np.array([0.0, 1.0])))
    return float(1 / (end - start))


def _sample(map_: Float[Tensor, "B C h w"], position: Float64[np.ndarray, " N"], *, dim: int) -> Tensor:
    """Linear interpolation along `dim`."""
    first = np.minimum(position.astype(np.int64), max(map_.shape[dim] - 2, 0))
    second = np.minimum(first + 1, map_.shape[dim] - 1)
    shape = (-1, 1) if dim == -2 else (-1,)
    fraction = torch.from_numpy(position - first).to(map_.device, map_.dtype).view(shape)
    before, after = (map_.index_select(dim, torch.from_numpy(i).to(map_.device)) for i in (first, second))
    return before.lerp_(after, fraction)


def _check_same_classes(first: CategoryTable, other: CategoryTable) -> None:
    kinds = [[(c.id, c.name, c.isthing) for c in table.categories] for table in (first, other)]
    if kinds[0] == kinds[1]:
        return
    places = [i for i, (a, b) in enumerate(zip(*kinds, strict=False)) if a != b]
    difference = f"{len(first)} and {len(other)} classes"
    if places:
        difference = f"class {places[0]} is {kinds[0][places[0]][1]!r} in one and {kinds[1][places[0]][1]!r} in another"
    raise CheckpointError(
        f"The models of an ensemble must predict the same classes in the same order, but {difference}"
        f" ({first.name}, {other.name}). Leave out one of them."
    )
