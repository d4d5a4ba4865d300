"""What is exported: two modules, made of operators that every runtime has.

    NetworkGraph     normalized images ───────────────────────────────────────────▶ the three maps at stride 4
    PanopticGraph    uint8 images ─▶ normalize ─▶ pad ─▶ network ─▶ upsample ─▶ centers ─▶ grouping ─▶ votes
                                                                                     ─▶ panoptic map, segment table

Both are plain functions of tensors: no branch, loop or shape depends on the data, except the number of thing pixels, of
centers and of edges of joined instances (`NonZero` and `Loop` in ONNX). They take batches and images of any size.

Dimension letters: `B` images, `C` classes, `H W` the image, `h w` = stride 4, `K` = `top_k` centers, `S = K + C` rows.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float32, Int32, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.export.graph.centers import find_graph_centers
from panoptic_deeplab.export.graph.grouping import list_things, nearest_graph_centers
from panoptic_deeplab.export.graph.joining import join_graph_instances
from panoptic_deeplab.export.graph.segments import classify_graph_pixels, decide_graph_segments
from panoptic_deeplab.export.graph.upsampling import FACTOR, row_positions, upsample_columns
from panoptic_deeplab.maps import RawMaps, upsample


class PanopticOutputs(NamedTuple):
    """What `PanopticGraph` gives. The segment table has S rows an image, of which the first `count` are used."""

    panoptic_map: Int32[Tensor, "B H W"]
    """Segment ids 1 ... count; 0 = void."""

    semantic_map: UInt8[Tensor, "B H W"]
    """Train ids: the class with the highest score, before merging."""

    segment_ids: Int32[Tensor, "B S"]
    """1 ... count: instances, the strongest center first, then stuff in the order of train ids; 0 in unused rows."""

    category_ids: Int32[Tensor, "B S"]
    """Category ids, as in the data set's files."""

    scores: Float32[Tensor, "B S"]
    """Instance: heatmap at the center x mean probability of its class; stuff: mean probability."""

    areas: Int32[Tensor, "B S"]
    """Pixels."""

    boxes: Int32[Tensor, "B S 4"]
    """`(x, y, width, height)` in pixels."""

    count: Int32[Tensor, " B"]  # type: ignore[assignment]  # the name in the file; nobody calls tuple.count
    """Segments of the image."""


class NetworkGraph(nn.Module):
    """The network `images (B, 3, H, W) -> RawMaps` alone, with a plain tuple for the maps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalized images of the sizes that `padded_size` gives -> the maps that the model has."""
        raw_maps: RawMaps = self.model(images)
        return tuple(map_ for map_ in raw_maps if map_ is not None)


class PanopticGraph(nn.Module):
    """Images in, segments out: the pipeline of `postprocess/pipeline.py`, with the same rules and ties.

    It differs from that pipeline in how it computes, not in what; only the probabilities of a segment are added up with
    17 bits behind the point instead of 24.

    Args:
        model: `images (B, 3, H, W) -> RawMaps`.
        config: its `input` (mean and deviation), `model` and `postprocess` sections are used.
        categories: one entry for each channel of the class scores.
    """

    pixel_scale: Tensor
    pixel_shift: Tensor
    thing_mask: Tensor
    category_ids: Tensor

    def __init__(self, model: nn.Module, config: Config, categories: CategoryTable) -> None:
        super().__init__()
        self.model = model
        self.config = config
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (config.input.pixel_mean, config.input.pixel_std))
        self.register_buffer("pixel_scale", (1 / (255 * std)).to(torch.float32).view(1, 3, 1, 1))
        self.register_buffer("pixel_shift", (-mean / std).to(torch.float32).view(1, 3, 1, 1))
        self.register_buffer("thing_mask", torch.tensor(categories.thing_mask))
        self.register_buffer("category_ids", torch.tensor([category.id for category in categories.categories]))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """RGB `(B, H, W, 3)` uint8 -> the fields of `PanopticOutputs`, in their order."""
        height, width = images.shape[1:3]
        normalized = images.permute(0, 3, 1, 2).to(torch.float32) * self.pixel_scale + self.pixel_shift
        return self.postprocess(self.model(self.pad(normalized)), height, width)

    def pad(self, images: Tensor) -> Tensor:
        """Pad at the bottom and on the right with 0, the mean color, as `prepare_image` does."""
        height, width = images.shape[-2:]
        padded_height, padded_width = (self._padded(side, axis) for axis, side in enumerate((height, width)))
        return F.pad(images, (0, padded_width - width, 0, padded_height - height))

    def _padded(self, side: int, axis: int) -> int:
        stride, extra = self.config.model.output_stride, int(self.config.model.align_corners)
        minimum = self.config.input.pad_to
        least: Any = side if minimum is None else torch.sym_max(side, minimum[axis])
        # In a form in which symbolic sizes stay simple: all of the network's are multiples of this quotient, plus one.
        padded: int = (least - extra + stride - 1) // stride * stride + extra
        return padded

    def postprocess(self, raw_maps: RawMaps, height: int, width: int) -> tuple[Tensor, ...]:
        """The maps of the padded images -> the fields of `PanopticOutputs`, in their order."""
        settings, align_corners = self.config.postprocess, self.config.model.align_corners
        logits = upsample_columns(raw_maps.semantic_logits, align_corners=align_corners)
        rows = row_positions(logits.shape[2], height, align_corners=align_corners, device=logits.device)
        labels = classify_graph_pixels(logits, (height, width), align_corners=align_corners)

        top_k = 0 if raw_maps.center_heatmap is None else settings.top_k
        is_thing = self.thing_mask.index_select(0, labels.train_ids.flatten()).view(labels.train_ids.shape)
        things = list_things(is_thing)
        slots = (top_k + labels.train_ids).flatten()
        center_scores = logits.new_zeros(logits.shape[0], 0)
        if raw_maps.center_heatmap is not None and raw_maps.offset is not None:
            centers = find_graph_centers(
                self._upsample(raw_maps.center_heatmap)[:, 0, :height, :width],
                threshold=settings.center_threshold,
                nms_kernel=settings.nms_kernel,
                top_k=top_k,
            )
            offset = upsample_columns(raw_maps.offset * FACTOR, align_corners=align_corners)
            otherwise = slots.index_select(0, things.place)
            slots = slots.scatter(
                0, things.place, nearest_graph_centers(things, offset, rows, centers, otherwise=otherwise)
            )
            center_scores = centers.scores
        slots = slots.view(labels.train_ids.shape)
        if settings.join_border_fraction is not None and top_k > 0:
            slots = join_graph_instances(
                slots,
                labels.train_ids,
                things,
                num_centers=top_k,
                num_classes=self.thing_mask.shape[0],
                fraction=settings.join_border_fraction,
            )
        return decide_graph_segments(
            labels,
            logits,
            rows,
            things,
            slots=slots,
            center_scores=center_scores,
            thing_mask=self.thing_mask,
            category_ids=self.category_ids,
            stuff_area_limit=settings.stuff_area_limit,
            instance_area_limit=settings.instance_area_limit,
        )

    def _upsample(self, map_: Tensor) -> Tensor:
        """Resize to the padded input by the operator of the runtime."""
        align_corners = self.config.model.align_corners
        rows, columns = ((length - 1) * FACTOR + 1 if align_corners else length * FACTOR for length in map_.shape[-2:])
        return upsample(map_, (rows, columns), align_corners=align_corners)
