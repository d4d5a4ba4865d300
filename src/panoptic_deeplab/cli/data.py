"""`panoptic-deeplab data check`, `show`, `convert` and `table`: what to do with a labeled set before training."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated

import tyro

from panoptic_deeplab.cli.terminal import print_json, say, say_lines
from panoptic_deeplab.cli.verb import (
    PACKAGED_RECIPES,
    Flag,
    Folder,
    OptionalFolder,
    Verb,
    leading_recipe,
    make_folder,
    progress_bar,
)
from panoptic_deeplab.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    InputConfig,
    ModelConfig,
    PostprocessConfig,
    TargetConfig,
)
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DataVerb(Verb):
    """A verb with a labeled set: the one of a recipe, or the one that the options describe."""

    recipe: Annotated[
        str | None,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="[RECIPE_OR_YAML]",
            help=f"Where the settings come from: a packaged recipe ({PACKAGED_RECIPES}) or a YAML file; without it they"
            " are the defaults.",
        ),
    ] = None
    split: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Split to look at or to write. Default: data.train_split."""
    data: DataConfig = field(default_factory=DataConfig)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "DataVerb | None":
        """The recipe's settings."""
        recipe = leading_recipe(arguments)
        if recipe is None:
            return None
        config = load_config(recipe)
        known = {**vars(config), "config": config, "recipe": recipe}
        return cls(**{option.name: known[option.name] for option in fields(cls) if option.name in known})


@dataclass(frozen=True, kw_only=True)
class CheckData(DataVerb):
    """Read every image and label of a split; list all errors and warnings, and what is in the set.

    Ends with exit code 1 if there is an error. Nothing is repaired or skipped. That no image has labels, or none an
    instance (unless the recipe's model has no instance branch), is an error in the splits data.train_split and
    data.val_split; any other one may be without.

    What the labels of data.train_split say against sizes in the settings (of the input, sigma, windows, limits) comes
    last, as advice.

    With --json, the document is: split, ok (no error), findings [{severity: error or warning, message, image_id or
    null}], statistics {images, labeled_images, smallest_size, largest_size [height, width], void_share, overlap_share
    (null in formats of maps), crowds, instances, max_instances, instance_area_quantiles, classes [{name, isthing,
    images, segments, crowds, pixel_share}]}, levels (`input.percentiles` of the numbers of all images together, as
    `input.range` takes them, or null), advice [{setting, value, advised, reason}]. Shares are fractions in
    [0, 1], areas pixels.
    """

    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Check so many images only, the first ones."""
    json: Flag = False
    """Write one JSON document to stdout instead of a table."""
    input: InputConfig = field(default_factory=InputConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    model: Annotated[ModelConfig, tyro.conf.Fixed, tyro.conf.Suppress] = field(default_factory=ModelConfig)
    """Only whether it has an instance branch matters here."""

    def execute(self) -> None:
        """Check; print the report."""
        from panoptic_deeplab.data.check import check_source
        from panoptic_deeplab.data.levels import Levels
        from panoptic_deeplab.data.object_sizes import Measures
        from panoptic_deeplab.data.problems import Problems
        from panoptic_deeplab.data.sources import open_source
        from panoptic_deeplab.training.first_recipe.advice import objections

        measures = Measures(levels=Levels(self.input.percentiles), channels=self.input.channels)
        split, problems = self.split or self.data.train_split, Problems()
        source = open_source(self.data, split, problems)
        labels_needed = split in (self.data.train_split, self.data.val_split)
        with progress_bar("check") as on_image:
            report = check_source(
                source,
                self.limit,
                on_image,
                labels_needed=labels_needed,
                instances_needed=labels_needed and self.model.instance_branch,
                top_k=self.postprocess.top_k,
                max_detections=self.evaluation.max_detections,
                input_config=self.input,
                problems=problems,
                on_sample=measures.add,
            )
        config = Config(input=self.input, target=self.target, postprocess=self.postprocess, model=self.model)
        levels = measures.levels.of_set()
        found = objections(measures, config) if split == self.data.train_split else []
        if self.json:
            advice = [{"setting": a.setting, "value": v, "advised": a.value, "reason": a.reason} for v, a in found]
            print_json({"split": split, **report.to_json(), "levels": levels, "advice": advice})
        else:
            say_lines(report.table())
            if levels is not None:
                say(
                    "numbers of the images: percentiles {:g} and {:g} are {:g} and {:g}; `input.range` can be set to"
                    " them.".format(*self.input.percentiles, *levels)
                )
            for value, advice_ in found:
                say(f"advice: {advice_.setting} is {value}; {advice_.value} fits better: {advice_.reason}.")
        if not report.ok:
            raise SystemExit(1)


@dataclass(frozen=True, kw_only=True)
class ShowData(DataVerb):
    """Draw labeled images, and what training makes of them.

    Writes labels.png (images with their labels as overlay) and train_batch.png (augmented crops with the targets of the
    network), and prints the two paths.
    """

    num_images: Annotated[int, tyro.conf.arg(metavar="N")] = 6
    """Rows of each picture."""
    output: Folder = Path("runs/data")
    """Folder for the pictures."""
    input: InputConfig = field(default_factory=InputConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    config: Annotated[Config, tyro.conf.Fixed, tyro.conf.Suppress] = field(default_factory=Config)
    """The recipe; of its other sections, only the seed and the network's output stride matter here."""

    def execute(self) -> None:
        """Draw; print the paths."""
        from PIL import Image

        from panoptic_deeplab.data.loader import training_batches
        from panoptic_deeplab.data.sources import open_source
        from panoptic_deeplab.images.write import save_picture
        from panoptic_deeplab.visualize.draw import draw_panoptic
        from panoptic_deeplab.visualize.mosaic import draw_train_batch, tile

        if self.num_images < 1:
            raise ConfigError(f"`num_images` must be positive. Got {self.num_images} instead.")
        make_folder(self.output)
        source = open_source(self.data, self.split or self.data.train_split)
        count = min(self.num_images, len(source))
        rows: list[tuple[str, list[Image.Image | None]]] = []
        width = 640
        for sample in (source[index] for index in range(count)):
            image = Image.fromarray(sample.image)
            label = None
            if sample.panoptic_map is not None:
                label = draw_panoptic(image, sample.truth(source.categories), min_width=width)
            rows.append((sample.image_id, [image, label]))
        paths = self.output / "labels.png", self.output / "train_batch.png"
        save_picture(tile(rows, columns=("image", "label"), cell_width=width), paths[0])

        config = replace(
            self.config,
            data=replace(self.data, num_workers=0),
            input=self.input,
            target=self.target,
            train=replace(self.config.train, batch_size=count),
        )
        batch = next(training_batches(source, config, rank=0, world_size=1))
        drawn = draw_train_batch(
            batch.images, batch.targets, categories=source.categories, input_config=config.input, max_images=count
        )
        save_picture(drawn, paths[1])
        for path in paths:
            say(path)


