"""What limits on instances would change, which the paper has not: measured on a labeled set, for one model.

    python benchmarks/instance_limits.py nuclei --root datasets/dsb2018_nuclei --split dev

One run of the network an image, and for each rule another post-processing of its maps:

    least A      instances with fewer than A pixels become void (`postprocess.instance_area_limit`)
    again A      their centers are removed, and their pixels go to the nearest center that is left
    joined A     their pixels go to the neighbor with the longest common border; without one they become void
    touching T   neighbors whose common border is longer than T diameters of the smaller one are one instance
    border F     neighbors of one class whose common border is at least F of the shorter outline are one instance
                 (`postprocess.join_border_fraction`)
    gate R       pixels that point farther from their center than R radii of a disk of the instance's area become void
    threshold, window   other values of `center_threshold` and `nms_kernel`

Areas and distances are in pixels of the network input.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from panoptic_deeplab import PanopticPredictor, open_source
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import size_of
from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality
from panoptic_deeplab.postprocess.borders import list_borders, slots_of_listed_wholes
from panoptic_deeplab.postprocess.centers import Centers, find_centers
from panoptic_deeplab.postprocess.grouping import group_pixels
from panoptic_deeplab.postprocess.pixels import classify_pixels, make_grid, maps_of_image, pixel_positions, resize
from panoptic_deeplab.results.panoptic_result import PanopticResult


@dataclass
class Grouped:
    """The instances of an image."""

    instances: np.ndarray
    """`(H, W)`: number of the center, K where there is none."""
    centers: Centers
    train_ids: np.ndarray
    """`(H, W)`: argmax."""
    target: np.ndarray
    """`(2, H, W)`: where each pixel points, `(y, x)`."""
    group: Callable[[Centers], np.ndarray]
    """Groups all thing pixels anew."""

    @property
    def count(self) -> int:
        """K."""
        return len(self.centers.valid)

    def areas(self) -> np.ndarray:
        """`(K + 1,)`: pixels of each instance, and of none."""
        return np.bincount(self.instances.ravel(), minlength=self.count + 1)

    def small(self, limit: float) -> np.ndarray:
        """`(K + 1,)`: which instances have fewer pixels."""
        return (self.areas() < limit) & (np.arange(self.count + 1) < self.count)

    def borders(self) -> Iterator[tuple[int, int, int]]:
        """Numbers of two neighbors, the smaller first, and the length of their border in pixel edges."""
        pairs = []
        for a, b in (
            (self.instances[:-1], self.instances[1:]),
            (self.instances[:, :-1], self.instances[:, 1:]),
        ):
            chosen = (a != b) & (a < self.count) & (b < self.count)
            pairs.append(np.sort(np.stack([a[chosen], b[chosen]], axis=1), axis=1))
        rows, lengths = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
        for (a, b), length in zip(rows.tolist(), lengths.tolist(), strict=True):
            yield a, b, length


def least(image: Grouped, limit: float) -> np.ndarray:
    """Instances without the small ones."""
    return np.where(image.small(limit)[image.instances], image.count, image.instances)


def again(image: Grouped, limit: float) -> np.ndarray:
    """Without the centers of the small ones."""
    kept = torch.from_numpy(np.flatnonzero(~image.small(limit)[:-1]))
    found = image.group(Centers(*(column[kept] for column in image.centers)))
    return np.append(kept.numpy(), image.count)[found]


def joined(image: Grouped, limit: float) -> np.ndarray:
    """Small ones as parts of a neighbor."""
    small, best = image.small(limit), {}
    for a, b, length in image.borders():
        for one, other in ((a, b), (b, a)):
            if small[one] and length > best.get(one, (0, 0))[0]:
                best[one] = (length, other)
    numbers = np.arange(image.count + 1)
    for one, (_, other) in best.items():
        numbers[one] = other
    return least(replace(image, instances=numbers[image.instances]), limit)


def touching(image: Grouped, diameters: float) -> np.ndarray:
    """Neighbors with a long common border as one."""
    areas, numbers = image.areas(), np.arange(image.count + 1)
    for a, b, length in image.borders():
        if length > diameters * 2 * np.sqrt(min(areas[a], areas[b]) / np.pi):
            first, second = sorted((numbers[a], numbers[b]))
            numbers[numbers == second] = first
    return numbers[image.instances]


def border(image: Grouped, fraction: float) -> np.ndarray:
    """Neighbors of one class with a common border that is a part of the shorter outline, as one."""
    votes = np.zeros((image.count + 1, int(image.train_ids.max()) + 1), np.int64)
    np.add.at(votes, (image.instances.ravel(), image.train_ids.ravel()), 1)
    voted = torch.from_numpy(votes[:-1].argmax(axis=1))
    borders = list_borders(image.instances.astype(np.int32), image.count)
    return slots_of_listed_wholes(borders, voted, image.count + 1, fraction=fraction).numpy()[image.instances]


def gate(image: Grouped, radii: float) -> np.ndarray:
    """Without the pixels that point far away from their center."""
    points = np.vstack([image.centers.points.numpy(), [[0, 0]]])
    distance = np.hypot(*(image.target[axis] - points[image.instances, axis] for axis in (0, 1)))
    is_far = distance > radii * np.sqrt(image.areas()[image.instances] / np.pi)
    return np.where(is_far, image.count, image.instances)


FRACTIONS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)

RULES = {
    "plain": [],
    **{f"least {a}": [(least, a)] for a in (36, 64, 100, 144, 256, 400)},
    **{f"again {a}": [(again, a), (least, a)] for a in (64, 144)},
    **{f"joined {a}": [(joined, a)] for a in (64, 144)},
    **{f"touching {t}": [(touching, t)] for t in (0.8, 1.0)},
    **{f"gate {r}": [(gate, r)] for r in (1.0, 1.3, 1.7)},
    **{f"border {f}": [(border, f)] for f in FRACTIONS},
    **{f"border {f}, least 256": [(border, f), (least, 256)] for f in FRACTIONS},
    "least 64, gate 1.3": [(least, 64), (gate, 1.3)],
    "least 144, gate 1.3": [(least, 144), (gate, 1.3)],
}


def result_of(image: Grouped, categories: CategoryTable, config: PostprocessConfig) -> PanopticResult:
    """Vote, and number segments; scores are not needed for PQ."""
    votes = np.zeros((image.count + 1, categories.num_classes), np.int64)
    np.add.at(votes, (image.instances.ravel(), image.train_ids.ravel()), 1)
    found = np.flatnonzero(votes[:-1].sum(axis=1))
    numbers = np.zeros(image.count + 1, np.int32)
    numbers[found] = np.arange(1, len(found) + 1)
    classes = {int(numbers[k]): categories[int(votes[k].argmax())].id for k in found}
    panoptic_map = numbers[image.instances]
    for train_id in np.flatnonzero(~categories.thing_mask):
        mask = image.train_ids == train_id
        if mask.any() and mask.sum() >= config.stuff_area_limit:
            classes[len(classes) + 1] = categories[int(train_id)].id
            panoptic_map[mask] = len(classes)
    return PanopticResult.from_maps(panoptic_map, classes, categories)


def main() -> None:
    """Print a line a rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--root", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th image")
    parser.add_argument("--thresholds", type=float, nargs="*", default=[])
    parser.add_argument("--windows", type=int, nargs="*", default=[])
    parser.add_argument("--rules", nargs="*", choices=RULES, default=list(RULES))
    arguments = parser.parse_args()
    predictor = PanopticPredictor.from_pretrained(arguments.model, device="cpu")
    config, categories = predictor.config, predictor.categories
    align_corners, plain = config.model.align_corners, config.postprocess
    thing_mask = torch.from_numpy(categories.thing_mask)
    source = open_source(replace(config.data, root=arguments.root), arguments.split)
    settings = {
        (threshold, window): replace(plain, center_threshold=threshold, nms_kernel=window)
        for threshold in [plain.center_threshold, *arguments.thresholds]
        for window in [plain.nms_kernel, *arguments.windows]
    }
    metrics = {(place, rule): PanopticQuality(categories) for place in settings for rule in arguments.rules}
    for index in range(0, len(source), arguments.every):
        sample = source[index]
        truth, ready = sample.truth(source.categories), predictor.ready(sample.pixels)
        maps = maps_of_image(
            predictor.engine.raw_maps([ready]), 0, size_of(ready.prepared.tensor), align_corners=align_corners
        )
        grid = make_grid(
            (maps.logits.shape[1], maps.logits.shape[2]),
            size_of(ready.prepared.tensor),
            ready.prepared.content_size,
            align_corners=align_corners,
            device=torch.device("cpu"),
        )
        heatmap = resize(maps.heatmap[None], grid)[0]
        train_ids = classify_pixels(maps.logits, grid).train_ids
        target = torch.stack(pixel_positions(grid)) + resize(maps.offset, grid)
        is_thing = thing_mask[train_ids.long()]

        def group(centers: Centers, target=target, is_thing=is_thing) -> np.ndarray:
            return group_pixels(target, is_thing, centers).numpy()

        for place, changed in settings.items():
            padded = find_centers(heatmap, changed)
            centers = Centers(*(column[padded.valid] for column in padded))
            before = Grouped(group(centers), centers, train_ids.numpy(), target.numpy(), group)
            for name in arguments.rules:
                image = before
                for rule, value in RULES[name]:
                    image = replace(image, instances=rule(image, value))
                result = result_of(image, categories, plain).resized(ready.original_size)
                metrics[place, name].update(result, truth, sample.image_id)
    for ((threshold, window), name), metric in metrics.items():
        report = metric.compute()
        numbers = (report.things.pq, report.things.sq, report.things.rq, report.all_classes.pq)
        things, sq, rq, all_classes = (100 * (number or 0) for number in numbers)
        print(
            f"threshold {threshold:g} window {window:<3} {name:20}"
            f" things: PQ {things:.2f} SQ {sq:.2f} RQ {rq:.2f}   all: PQ {all_classes:.2f}  "
            + ", ".join(
                f"{row.name} {100 * row.pq:.1f} ({row.true_positives} of {row.true_positives + row.false_negatives})"
                for row, category in zip(report.per_class, categories, strict=True)
                if category.isthing and row.pq is not None
            )
        )


if __name__ == "__main__":
    main()
