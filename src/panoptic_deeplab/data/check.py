"""`data check`: everything that is wrong with a labeled set, in one go, and what is in it.

Each image is read as training would read it. An error does not end the check, and nothing is repaired: the report is
for a person who then repairs the set, or decides that the finding is harmless.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.data.dataset import network_pixels
from panoptic_deeplab.data.formats.coco_panoptic import CocoPanopticSource
from panoptic_deeplab.data.formats.common.drawn import DrawnSource
from panoptic_deeplab.data.formats.folder import FolderSource
from panoptic_deeplab.data.instances import no_instances_message
from panoptic_deeplab.data.overlaps import Overlaps
from panoptic_deeplab.data.problems import Problems, of_one_kind
from panoptic_deeplab.data.sample import PanopticSource, Sample, image_ids
from panoptic_deeplab.errors import DatasetError, visible
from panoptic_deeplab.images.prepare import brightness_warning
from panoptic_deeplab.results.ids import VOID_ID
from panoptic_deeplab.results.text_table import text_table

_MOSTLY_VOID = 0.5
_DEFAULT_INPUT = InputConfig()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing a person should know."""

    severity: Literal["error", "warning"]
    """`error`: the image cannot be used as it is. `warning`: it can, but look at it."""
    message: str
    image_id: str | None = None
    """None where the finding is about the whole set."""


@dataclass(frozen=True, kw_only=True)
class ClassStatistics:
    """What the checked images hold of one class."""

    name: str
    isthing: bool
    images: int
    segments: int
    """Instances, or regions of stuff, without crowd."""
    crowds: int
    pixel_share: float
    """Share of all labeled and void pixels, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What is in the set."""

    images: int
    """Read without an error."""
    labeled_images: int
    smallest_size: tuple[int, int] | None
    """`(height, width)` of the image with the fewest pixels."""
    largest_size: tuple[int, int] | None
    void_share: float
    """Share of all pixels of labeled images, in [0, 1]."""
    overlap_share: float | None
    """Share of all pixels of labeled images that more than one annotation covers, in [0, 1]; None where the format has
    a map, in which nothing overlaps."""
    crowds: int
    instances: int
    max_instances: int
    """Largest number of instances in one image."""
    instance_area_quantiles: dict[str, float]
    """Pixels at 0, 5, 25, 50, 75, 95 and 100 percent of the instances; empty where there is none."""
    classes: list[ClassStatistics]


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Findings and statistics of one source."""

    findings: list[Finding]
    statistics: Statistics

    @property
    def ok(self) -> bool:
        """True where there is no error (there may be warnings)."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"ok": self.ok, **asdict(self)}

    def table(self) -> str:
        """Plain text for a terminal: each kind of finding once, with an example; absent classes are left to one."""
        s = self.statistics
        facts = [("images", f"{s.images} read, {s.labeled_images} with labels")]
        if s.smallest_size is not None and s.largest_size is not None:
            (h0, w0), (h1, w1) = s.smallest_size, s.largest_size
            facts.append(("size (height x width)", f"{h0}x{w0} to {h1}x{w1}"))
        facts.append(("void", f"{s.void_share:.2%} of the pixels"))
        if s.overlap_share is not None:
            facts.append(("overlap", f"{s.overlap_share:.2%} of the pixels have more than one annotation"))
        facts.append(("instances", f"{s.instances}, at most {s.max_instances} an image, and {s.crowds} crowds"))
        if s.instance_area_quantiles:
            quantiles = ", ".join(f"{name} {area:.0f}" for name, area in s.instance_area_quantiles.items())
            facts.append(("instance area", f"{quantiles} pixels"))
        classes = [("class", "kind", "images", "segments", "crowds", "pixels")]
        for c in s.classes:
            if c.images:
                kind, share = "thing" if c.isthing else "stuff", f"{c.pixel_share:.2%}"
                classes.append((visible(c.name), kind, str(c.images), str(c.segments), str(c.crowds), share))
        lines = [text_table(facts, left=(0, 1)), "", text_table(classes, left=(0, 1))]
        errors = sum(finding.severity == "error" for finding in self.findings)
        lines += ["", f"{errors} errors, {len(self.findings) - errors} warnings"]
        lines += [visible(line) for severity in ("error", "warning") for line in self._lines(severity)]
        return "\n".join(lines)

    def _lines(self, severity: str) -> list[str]:
        found = [finding for finding in self.findings if finding.severity == severity]
        lines = [f"{severity}: {finding.message}" for finding in found if finding.image_id is None]
        for (image_id, message), *others in of_one_kind((f.image_id, f.message) for f in found if f.image_id):
            same = f" The same in {len(others)} others: {_some([name for name, _ in others], 4)}." if others else ""
            lines.append(f"{severity} [{image_id}]: {message}{same}")
        return lines


