"""`panoptic-deeplab submission`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from panoptic_deeplab.cli.inference_options import InferenceOnData
from panoptic_deeplab.cli.terminal import print_json, say, say_lines
from panoptic_deeplab.cli.verb import Flag, Folder, make_folder, progress_bar
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.results.text_table import text_table

_BENCHMARKS = {"cityscapes": "cityscapes", "coco_panoptic": "coco", "mapillary_vistas": "mapillary_vistas"}
"""Benchmarks by `data.format`."""

_SCORED_SPLITS = ("train", "val")
"""Splits of Cityscapes that can be scored: the labels of its test split are not published."""


@dataclass(frozen=True, kw_only=True)
class Submission(InferenceOnData):
    """Predict a split into the files that a benchmark's server takes: Cityscapes, COCO or Mapillary Vistas.

    One folder a task is written: panoptic, semantic and instance (COCO: panoptic and detections); put each into a zip
    file. With --score, the files of a labeled split of Cityscapes are also scored by Cityscapes' own scripts.

    With --json, the document is: files, the paths to hand in; num_images; and scores {pq, sq, rq, pq_things, pq_stuff,
    miou, ap, ap50}, fractions in [0, 1], or null without --score.
    """

    output: Folder
    """Folder for the files."""
    split: Annotated[str, tyro.conf.arg(metavar="NAME")] = "test"
    """Split of the data set; it needs no labels."""
    benchmark: Literal["cityscapes", "coco", "mapillary_vistas"] | None = None
    """Whose files. Default: by data.format."""
    name: str = "panoptic_deeplab"
    """Name of the method; part of COCO's file names."""
    score: Flag = False
    """Score the files with cityscapesScripts (labeled splits of Cityscapes)."""
    json: Flag = False
    """Write one JSON document to stdout."""

    def execute(self) -> None:
        """Predict; write; score."""
        from panoptic_deeplab.evaluation.cityscapes_scripts import cityscapes_scores, require_scripts
        from panoptic_deeplab.evaluation.submission import SubmissionWriter
        from panoptic_deeplab.metrics.metric import percent

        if self.output.exists() and not (self.output.is_dir() and not any(self.output.iterdir())):
            raise ConfigError(
                f"`output` {self.output} is not an empty folder, and files of two submissions must not mix. Choose"
                " another folder."
            )
        predictor = self.load_predictor()
        data = self.data_config(predictor.config)
        benchmark = self.benchmark or _BENCHMARKS.get(data.format)
        if benchmark is None:
            raise ConfigError(
                f"`data.format` {data.format} belongs to no benchmark. Name one of"
                f" {', '.join(_BENCHMARKS.values())} with --benchmark."
            )
        if self.score and benchmark != "cityscapes":
            raise ConfigError(f"`score` needs Cityscapes' files, not those of {benchmark}. Use `evaluate` instead.")
        if self.score:
            if self.split not in _SCORED_SPLITS:
                raise ConfigError(
                    f"`score` needs a split with labels, train or val. Got `split` {self.split!r} instead."
                )
            require_scripts()
        source = self.open_split(data, self.split)
        writer = SubmissionWriter(
            self.output,
            benchmark,  # type: ignore[arg-type]  # a value of _BENCHMARKS
            split=self.split,
            categories=predictor.categories,
            name=self.name,
        )
        make_folder(self.output)  # now that model, data and classes are known to fit
        with progress_bar("submission") as on_image:
            for index in range(len(source)):
                sample = source[index]
                writer.add(sample.image_id, predictor.predict(sample.pixels))
                on_image(index + 1, len(source))
        files = writer.finish()
        scores = cityscapes_scores(data.root, self.split, self.output) if self.score else None
        if self.json:
            document = {"files": [str(file) for file in files], "num_images": len(source)}
            print_json({**document, "scores": None if scores is None else scores._asdict()})
            return
        for file in files:
            say(file)
        if scores is not None:
            say_lines(text_table([(key, percent(value)) for key, value in scores._asdict().items()]))
