"""The kinds of images in the nuclei set (2018 Data Science Bowl), as lists for trainings that leave whole kinds out.

    python benchmarks/nuclei_kinds.py datasets/dsb2018_nuclei                    # the kinds, with their measures
    python benchmarks/nuclei_kinds.py datasets/dsb2018_nuclei --leave-out dim,bright_field,purple --output FOLDER

The set names no laboratory, but images of one experiment have one size. The rule, on the pixels alone:

    stained        the channels differ by more than 8 on average; `purple` where the median is below 180, else `pink`
    bright_field   gray, the median above 127
    fluorescence   the others, by their size: 256 x 256 (`small_dim` and `small_bright` on both sides of a 99th
                   percentile of 70), 360 x 360 (`dim`), 520 x 696 (`plate`), 512 x 640 (`thin`), other (`mixed`)

With --output, FOLDER becomes a set in the format `folder`, by links: `train.txt` and `dev.txt` without the kinds that
are left out, and `left_out.txt`, all images of those, from both splits.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = ("train", "dev")
_SIZES = {(360, 360): "dim", (520, 696): "plate", (512, 640): "thin"}


def kind_of(image: np.ndarray) -> str:
    """The kind of an image, RGB uint8."""
    channels = image.astype(int)
    median = np.median(channels)
    if (channels.max(-1) - channels.min(-1)).mean() > 8:
        return "purple" if median < 180 else "pink"
    if median > 127:
        return "bright_field"
    if image.shape[:2] == (256, 256):
        return "small_dim" if np.percentile(channels, 99) < 70 else "small_bright"
    return _SIZES.get(image.shape[:2], "mixed")


def diameters(instances: np.ndarray) -> np.ndarray:
    """Diameters of the disks that have the areas of the nuclei."""
    areas = np.bincount(instances.ravel())[1:]
    return 2 * np.sqrt(areas[areas > 0] / np.pi)


def main() -> None:
    """Print the kinds; write the lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--leave-out", default="", help="kinds, with commas between")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    members: dict[str, list[tuple[str, str]]] = defaultdict(list)
    sizes: dict[str, list[float]] = defaultdict(list)
    whites: dict[str, list[float]] = defaultdict(list)
    for split in SPLITS:
        for name in (arguments.root / f"{split}.txt").read_text("utf-8").split():
            image = np.asarray(Image.open(arguments.root / "images" / f"{name}.png").convert("RGB"))
            kind = kind_of(image)
            members[kind].append((split, name))
            whites[kind].append(float(np.percentile(image, 99)))
            sizes[kind] += diameters(np.asarray(Image.open(arguments.root / "instances" / f"{name}.png"))).tolist()
    for kind, names in sorted(members.items()):
        numbers = {split: sum(where == split for where, _ in names) for split in SPLITS}
        low, middle, high = np.percentile(sizes[kind], [10, 50, 90]).round(1)
        white = round(float(np.median(whites[kind])))
        print(
            f"{kind:13} {numbers} {len(sizes[kind])} nuclei, diameter {low} {middle} {high} (10, 50, 90 %),"
            f" 99 % {white}"
        )
    everything = [size for each in sizes.values() for size in each]
    print(f"all: median diameter {np.median(everything):.1f}; mean of images {_mean_of_images(sizes, members):.1f}")
    if arguments.output is None:
        return
    left_out = set(filter(None, arguments.leave_out.split(",")))
    if unknown := left_out - members.keys():
        raise SystemExit(f"There are no kinds {sorted(unknown)}. Choose from {', '.join(sorted(members))}.")
    arguments.output.mkdir(parents=True)
    for folder in ("images", "instances"):
        (arguments.output / folder).symlink_to((arguments.root / folder).resolve())
    lists: dict[str, list[str]] = defaultdict(list)
    for kind, names in members.items():
        for split, name in names:
            lists["left_out" if kind in left_out else split].append(name)
    for split, names in lists.items():
        (arguments.output / f"{split}.txt").write_text("\n".join(sorted(names)) + "\n", "utf-8")
    print(json.dumps({split: len(names) for split, names in lists.items()}))


def _mean_of_images(sizes: dict[str, list[float]], members: dict[str, list[tuple[str, str]]]) -> float:
    """Median diameter of each kind, weighted by its images."""
    total = sum(len(names) for names in members.values())
    return sum(float(np.median(sizes[kind])) * len(members[kind]) for kind in members) / total


if __name__ == "__main__":
    main()
