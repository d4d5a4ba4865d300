"""Make the two sets of the README's results from public downloads.

    python examples/public_sets.py nuclei stage1_train dsb2018_nuclei       # the 2018 Data Science Bowl, BBBC038
    python examples/public_sets.py coco128 coco coco128_panoptic            # COCO 2017 with its panoptic annotations

The lists of images are in `examples/splits/`: the first eight letters of Kaggle's ids, and COCO's numbers.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = Path(__file__).parent / "splits"


def main() -> None:
    """Read the command line, and make the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("nuclei", "coco128"))
    parser.add_argument("source", type=Path, help="the unpacked download")
    parser.add_argument("output", type=Path, help="new folder")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    (make_nuclei if options.set == "nuclei" else make_coco128)(options.source, options.output)


def make_nuclei(source: Path, output: Path) -> None:
    """From `ID/images/ID.png` and `ID/masks/*.png` to images, instance maps and lists of the folder format."""
    for kind in ("images", "instances"):
        (output / kind).mkdir()
    for split in ("train", "dev"):
        names = [_only(source.glob(f"{start}*"), start).name for start in _listed(f"dsb2018_{split}")]
        for name in names:
            with Image.open(source / name / "images" / f"{name}.png") as picture:
                picture.convert("RGB").save(output / "images" / f"{name}.png")  # transparency says nothing there
                instances = np.zeros((picture.height, picture.width), np.uint16)
            for number, path in enumerate(sorted((source / name / "masks").glob("*.png")), start=1):
                with Image.open(path) as mask:
                    instances[np.asarray(mask.convert("L")) > 0] = number
            Image.fromarray(instances).save(output / "instances" / f"{name}.png")
        (output / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")
        print(f"{split}: {len(names)} images")


def make_coco128(source: Path, output: Path) -> None:
    """From `train2017/` and `annotations/panoptic_train2017.json` with its folder to a hundred images of them."""
    annotations = source / "annotations"
    whole = json.loads((annotations / "panoptic_train2017.json").read_text("utf-8"))
    images = {entry["id"]: entry for entry in whole["images"]}
    labels = {entry["image_id"]: entry for entry in whole["annotations"]}
    for split in ("train", "dev"):
        ids = [int(number) for number in _listed(f"coco128_{split}")]
        part = whole | {"images": [images[i] for i in ids], "annotations": [labels[i] for i in ids]}
        label_folder = output / "annotations" / f"panoptic_{split}"
        image_folder = output / "images" / split
        for folder in (label_folder, image_folder):
            folder.mkdir(parents=True)
        for i in ids:
            shutil.copyfile(source / "train2017" / images[i]["file_name"], image_folder / images[i]["file_name"])
            name = labels[i]["file_name"]
            shutil.copyfile(annotations / "panoptic_train2017" / name, label_folder / name)
        (output / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(part), "utf-8")
        print(f"{split}: {len(ids)} images")


def _listed(name: str) -> list[str]:
    return (SPLITS / f"{name}.txt").read_text("utf-8").split()


def _only(paths: object, start: str) -> Path:
    found = list(paths)  # type: ignore[call-overload]
    if len(found) != 1:
        raise SystemExit(
            f"Expected one folder whose name begins with {start}, found {len(found)}. Is the download whole?"
        )
    return found[0]


if __name__ == "__main__":
    main()
