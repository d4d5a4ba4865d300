"""`panoptic-deeplab data init`: from a folder of labels to a category table and a recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from panoptic_deeplab.cli.terminal import say, say_lines
from panoptic_deeplab.cli.verb import Device, OptionalFolder, Verb, make_folder, progress_bar
from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.errors import ConfigError, DatasetError, visible
from panoptic_deeplab.files import user_path, write_json, write_text
from panoptic_deeplab.results.text_table import text_table

if TYPE_CHECKING:
    from panoptic_deeplab.data.recognize.found import Classes, Found

_FEW_STEPS = 200
_MEASURED, _SHAPES = 100, 1000
"""Images whose sizes are measured and whose shapes are looked at, spread over the set. Rare classes need many."""


@dataclass(frozen=True, kw_only=True)
class InitData(Verb):
    """Find out what a folder of labels holds; write a category table and a recipe to start from.

    Writes categories.json and recipe.yaml into the output folder, and says what they follow from. The recipe's sizes
    follow from the objects, and its number of steps from a few steps that are timed on this machine; comments say why.
    Then: panoptic-deeplab train OUTPUT/recipe.yaml
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the labeled set."""
    output: OptionalFolder = None
    """Folder for categories.json and recipe.yaml; has to be named."""
    format: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Format of the set, as in data.format. Default: the likeliest one."""
    things: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="NAME [NAME ...]")] = None
    """Classes whose objects are counted; all others are stuff. Default: what the set says, else by a rule."""
    categories: Annotated[str | None, tyro.conf.arg(metavar="NAME_OR_JSON")] = None
    """Category table to use: a packaged one, or a JSON file. Default: one that follows from what the files say."""
    train_split: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Split to train on. Default: the one whose name says so."""
    val_split: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Split to validate on. Default: val, valid, dev or test; where there is none, some images of the other one."""
    minutes: Annotated[float, tyro.conf.arg(metavar="N")] = 30.0
    """Time for the training and one evaluation on this machine."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one."""

    def execute(self) -> None:
        """Look, write, and say what was found."""
        from panoptic_deeplab.data.held_out import evenly
        from panoptic_deeplab.data.object_sizes import measured
        from panoptic_deeplab.data.recognize.detect import choose_format, choose_splits
        from panoptic_deeplab.data.sources import open_source
        from panoptic_deeplab.training.first_recipe.write import first_advice, recipe_text

        root, output = self._folders()
        found, others = choose_format(root, self.format)
        say(f"{self.folder} looks like {found.format}: {found.evidence}. Splits: {', '.join(found.splits)}.")
        for other in others:
            say(f"It could also be {other.format} ({other.evidence}): choose that with --format {other.format}.")
        train, val = choose_splits(found.splits, self.train_split, self.val_split)
        table_path = output / "categories.json"
        data: dict[str, Any] = {
            "format": found.format,
            "root": str(found.root),
            "categories": str(table_path),
            "train_split": train,
            "val_split": val or "held_out",
        }
        self._write_table(self._classes(found), DataConfig(**data), table_path)
        if val is not None and self.val_split is None and not _has_labels(DataConfig(**data)):
            say(f"The split {val} has no labels to validate on.")
            data["val_split"], val = "held_out", None
        if val is None:
            data["held_out"] = str(_hold_out(DataConfig(**data), output / "held_out.txt"))
        config = DataConfig(**data)
        training, validation = open_source(config, train), open_source(config, config.val_split)
        with progress_bar("measure") as on_image:
            measures = measured(evenly(training, _MEASURED), on_image)
        if not measures.image_sizes:
            raise DatasetError(f"No image of the split {train!r} has labels. Expected labeled images to train on.")
        say("A few training steps are timed.")
        advice, costs = first_advice(data, measures, training, validation, minutes=self.minutes, device=self.device)
        budget = next(item.value for item in advice if item.setting == "train.max_minutes")
        steps = max(1, int(60 * budget / costs.step))
        say(
            f"A step takes {costs.step:.2f} s; about {steps} steps and an evaluation fit into {self.minutes:g} minutes."
        )
        if costs.step > 2 * costs.work:
            say(
                f"The machine is busy with other work: {costs.work:.2f} s of a step are its own. Where that ends, more"
                " steps fit."
            )
        if steps < _FEW_STEPS:
            say(f"That is little time: below {_FEW_STEPS} steps a network learns little. Raise --minutes if you can.")
        header = (
            f"Written by `panoptic-deeplab data init` for {found.format}: {len(training)} images of {train!r} to train"
            f" on,\n{len(validation)} of {config.val_split!r} to validate on. Change what you know better; comments say"
            " what a value follows from."
        )
        write_text(output / "recipe.yaml", recipe_text(advice, header=header))
        for name in ("categories.json", "recipe.yaml"):
            say(Path(self.output or "") / name)

    def _folders(self) -> tuple[Path, Path]:
        """The set, and an output folder without a recipe."""
        if self.output is None:
            raise ConfigError("`data init` needs a folder to write to. Name one with --output.")
        if self.minutes <= 0:
            raise ConfigError(f"`minutes` must be positive. Got {self.minutes:g} instead.")
        root, output = user_path(self.folder).absolute(), user_path(self.output).absolute()
        if not root.is_dir():
            raise ConfigError(f"There is no folder {root}. Expected the folder of the labeled set.")
        if (output / "recipe.yaml").exists():
            raise ConfigError(f"{output / 'recipe.yaml'} exists already. Remove it, or choose another --output.")
        make_folder(output)
        return root, output

    def _classes(self, found: "Found") -> "Classes":
        """The classes that the user names, or those of the files."""
        from panoptic_deeplab.categories import CategoryTable
        from panoptic_deeplab.data.recognize.found import Classes

        if self.categories is None:
            return found.classes()
        return Classes(CategoryTable.load(self.categories), things_known=True, colors_count=True)

    def _write_table(self, classes: "Classes", data: DataConfig, path: Path) -> None:
        """Decide which classes are things, and write the table."""
        from panoptic_deeplab.data.held_out import evenly
        from panoptic_deeplab.data.recognize.detect import with_things
        from panoptic_deeplab.data.recognize.thing_rule import RULE, shapes_by_class
        from panoptic_deeplab.data.sources import open_source

        write_json(path, classes.table.to_json(), indent=2)
        if self.things is not None:
            table = with_things(classes, self.things)
        elif classes.things_known:
            table = classes.table
        else:
            with progress_bar("look at shapes") as on_image:
                shapes = shapes_by_class(evenly(open_source(data, data.train_split), _SHAPES), on_image)
            things = [name for name, s in shapes.items() if (s.convexities if classes.numbered else s.isthing)]
            table = with_things(classes, things)
            rule = f"The files do not say which classes are things. By a rule, {RULE}. Overrule it with --things."
            say("Things are the classes whose objects have numbers." if classes.numbered else rule)
            rows = [("class", "kind", "images", "objects an image", "of the hull")]
            for name, shape in sorted(shapes.items(), key=lambda item: -item[1].objects_an_image):
                kind, many = "thing" if name in things else "stuff", f"{shape.objects_an_image:.1f}"
                rows.append((visible(name), kind, str(shape.images), many, f"{shape.convexity:.0%}"))
            say_lines(text_table(rows, left=(0, 1)))
        write_json(path, table.to_json(), indent=2)
        for remark in classes.remarks:
            say(remark)
        for isthing, kind in ((True, "Things"), (False, "Stuff")):
            names = [category.name for category in table.categories if category.isthing == isthing]
            say(f"{kind}: {', '.join(names) or 'none'}.")


def _has_labels(data: DataConfig) -> bool:
    """Whether the validation split can be measured on; test splits are often given without labels."""
    from panoptic_deeplab.data.held_out import evenly
    from panoptic_deeplab.data.sources import open_source

    source = evenly(open_source(data, data.val_split), 3)
    return any(source[index].panoptic_map is not None for index in range(len(source)))


def _hold_out(data: DataConfig, path: Path) -> Path:
    """List the images to validate on, of a set with one split."""
    from panoptic_deeplab.data.held_out import RULE, choose_held_out
    from panoptic_deeplab.data.sample import image_ids
    from panoptic_deeplab.data.sources import open_source

    names = image_ids(open_source(data, data.train_split))
    chosen = choose_held_out(names)
    write_text(path, "".join(f"{name}\n" for name in chosen))
    shown = ", ".join(chosen[:3])
    say(
        f"There is one split, {data.train_split}. {len(chosen)} of its {len(names)} images are held out for validation:"
    )
    say(f"{RULE}. They begin with {shown}, and {path} lists them.")
    return path
