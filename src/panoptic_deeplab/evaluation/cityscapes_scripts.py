"""Cityscapes' own numbers for the three tasks, from the files of `SubmissionWriter` and cityscapesScripts.

The scripts are written to be run, not called: they keep their settings in module globals, print, exit, and leave files
in the working directory. So they run in a process of their own, in a temporary folder: `python -m` this module.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

from panoptic_deeplab.errors import DatasetError, require
from panoptic_deeplab.files import read_json, write_json
from panoptic_deeplab.metrics.cityscapes_ap import finite


class CityscapesScores(NamedTuple):
    """What the benchmark's tables show; fractions in [0, 1], None where there was nothing to measure."""

    pq: float | None
    sq: float | None
    rq: float | None
    pq_things: float | None
    pq_stuff: float | None
    miou: float | None
    """`averageScoreClasses` of the pixel-level script."""
    ap: float | None
    """`allAp` of the instance-level script: Cityscapes' AP, not COCO's."""
    ap50: float | None


def cityscapes_scores(root: str | Path, split: str, submission: str | Path) -> CityscapesScores:
    """Score the files of a labeled split with cityscapesScripts.

    Args:
        root: folder of Cityscapes, with `gtFine/{split}/{city}/*_gtFine_{labelIds,instanceIds}.png`.
        split: `train` or `val`.
        submission: folder of a `SubmissionWriter` that has seen every image of the split.

    Raises:
        MissingDependencyError: cityscapesScripts is not installed.
        DatasetError: the scripts refuse the files; their last words are in the message.
    """
    require_scripts()
    with tempfile.TemporaryDirectory() as work:
        program = [sys.executable, "-m", __name__, str(Path(root).resolve()), split, str(Path(submission).resolve())]
        run = subprocess.run(program, cwd=work, capture_output=True, text=True, check=False)
        result = Path(work) / "scores.json"
        if run.returncode != 0 or not result.exists():
            last = (run.stderr.strip().splitlines() or run.stdout.strip().splitlines() or ["nothing"])[-1]
            raise DatasetError(
                f"cityscapesScripts cannot score {submission} against split {split!r} of {root}. It said: {last}"
            )
        return CityscapesScores(**read_json(result, what="scores of cityscapesScripts", error=DatasetError))


def require_scripts() -> None:
    """Ask for cityscapesScripts, before the work whose result they are to score."""
    require("cityscapesscripts", extra="cityscapes", purpose="Scoring by Cityscapes' own scripts")


def _score(ground_truth: Path, split: str, submission: Path) -> CityscapesScores:
    """In the process of its own; the working directory is temporary."""
    import numpy as np

    if not hasattr(np, "in1d"):  # cityscapesScripts 2.3 calls it; numpy 2.4 has only the new name
        np.in1d = np.isin  # type: ignore[attr-defined]
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as instance_level  # noqa: N813
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as pixel_level  # noqa: N813
    from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import evaluatePanoptic
    from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

    label_ids = sorted(str(path) for path in (ground_truth / split).glob("*/*_gtFine_labelIds.png"))
    instance_ids = sorted(str(path) for path in (ground_truth / split).glob("*/*_gtFine_instanceIds.png"))
    if not label_ids or not instance_ids:
        raise SystemExit(f"{ground_truth / split} has no *_gtFine_labelIds.png and *_gtFine_instanceIds.png.")

    # Both scripts hand everything to this function; the files would fail on numpy 2's numbers.
    written: dict[str, Any] = {}
    pixel_level.writeDict2JSON = instance_level.writeDict2JSON = lambda data, path: written.update({path: data})

    pixel_args = copy(pixel_level.args)
    pixel_args.predictionPath, pixel_args.exportFile = str(submission / "semantic"), "pixels"
    predictions = [pixel_level.getPrediction(pixel_args, path) for path in label_ids]
    pixel_level.evaluateImgLists(predictions, label_ids, pixel_args)
    pixels = written["pixels"]

    instance_args = copy(instance_level.args)
    instance_args.predictionPath = str(submission / "instance")
    instance_args.gtInstancesFile = "gtInstances.json"  # would be read from an earlier run
    instance_args.JSONOutput = False
    predictions = [instance_level.getPrediction(path, instance_args) for path in instance_ids]
    instances = instance_level.evaluateImgLists(predictions, instance_ids, instance_args)["averages"]

    name = f"cityscapes_panoptic_{split}"
    convert2panoptic(str(ground_truth), os.getcwd(), setNames=[split])  # noqa: PTH109
    truth, ours = (f"{name}.json", name), (f"{submission}/panoptic/{name}.json", f"{submission}/panoptic/{name}")
    panoptic = evaluatePanoptic(*truth, *ours, "panoptic.json")
    numbers = [panoptic["All"][name] for name in ("pq", "sq", "rq")]
    numbers += [panoptic["Things"]["pq"], panoptic["Stuff"]["pq"], pixels["averageScoreClasses"]]
    return CityscapesScores(*map(finite, (*numbers, instances["allAp"], instances["allAp50%"])))


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        scores = _score(Path(sys.argv[1]) / "gtFine", sys.argv[2], Path(sys.argv[3]))
    write_json("scores.json", scores._asdict())