@dataclass(frozen=True, kw_only=True)
class ConvertData(DataVerb):
    """Write a split of any labeled set in COCO panoptic format.

    Writes SPLIT/ (images), annotations/panoptic_SPLIT/ (labels), annotations/panoptic_SPLIT.json and categories.json
    below the output folder, and prints the path of the JSON. A further split goes beside the first; none is
    overwritten. Read the set with --data.format coco_panoptic --data.categories OUTPUT/categories.json.
    """

    output: OptionalFolder = None
    """Folder for the converted set; has to be named."""
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the split in the converted set. Default: its name in the original."""
    jpeg_quality: Annotated[int | None, tyro.conf.arg(metavar="1-100")] = None
    """Write all images as JPEG of this quality. Default: JPEG and PNG files, and those of more than 8 bits, are copied
    byte for byte, others written as PNG; both are exact."""

    def execute(self) -> None:
        """Convert; print the path of the JSON."""
        from panoptic_deeplab.data.convert import write_coco_panoptic
        from panoptic_deeplab.data.sources import open_source

        if self.output is None:
            raise ConfigError("`data convert` needs a folder to write to. Name one with --output.")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"`jpeg_quality` must be from 1 to 100. Got {self.jpeg_quality} instead.")
        split = self.split or self.data.train_split
        source = open_source(self.data, split)
        make_folder(self.output)
        with progress_bar("convert") as on_image:
            path = write_coco_panoptic(
                source, self.output, self.name or split, jpeg_quality=self.jpeg_quality, progress=on_image
            )
        say(path)


@dataclass(frozen=True, kw_only=True)
class TableOfData(Verb):
    """Print a category table as JSON: a packaged one, to copy and change, or that of a file.

    The classes are in the order of the network's outputs. Write it to a file, and name that file in data.categories.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME_OR_JSON")]
    """Name of a packaged table, or path of a JSON file."""

    def execute(self) -> None:
        """Print it."""
        from panoptic_deeplab.categories import CategoryTable

        print_json(CategoryTable.load(self.name).to_json())
