"""`panoptic-deeplab benchmark`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from panoptic_deeplab.cli.terminal import print_json, say, say_lines
from panoptic_deeplab.cli.verb import PACKAGED_RECIPES, Device, Flag, Verb, make_folder, progress_bar
from panoptic_deeplab.config import Precision
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import write_json
from panoptic_deeplab.results.text_table import text_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from panoptic_deeplab.profiling.inference import Subject
    from panoptic_deeplab.profiling.report import BenchmarkReport, InferenceRow, TrainingRow

_SIZES = ((1024, 2048),)


@dataclass(frozen=True, kw_only=True)
class Benchmark(Verb):
    """Measure speed and memory: prediction by stages and end to end, or training.

    Name what to measure: --model, --recipes or --paper. Stages are measured with waiting for the device after each, so
    on a GPU their sum is more than the time end to end.

    With --json, the document is: environment {time, command, commit, versions, hardware}; inference, a list of {name,
    runtime, precision, compiled, device, image_size: [height, width], input_size, batch_size, stages {name: {median,
    p90, minimum (seconds a batch), runs}}, end_to_end {median, p90, minimum, runs}, images_per_second,
    peak_process_bytes, peak_process_increase_bytes, peak_gpu_bytes, drawn_scene, published_milliseconds}; training, a
    list of {name, device, precision, crop_size, batch_size, num_workers, step {median, p90, minimum, runs},
    step_images_per_second, loader_images_per_second, peak_process_bytes, peak_gpu_bytes}.
    """

    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="MODEL")] = ()
    """Model folder, name of the zoo, or exported file (.onnx, .xml, .pt2). Name several to compare them."""
    recipes: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="RECIPE_OR_YAML",
            help=f"Networks with random weights: packaged recipes ({PACKAGED_RECIPES}) or YAML files. Post-processing"
            " then works on a drawn scene.",
        ),
    ] = ()
    paper: Flag = False
    """The networks of Table 9 at its input sizes, with random weights, beside the paper's times."""
    training: Flag = False
    """Measure loader and training step of the --recipes, with their data, instead of prediction."""
    sizes: Annotated[tuple[tuple[int, int], ...], tyro.conf.arg(metavar="HEIGHT WIDTH")] = _SIZES
    """Sizes of the images; not with --paper, which has its own."""
    batch_sizes: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N")] = (1,)
    """Images that go through the network together."""
    images: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="IMAGE")] = ()
    """Image files instead of drawn street scenes of --sizes."""
    seconds: float = 5.0
    """How long to measure each row, the stages and the whole; at least three batches each."""
    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Processor threads of PyTorch and the runtimes; default: all cores."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one."""
    precision: Precision = "float32"
    """Number type of the network in prediction; a recipe's training has its own. bfloat16 is faster where the
    hardware has it."""
    compile: Flag = False
    """Compile the network of prediction with torch.compile: minutes for each size, before what is measured."""
    json: Flag = False
    """Write one JSON document to stdout instead of a table."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write the JSON document here."""

    def execute(self) -> None:
        """Measure; print the report."""
        self._check_options()
        if self.output is not None:
            make_folder(self.output.parent)

        import torch

        from panoptic_deeplab.distributed import resolve_device
        from panoptic_deeplab.profiling.report import BenchmarkReport
        from panoptic_deeplab.training.environment import describe_environment

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        hardware = self.device.replace("tensorrt", "cuda")  # a runtime of exported files, on the same GPUs
        environment = describe_environment(resolve_device(hardware))
        with progress_bar("benchmark") as on_row:
            if self.training:
                report = BenchmarkReport(environment=environment, training=tuple(self._training_rows(on_row)))
            else:
                report = BenchmarkReport(environment=environment, inference=tuple(self._inference_rows(on_row)))
        self._write(report)

    def _check_options(self) -> None:
        named = sum((bool(self.model), bool(self.recipes), self.paper))
        if named == 0:
            raise ConfigError("Name what to measure: one of --model, --recipes and --paper.")
        if named > 1:
            raise ConfigError(
                f"Only one of --model, --recipes and --paper can be measured at once. Got {named} of them."
            )
        if self.paper and self.sizes != _SIZES:
            raise ConfigError(
                "`sizes` is not for --paper, whose networks have the sizes of Table 9. Leave one of both out."
            )
        if self.training and not self.recipes:
            raise ConfigError("`training` needs recipes. Name them with --recipes.")
        if min(self.batch_sizes, default=0) < 1:
            raise ConfigError(f"`batch_sizes` must be positive. Got {self.batch_sizes} instead.")
        if min((min(size) for size in self.sizes), default=0) < 32:
            raise ConfigError(f"`sizes` must be at least 32 x 32. Got {self.sizes} instead.")
        if self.compile and self.training:
            raise ConfigError("`compile` is for prediction. Leave it out with --training.")
        if not self.seconds > 0:
            raise ConfigError(f"`seconds` must be positive. Got {self.seconds} instead.")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"`threads` must be positive. Got {self.threads} instead.")

    def _training_rows(self, on_row: "Callable[[int, int], None]") -> "Iterator[TrainingRow]":
        from panoptic_deeplab.config.io import load_config
        from panoptic_deeplab.profiling.training import measure_training

        for number, recipe in enumerate(self.recipes):
            on_row(number, len(self.recipes))
            yield measure_training(recipe, load_config(recipe), device=self.device, seconds=self.seconds)

    def _inference_rows(self, on_row: "Callable[[int, int], None]") -> "Iterator[InferenceRow]":
        from panoptic_deeplab.profiling.inference import measure_inference

        number = 0
        with _pictures() as picture:
            for subject, sizes, count in self._subjects():
                images = self.images or tuple(picture(size) for size in sizes)
                for image in images:
                    for batch_size in self.batch_sizes:
                        on_row(number, count * len(images) * len(self.batch_sizes))
                        yield measure_inference(subject, image, batch_size=batch_size, seconds=self.seconds)
                        number += 1

    def _subjects(self) -> "Iterator[tuple[Subject, tuple[tuple[int, int], ...], int]]":
        """One after another, since the largest fill the memory: model, sizes of pictures for it, number of models."""
        if self.paper:
            from panoptic_deeplab.profiling.paper_speed import paper_rows, paper_subject

            rows = paper_rows()
            for row in rows:
                subject, size = paper_subject(row, device=self.device, precision=self.precision, compile=self.compile)
                yield subject, (size,), len(rows)
        elif self.recipes:
            from panoptic_deeplab.categories import CategoryTable
            from panoptic_deeplab.config.io import load_config
            from panoptic_deeplab.profiling.inference import untrained_subject

            for recipe in self.recipes:
                config = load_config(recipe)
                categories = CategoryTable.load(config.data.categories)
                subject = untrained_subject(
                    recipe, config, categories, device=self.device, precision=self.precision, compile=self.compile
                )
                yield subject, self.sizes, len(self.recipes)
        else:
            from panoptic_deeplab.inference.predictor import PanopticPredictor
            from panoptic_deeplab.profiling.inference import Subject

            for model in self.model:
                predictor = PanopticPredictor.from_pretrained(
                    model, device=self.device, precision=self.precision, compile=self.compile
                )
                suffix = Path(model).suffix if Path(model).is_file() else ""
                subject = Subject(name=model, predictor=predictor, runtime=suffix.lstrip(".") or "pytorch")
                yield subject, self.sizes, len(self.model)

    def _write(self, report: "BenchmarkReport") -> None:
        document = report.to_json()
        if self.output is not None:
            write_json(self.output, document, indent=2)
        if self.json:
            print_json(document)
            return
        for title, rows in report.tables():
            say(title)
            say_lines(text_table(rows) + "\n")
        hardware = report.environment["hardware"]
        say(f"{hardware['processor']}, {hardware['torch_threads']} threads; device {hardware['device']}")


@contextmanager
def _pictures() -> "Iterator[Callable[[tuple[int, int]], Path]]":
    """Gives a function from a size to a drawn picture of that size, as a file that is deleted afterwards."""
    from panoptic_deeplab.profiling.inference import write_picture

    with tempfile.TemporaryDirectory() as folder:
        yield lambda size: write_picture(Path(folder), size)