def check_source(
    source: PanopticSource,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    labels_needed: bool,
    instances_needed: bool,
    top_k: int,
    max_detections: int,
    input_config: InputConfig = _DEFAULT_INPUT,
    problems: Problems | None = None,
    on_sample: Callable[[Sample], None] | None = None,
) -> CheckReport:
    """Read the images of a source one by one and report what is wrong and what is there.

    Args:
        source: the set.
        limit: only so many images, the first ones; None = all.
        progress: called with (images done, images to do).
        labels_needed: it is an error that no image has labels, since training or validation will read this split.
        instances_needed: it is an error that no image has an instance though the table has thing classes.
        top_k: `PostprocessConfig.top_k` of the recipe, held against the instances of each image.
        max_detections: `EvaluationConfig.max_detections` of the recipe, held against those of one class.
        input_config: `input` of the recipe, held against the images: they have its channels, and use its range.
        problems: what was wrong with the set's files when the source was opened.
        on_sample: called with each image that could be read.

    Returns:
        Findings: those of the set's files, one line for each wrong image (its first problem), then those about the
        whole set; and statistics.
    """
    known = problems or Problems()
    total = len(source) if limit is None else min(limit, len(source))
    overlaps = Overlaps() if isinstance(source, DrawnSource) else None
    collected = _Collected(categories=source.categories, overlaps=overlaps, input_config=input_config)
    for message, image_id in known.messages():
        collected.findings.append(Finding(severity="error", image_id=image_id, message=message))
    collected.findings += [Finding(severity="warning", message=message) for message in known.warnings]
    for index, image_id in enumerate(image_ids(source)[:total]):
        if image_id not in known.image_ids:
            try:
                sample = source[index]
            except DatasetError as error:
                collected.findings.append(Finding(severity="error", image_id=image_id, message=str(error)))
            else:
                collected.add(sample)
                if on_sample is not None:
                    on_sample(sample)
                if isinstance(source, CocoPanopticSource):
                    collected.findings += _wrong_areas(source, index, sample)
                if isinstance(source, DrawnSource) and overlaps and sample.image_path and sample.segments_info:
                    overlaps.add(source.painted(index, sample.image, sample.image_path), image_id)
        if progress is not None:
            progress(index + 1, total)
    findings = collected.findings
    if not len(source) and not known.kinds:
        findings.append(Finding(severity="error", message="The set lists no image. Check data.root and the split."))
    if collected.sizes and not collected.labeled_images:
        findings.append(_no_labels(source, labels_needed))
    all_read = collected.labeled_images == len(source) > 0
    if instances_needed and all_read and source.categories.thing_mask.any() and not collected.instance_areas:
        message = no_instances_message(source.categories, collected.labeled_images)
        findings.append(Finding(severity="error", message=message))
    findings += collected.set_findings(top_k=top_k, max_detections=max_detections)
    return CheckReport(findings=findings, statistics=collected.statistics())


