"""Lay out a folder set of nuclei as Kaggle does, one mask an object, or with TIFF label images as cellpose does.

    python examples/nuclei_as_kaggle.py FOLDER/dsb2018_nuclei kaggle
    python examples/nuclei_as_kaggle.py FOLDER/dsb2018_nuclei cellpose --layout cellpose

The first writes `kaggle/{train,dev}/NAME/images/NAME.png` and `kaggle/{train,dev}/NAME/masks/*.png`, the layout of the
2018 Data Science Bowl, which `data.format: object_masks` reads. The second writes `cellpose/{train,dev}/NAME.png` and
`NAME_masks.tif` beside it, which `data.format: label_images` reads. Images are copied byte for byte.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    """Read the command line, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="set of data.format folder, with instances/ and {split}.txt")
    parser.add_argument("output", type=Path, help="new folder")
    parser.add_argument("--layout", choices=("kaggle", "cellpose"), default="kaggle")
    parser.add_argument("--splits", nargs="+", default=["train", "dev"])
    parser.add_argument("--limit", type=int, help="only so many images of each split")
    options = parser.parse_args()
    write = write_kaggle if options.layout == "kaggle" else write_cellpose
    for split in options.splits:
        names = (options.source / f"{split}.txt").read_text("utf-8").split()[: options.limit]
        for name in names:
            with Image.open(options.source / "instances" / f"{name}.png") as picture:
                instances = np.asarray(picture)
            write(options.output / split, name, options.source / "images" / f"{name}.png", instances)
        print(f"{options.output / split}: {len(names)} images")


def write_kaggle(folder: Path, name: str, image: Path, instances: np.ndarray) -> None:
    """One folder an image, and in it one PNG of 0 and 255 an object."""
    (folder / name / "images").mkdir(parents=True)
    (folder / name / "masks").mkdir()
    shutil.copyfile(image, folder / name / "images" / f"{name}.png")
    for number in np.unique(instances[instances > 0]):
        mask = Image.fromarray(np.where(instances == number, 255, 0).astype(np.uint8))
        mask.save(folder / name / "masks" / f"{number:05}.png")


def write_cellpose(folder: Path, name: str, image: Path, instances: np.ndarray) -> None:
    """All files of a split in one folder: the image, and a 16-bit TIFF with a number for each object."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image, folder / f"{name}.png")
    Image.fromarray(instances.astype(np.uint16)).save(folder / f"{name}_masks.tif", compression="tiff_adobe_deflate")


if __name__ == "__main__":
    main()
