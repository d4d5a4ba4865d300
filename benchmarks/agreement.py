"""Does the exported pipeline decide as PyTorch does? `python benchmarks/agreement.py MODEL FILE --root DATA`

Runs a model folder and its file with the whole pipeline (`export --panoptic`) over a split, counts the pixels that lie
in another segment, and looks for the reason of each: a decision on the way to it that was close in PyTorch's own maps,
so that rounding can turn it. The margins, in standard deviations of the map that is compared:

    class      of the pixel: largest class score above the second
    center     nearest to the pixel: distance of the second nearest above the nearest
    peak       of the pixel's center, or of one that would be nearer: above the threshold, above its neighbors, and
               above the one behind the last of the K strongest
    vote       for the class of the pixel's instance: lead in pixels, against the pixels of it whose class or center is
               close
    area       of the pixel's stuff class above the limit, in pixels, against the pixels whose class is close

Exits with an error where fewer than 99.99 % of the pixels agree, or one has no reason.
"""

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from panoptic_deeplab.config import Config
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.export.agreement import differing_pixels
from panoptic_deeplab.export.exporter import without_resizing
from panoptic_deeplab.images.prepare import resize_image
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import upsample, upsample_offset
from panoptic_deeplab.results.panoptic_result import PanopticResult

MARGIN = 1e-4
AGREEMENT = 0.9999
REASONS = ("class", "center", "peak", "vote", "area")


@dataclass(frozen=True)
class Peaks:
    """The centers of an image, and what is nearly one."""

    points: Tensor
    """`(N, 2)` `(y, x)`."""
    is_center: Tensor
    """`(N,)`."""
    margin: Tensor
    """`(N,)` by how much it is one, or is not."""


