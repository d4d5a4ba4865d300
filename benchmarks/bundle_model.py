"""Make a folder of `weights/bundled/` of a trained model: float16 weights, card, checksums and description.

    panoptic-deeplab evaluate --model RUN/best --json > dev.json
    python benchmarks/bundle_model.py RUN/best src/panoptic_deeplab/weights/bundled/nuclei --about about.json \
        --evaluation dev.json

`about.json` holds `purpose`, `measured_on`, `license` (see `BundledModel`) and `origin`, how the weights came about;
the figures come from the evaluation: of things where there are some.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from panoptic_deeplab import open_pretrained
from panoptic_deeplab.weights.bundled import ABOUT_FILE
from panoptic_deeplab.weights.card import Results, model_card
from panoptic_deeplab.weights.checksums import write_checksums
from panoptic_deeplab.weights.folder import CATEGORIES_FILE, CONFIG_FILE, MODEL_FILE, write_folder

MOST_BYTES = 10_000_000


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--about", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True)
    arguments = parser.parse_args()
    about = json.loads(arguments.about.read_text("utf-8"))
    origin = about.pop("origin")
    evaluation = json.loads(arguments.evaluation.read_text("utf-8"))
    things = evaluation["panoptic"]["things"]
    measured = {
        "PQ": evaluation["panoptic"]["all"]["pq"],
        "PQ of things": things["pq"],
        "SQ": things["sq"],
        "RQ": things["rq"],
    }
    measured |= {"mIoU": evaluation["semantic"]["miou"]} if "semantic" in evaluation else {}
    network, config, categories = open_pretrained(arguments.model)
    config = replace(
        config,
        data=replace(config.data, root="datasets", categories=categories.name),
        model=replace(config.model, backbone_weights=None, weights=None),
    )
    for tensor in (*network.parameters(), *network.buffers()):
        assert tensor.isfinite().all()
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.float16)
            assert tensor.isfinite().all(), "too large for float16"
    results = Results(metrics=measured, provenance=about["measured_on"])
    card = model_card(config, categories, origin=origin, results=results, license_text=about["license"])
    card = card.replace('"path/of/this/folder"', f'"{arguments.folder.name}"')
    write_folder(arguments.folder, network, config=config, categories=categories, card=card)
    about["measured"] = {name: round(value, 4) for name, value in measured.items()}
    (arguments.folder / ABOUT_FILE).write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    names = (MODEL_FILE, CONFIG_FILE, CATEGORIES_FILE)
    write_checksums(arguments.folder, {name: arguments.folder / name for name in names})
    size = sum(path.stat().st_size for path in arguments.folder.iterdir())
    print(f"{arguments.folder}: {size / 1e6:.2f} MB")
    assert size <= MOST_BYTES, f"more than {MOST_BYTES / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
