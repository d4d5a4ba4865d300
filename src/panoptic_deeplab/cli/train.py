"""`panoptic-deeplab train`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from panoptic_deeplab.cli.terminal import error_console, say
from panoptic_deeplab.cli.verb import (
    PACKAGED_RECIPES,
    Device,
    Flag,
    OptionalFolder,
    Verb,
    is_main_process,
    leading_recipe,
)
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config


@dataclass(frozen=True, kw_only=True)
class Train(Verb):
    """Train a model from a recipe.

    For labels of your own, `panoptic-deeplab data init FOLDER --output DIR` writes one, DIR/recipe.yaml.

    On several GPUs: torchrun --nproc-per-node 8 -m panoptic_deeplab train RECIPE

    Every setting of a recipe is an option; this help has the common ones, with the values of RECIPE where it is named.
    """

    recipe: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="RECIPE_OR_YAML",
            help=f"Name of a packaged recipe ({PACKAGED_RECIPES}), or a YAML file, such as the config.yaml of an"
            " earlier run.",
        ),
    ]
    run_folder: OptionalFolder = None
    """Folder of the run. Default: runs/NAME_OF_THE_RECIPE."""  # not `--run`, which torchrun takes for its `--run-path`
    resume: Flag = False
    """Go on from the last checkpoint of the folder."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one."""
    help_all: Flag = False
    """Show the help with every setting."""  # `cli.parse` answers it
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "Train | None":
        """The recipe's settings."""
        recipe = leading_recipe(arguments)
        return None if recipe is None else cls(recipe=recipe, config=load_config(recipe))

    def execute(self) -> None:
        """Train; print the folder of the best checkpoint."""
        from panoptic_deeplab.training.trainer import train

        best = train(
            self.config,
            run_folder=self.run_folder or default_run_folder(self.recipe),
            resume=self.resume,
            device=self.device,
            console=error_console(),
        )
        if is_main_process():
            say(best)


def default_run_folder(recipe: str) -> Path:
    """`nuclei_lite0` -> runs/nuclei_lite0, my/street.yaml -> runs/street, runs/street/config.yaml -> runs/street."""
    path = Path(recipe)
    name = path.resolve().parent.name if path.name == "config.yaml" else path.stem
    return Path("runs") / name
