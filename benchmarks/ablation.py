"""Table 1's ablation on the synthetic street scenes: `python benchmarks/ablation.py [--steps 300] [--seeds 3]`.

Each row changes one thing in the row before, as in the paper. The network is small (EfficientNet-Lite0, half of
the paper's channels), the training short: the table says what the switches do here, on drawn scenes, within an hour
on two CPU cores, and how far that can be told from the spread of the seeds. It measures none of the paper's numbers.

Results are kept in `--output` after every run, and a run that is in it already is not made again.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.evaluation.evaluate import evaluate
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.training.trainer import train

SCENE_SIZE = (128, 256)
LARGE_CROP, SMALL_CROP = (129, 257), (97, 129)
TRAIN_SCENES, UNSEEN_SCENES = 200, 48

FIRST_ROW: dict[str, Any] = {
    "train.optimizer": "sgd",
    "train.learning_rate": 0.02,  # of DeepLab's SGD recipes, and of what such a short training bears
    "loss.heatmap_loss": "cross_entropy",
    "loss.heatmap_lambda": 10.0,  # a cross entropy is larger than a squared error; the paper does not state it
    "model.heatmap_activation": "sigmoid",
    "model.dual_decoder": False,
    "model.dual_aspp": False,
    "data.crop_size": SMALL_CROP,
    "model.aspp_channels": 64,
    "model.instance_aspp_channels": 64,
    "model.decoder_channels": 64,
    "model.head_channels": 64,
    "model.instance_decoder_channels": 64,
    "model.instance_head_channels": 32,
    "train.ema_decay": None,
}

CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("base: SGD, sigmoid cross entropy, one ASPP and decoder", {}),
    ("+ Adam", {"train.optimizer": "adam", "train.learning_rate": 2e-3}),
    (
        "+ MSE",
        {"loss.heatmap_loss": "mse", "loss.heatmap_lambda": 200.0, "model.heatmap_activation": "none"},
    ),
    ("+ decoder x 2", {"model.dual_decoder": True}),
    ("+ ASPP x 2", {"model.dual_aspp": True}),
    ("+ large crop", {"data.crop_size": LARGE_CROP}),
    (
        "+ C_sem x 2",  # in the paper's counts, of both ASPPs
        {
            "model.aspp_channels": 128,
            "model.instance_aspp_channels": 128,
            "model.decoder_channels": 128,
            "model.head_channels": 128,
        },
    ),
    ("+ C_ins x 2", {"model.instance_decoder_channels": 128, "model.instance_head_channels": 64}),
    ("semantic only", {"model.instance_branch": False}),
]


def rows() -> list[tuple[str, dict[str, Any]]]:
    """Name and all settings of each row; the changes add up."""
    settings, result = FIRST_ROW, []
    for name, change in CHANGES:
        settings = {**settings, **change}
        result.append((name, settings))
    return result


def run(settings: dict[str, Any], *, root: Path, steps: int, seed: int) -> dict[str, float | None]:
    """Train and measure one row once; fractions."""
    overrides = {
        **settings,
        "data.format": "coco_panoptic",
        "data.root": str(root),
        "train.max_steps": steps,
        "train.seed": seed,
    }
    config: Config = load_config("demo", overrides)
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        best = train(config, run_folder=Path(folder) / "run")
        minutes = (time.monotonic() - start) / 60
        predictor = PanopticPredictor.from_pretrained(best)
        report = evaluate(predictor, open_source(config.data, "val"), config=config.evaluation)
    values = report.values()
    names = ("PQ", "AP", "mIoU") if config.model.instance_branch else ("mIoU",)
    return {name.lower(): values.get(name) if name in names else None for name in ("PQ", "AP", "mIoU")} | {
        "minutes": minutes
    }


def table(results: dict[str, list[dict[str, float | None]]]) -> str:
    """Markdown: mean and largest distance from it over the seeds, in percent."""
    lines = ["| row | PQ | AP | mIoU |", "|---|---|---|---|"]
    for name, runs in results.items():
        cells = []
        for metric in ("pq", "ap", "miou"):
            values = [100 * value for r in runs if (value := r[metric]) is not None]
            mean = statistics.fmean(values) if values else None
            cells.append("-" if mean is None else f"{mean:.1f} ± {max(abs(v - mean) for v in values):.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/ablation.json"))
    arguments = parser.parse_args()

    environment = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "date": time.strftime("%Y-%m-%d"),
    }
    document: dict[str, Any] = {"steps": arguments.steps, "environment": environment, "runs": {}}
    if arguments.output.exists():
        document = json.loads(arguments.output.read_text("utf-8"))
        if document["steps"] != arguments.steps:
            sys.exit(f"{arguments.output} has runs of {document['steps']} steps. Name another file with --output.")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_coco_panoptic(SyntheticSource(TRAIN_SCENES, seed=1, size=SCENE_SIZE), root, "train")
        write_coco_panoptic(SyntheticSource(UNSEEN_SCENES, seed=3, size=SCENE_SIZE), root, "val")
        for seed in range(arguments.seeds):  # a whole table after each round
            for name, settings in rows():
                done = document["runs"].setdefault(name, [])
                if len(done) > seed:
                    continue
                done.append(run(settings, root=root, steps=arguments.steps, seed=seed))
                print(name, seed, done[-1], flush=True)
                arguments.output.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(table(document["runs"]))


if __name__ == "__main__":
    main()