class Decisions:
    """What PyTorch decides in one image, and how closely.

    Args:
        predictor: it gets images at the size they have.
        image: RGB.
    """

    def __init__(self, predictor: PanopticPredictor, image: np.ndarray) -> None:
        self.config: Config = predictor.config
        ready = predictor.engine.ready(image)
        raw_maps = predictor.raw_maps(image)
        size, (height, width) = ready.prepared.tensor.shape[1:], ready.prepared.content_size
        align_corners = self.config.model.align_corners
        how = {"size": (size[0], size[1]), "align_corners": align_corners}
        self.scores = upsample(raw_maps.semantic_logits, **how)[0, :, :height, :width]
        self.heatmap = upsample(raw_maps.center_heatmap, **how)[0, 0, :height, :width]
        self.offset = upsample_offset(raw_maps.offset, **how)[0, :, :height, :width]
        self.result: PanopticResult = predictor.predict(image)

    @cached_property
    def class_margin(self) -> Tensor:
        """`(H, W)`."""
        best, second = self.scores.topk(2, dim=0).values
        return (best - second) / self.scores.std()

    @cached_property
    def peaks(self) -> Peaks:
        """Everything that is a center, or could be with a little more."""
        settings, unit = self.config.postprocess, float(self.heatmap.std())
        slack, radius = MARGIN * unit, settings.nms_kernel // 2
        framed = F.pad(self.heatmap, (radius,) * 4, value=-torch.inf)
        largest = F.max_pool2d(framed[None], settings.nms_kernel, stride=1)[0]
        threshold = settings.center_threshold
        nearly = (self.heatmap > threshold - slack) & (self.heatmap >= largest - slack)
        points = nearly.nonzero()
        value = self.heatmap[nearly]
        lead = []
        for y, x in points.tolist():
            window = framed[y : y + 2 * radius + 1, x : x + 2 * radius + 1].clone()
            window[radius, radius] = -torch.inf
            lead.append(self.heatmap[y, x] - window.max())
        above = torch.minimum(value - threshold, torch.stack(lead) if lead else value)
        strongest = value[above > 0].sort(descending=True).values
        if len(strongest) > settings.top_k:
            last, next_one = strongest[settings.top_k - 1], strongest[settings.top_k]
            among = torch.where(value >= last, value - next_one, value - last)
            above = torch.minimum(above, among)
        return Peaks(points=points.float(), is_center=above > 0, margin=above.abs() / unit)

    def center_and_peak_margin(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """How close the decisions of some pixels are, `(P,)` each; infinity where nothing is to be decided."""
        peaks, unit = self.peaks, self.offset.std()
        target = torch.stack([y, x], dim=1) + self.offset[:, y, x].T
        beyond = target.new_full((2, 2), 1e6)  # so that there are always two
        distance = torch.cdist(target, torch.cat([peaks.points, beyond]), compute_mode="donot_use_mm_for_euclid_dist")
        is_center = torch.cat([peaks.is_center, torch.tensor([True, True])])
        own = torch.where(is_center, distance, torch.inf).topk(2, dim=1, largest=False)
        center_margin = (own.values[:, 1] - own.values[:, 0]) / unit
        margin = torch.cat([peaks.margin, torch.tensor([torch.inf, torch.inf])])
        would_be_nearer = ~is_center & (distance <= own.values[:, :1] + MARGIN * unit)
        others = torch.where(would_be_nearer, margin, torch.inf).amin(dim=1)
        return center_margin, torch.minimum(margin[own.indices[:, 0]], others)

    @cached_property
    def is_close(self) -> Tensor:
        """`(H, W)`: class or center of the pixel could be another."""
        close = self.class_margin < MARGIN
        thing_mask = torch.from_numpy(self.result.categories.thing_mask)
        y, x = thing_mask[torch.from_numpy(self.result.semantic_map).long()].nonzero().unbind(dim=1)
        for part in torch.arange(len(y)).split(2**16):
            margins = torch.minimum(*self.center_and_peak_margin(y[part], x[part]))
            close[y[part], x[part]] |= margins < MARGIN
        return close

    @cache  # noqa: B019 - as long as the image
    def vote_is_close(self, segment_id: int) -> bool:
        """Whether the class of this instance hangs on close pixels."""
        mask = self.result.panoptic_map == segment_id
        votes = np.sort(np.bincount(self.result.semantic_map[mask], minlength=2))[::-1]
        return bool(votes[0] - votes[1] <= 2 * int(self.is_close[torch.from_numpy(mask)].sum()))

    @cache  # noqa: B019 - as long as the image
    def area_is_close(self, train_id: int) -> bool:
        """Whether it hangs on close pixels that this class is large enough to stay."""
        if self.result.categories[train_id].isthing:
            return False
        area = int((self.result.semantic_map == train_id).sum())
        rivals = self.scores.topk(2, dim=0).indices[:, self.class_margin < MARGIN]
        return abs(area - self.config.postprocess.stuff_area_limit) <= int((rivals == train_id).sum())

    def reasons(self, differing: np.ndarray) -> list[str | None]:
        """Why each of the differing pixels may be decided otherwise: one of `REASONS`, or None."""
        y, x = (torch.from_numpy(index) for index in np.nonzero(differing))
        center_margin, peak_margin = self.center_and_peak_margin(y, x)
        thing_mask = self.result.categories.thing_mask
        found: list[str | None] = []
        for index, (row, column) in enumerate(zip(y.tolist(), x.tolist(), strict=True)):
            train_id = int(self.result.semantic_map[row, column])
            segment_id = int(self.result.panoptic_map[row, column])
            isthing = bool(thing_mask[train_id])
            if self.class_margin[row, column] < MARGIN:
                found.append("class")
            elif isthing and center_margin[index] < MARGIN:
                found.append("center")
            elif isthing and peak_margin[index] < MARGIN:
                found.append("peak")
            elif isthing and self.vote_is_close(segment_id):
                found.append("vote")
            elif self.area_is_close(train_id):
                found.append("area")
            else:
                found.append(None)
        return found


@torch.inference_mode()
def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="model folder")
    parser.add_argument("file", help="made from it by `panoptic-deeplab export --panoptic`")
    parser.add_argument("--root", help="folder of the data set; default: that of the model's run")
    parser.add_argument("--split", help="default: data.val_split of the model's run")
    arguments = parser.parse_args()
    ours = PanopticPredictor.from_pretrained(arguments.model, device="cpu")
    data, input_config = ours.config.data, ours.config.input
    source = open_source(
        replace(data, root=arguments.root or data.root, categories=f"{arguments.model}/categories.json"),
        arguments.split or data.val_split,
    )
    ours = PanopticPredictor.from_network(
        ours.engine.model, ours.categories, without_resizing(ours.config), device="cpu"
    )
    theirs = PanopticPredictor.from_pretrained(arguments.file, device="cpu", input_config=ours.config.input)
    num_pixels, counts = 0, Counter[str | None]()
    for index in range(len(source)):
        sample = source[index]
        image = resize_image(sample.image, input_config=input_config).permute(1, 2, 0).contiguous().numpy()
        decisions = Decisions(ours, image)
        differing = differing_pixels(decisions.result, theirs.predict(image))
        num_pixels += differing.size
        reasons = decisions.reasons(differing) if differing.any() else []
        counts.update(reasons)
        if None in reasons:
            places = [
                point for point, reason in zip(np.argwhere(differing).tolist(), reasons, strict=True) if not reason
            ]
            print(f"{sample.image_id}: {len(places)} pixels without a reason, first at (y, x) = {places[0]}")
    agreement = 1 - counts.total() / num_pixels
    explained = ", ".join(f"{reason} {counts[reason]}" for reason in REASONS)
    print(f"{len(source)} images: {num_pixels - counts.total()} of {num_pixels} pixels agree ({100 * agreement:.5f} %)")
    print(f"{counts.total()} differ; the close decision (margin below {MARGIN:.0e}): {explained}, none {counts[None]}")
    if agreement < AGREEMENT or counts[None]:
        sys.exit(1)


if __name__ == "__main__":
    main()