@dataclass(kw_only=True)
class _Collected:
    """Counts while images go by."""

    categories: CategoryTable
    overlaps: Overlaps | None
    input_config: InputConfig
    findings: list[Finding] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    labeled_images: int = 0
    pixels: int = 0
    void_pixels: int = 0
    max_instances: int = 0
    busiest_image: str = ""
    max_of_class: int = 0
    """Instances of one class in one image."""
    busiest_class: str = ""
    """That class and image."""
    instance_areas: list[int] = field(default_factory=list)
    narrow: list[tuple[str, str]] = field(default_factory=list)
    """Image and warning, where little of the range is used."""

    def __post_init__(self) -> None:
        self.images_of_class, self.segments, self.crowds, self.area = np.zeros((4, len(self.categories)), np.int64)

    def add(self, sample: Sample) -> None:
        self.sizes.append(sample.size)
        self._look_at_pixels(sample)
        if sample.panoptic_map is None:
            return
        self.labeled_images += 1
        void = int((sample.panoptic_map == VOID_ID).sum())
        pixels = sample.panoptic_map.size
        self.pixels += pixels
        self.void_pixels += void
        if void > _MOSTLY_VOID * pixels:
            message = f"{void / pixels:.0%} of the pixels are void; the image teaches little."
            self.findings.append(Finding(severity="warning", image_id=sample.image_id, message=message))
        train_ids = [self.categories.train_id_by_category_id[s.category_id] for s in sample.segments_info]
        self.images_of_class[list(set(train_ids))] += 1
        for segment, train_id in zip(sample.segments_info, train_ids, strict=True):
            self.area[train_id] += segment.area
            (self.crowds if segment.iscrowd else self.segments)[train_id] += 1
        instances = [s for s in sample.segments_info if s.isthing and not s.iscrowd]
        self.instance_areas += [s.area for s in instances]
        if len(instances) > self.max_instances:
            self.max_instances, self.busiest_image = len(instances), sample.image_id
        for name, count in Counter(s.name for s in instances).most_common(1):
            if count > self.max_of_class:
                self.max_of_class, self.busiest_class = count, f"{name!r} in image {sample.image_id}"

    def _look_at_pixels(self, sample: Sample) -> None:
        input_config = self.input_config
        if sample.deep_image is None and input_config.channels is None and not isinstance(input_config.range, tuple):
            return
        try:
            network_pixels(sample, input_config)
        except DatasetError as error:
            self.findings.append(Finding(severity="error", image_id=sample.image_id, message=str(error)))
            return
        if sample.image_path is not None:
            warning = brightness_warning(sample.image_path, sample.pixels, input_config)
            if warning is not None:
                self.narrow.append((sample.image_id, warning))

    def set_findings(self, *, top_k: int, max_detections: int) -> list[Finding]:
        """What only all images together show."""
        messages = [] if self.overlaps is None else self.overlaps.messages()
        if not self.sizes:
            messages.append("No image could be read.")
        if self.max_instances > top_k:
            messages.append(
                f"Image {self.busiest_image} has {self.max_instances} instances. With postprocess.top_k = {top_k}, a"
                f" limit for each image, further ones are never found; set it to at least {self.max_instances}."
            )
        if self.max_of_class > max_detections:
            messages.append(
                f"There are {self.max_of_class} instances of class {self.busiest_class}. With"
                f" evaluation.max_detections = {max_detections}, a limit for each class and image, further ones do not"
                f" count for AP; set it to at least {self.max_of_class}."
            )
        if self.labeled_images:
            absent = [c.name for c, n in zip(self.categories.categories, self.images_of_class, strict=True) if n == 0]
            if absent:
                messages.append(f"{len(absent)} of {len(self.categories)} classes occur nowhere: {_some(absent)}.")
        if len(self.narrow) > 1:
            names = [image_id for image_id, _ in self.narrow[1:]]
            messages.append(f"{self.narrow[0][1]} The same is true of {_some(names, 4)}.")
        findings = [Finding(severity="warning", message=message) for message in messages]
        if len(self.narrow) == 1:
            findings.append(Finding(severity="warning", image_id=self.narrow[0][0], message=self.narrow[0][1]))
        return findings

    def statistics(self) -> Statistics:
        by_pixels = sorted(self.sizes, key=lambda size: size[0] * size[1])
        shares = (0, 5, 25, 50, 75, 95, 100)
        quantiles = np.percentile(self.instance_areas, shares).tolist() if self.instance_areas else []
        return Statistics(
            images=len(self.sizes),
            labeled_images=self.labeled_images,
            smallest_size=by_pixels[0] if by_pixels else None,
            largest_size=by_pixels[-1] if by_pixels else None,
            void_share=self.void_pixels / max(self.pixels, 1),
            overlap_share=None if self.overlaps is None else self.overlaps.pixels / max(self.pixels, 1),
            crowds=int(self.crowds.sum()),
            instances=len(self.instance_areas),
            max_instances=self.max_instances,
            instance_area_quantiles={f"{share}%": area for share, area in zip(shares, quantiles, strict=False)},
            classes=[
                ClassStatistics(
                    name=category.name,
                    isthing=category.isthing,
                    images=int(self.images_of_class[train_id]),
                    segments=int(self.segments[train_id]),
                    crowds=int(self.crowds[train_id]),
                    pixel_share=int(self.area[train_id]) / max(self.pixels, 1),
                )
                for train_id, category in enumerate(self.categories.categories)
            ],
        )


def _wrong_areas(source: CocoPanopticSource, index: int, sample: Sample) -> Sequence[Finding]:
    """Things whose `area` in the JSON is not that of the PNG: a sign that the two come from different versions."""
    begin, end = source.index.segment_ranges[index]
    written = {row[0]: row[3] for row in source.index.segments[begin:end].tolist()}
    wrong = [s for s in sample.segments_info if s.isthing and written[s.id] not in (-1, s.area)]
    if not wrong:
        return []
    first = wrong[0]
    message = (
        f"{len(wrong)} things have another area in the JSON than in the PNG, first id {first.id}: {written[first.id]}"
        f" and {first.area} pixels. The PNG is used."
    )
    return [Finding(severity="warning", image_id=sample.image_id, message=message)]


def _no_labels(source: PanopticSource, needed: bool) -> Finding:
    if not needed:
        return Finding(severity="warning", message="No image has labels; such a split can only be predicted.")
    message = "No image has labels, but training and validation need them."
    if isinstance(source, FolderSource):
        image_id = image_ids(source)[0]
        paths = " or ".join(str(path) for path in source.label_paths(image_id))
        message += f" Expected {paths}, or both, for image {image_id}."
    return Finding(severity="error", message=message)


def _some(names: Sequence[str], count: int = 12) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
