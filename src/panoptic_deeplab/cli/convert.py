"""`panoptic-deeplab convert`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from panoptic_deeplab.cli.terminal import say
from panoptic_deeplab.cli.verb import Folder, Verb, make_folder
from panoptic_deeplab.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConvertCheckpoint(Verb):
    """Turn a published checkpoint of another implementation into a model folder.

    The folder is then a --model for every verb, and a start for training.

    Files for other runtimes come from `export`, and labels in another format from `data convert`.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    """The downloaded file (.pth, .pkl) or folder, or what a training with that implementation wrote. Code in it is
    never run."""
    source: Annotated[str, tyro.conf.arg(name="from", metavar="NAME")]
    """Which model it is, such as detectron2/R52_os16_dsconv; `panoptic-deeplab models` lists the names."""
    output: Folder
    """Model folder to write; files of an earlier one are replaced."""

    def execute(self) -> None:
        """Convert; print what was written and how to use it.

        Raises:
            CheckpointError: the checkpoint cannot be read, or is not that model.
            ConfigError: `output` cannot be written, or is the checkpoint of a run.
        """
        from panoptic_deeplab.weights.card import model_card
        from panoptic_deeplab.weights.converters import convert_checkpoint
        from panoptic_deeplab.weights.folder import EMA_FILE, save_pretrained
        from panoptic_deeplab.weights.zoo_list import zoo_models

        if (self.output / EMA_FILE).exists():  # which would be read instead of what is written here
            raise ConfigError(f"`output` {self.output} is the checkpoint of a run. Choose another folder.")
        model, config, categories = convert_checkpoint(self.checkpoint, self.source)
        make_folder(self.output)
        verification = zoo_models()[self.source].verification
        origin = f"Converted from a checkpoint of `{self.source}`. {verification}"
        card = model_card(config, categories, origin=origin)
        save_pretrained(self.output, model, config=config, categories=categories, card=card)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        say(
            f"{self.source}: {config.model.backbone}, {categories.num_classes} classes ({categories.name}),"
            f" {parameters / 1e6:.2f} M parameters, all of them converted. {verification}"
        )
        for file in sorted(self.output.iterdir()):
            say(f"  {file}  {file.stat().st_size / 1e3:,.0f} kB")
        say(f"Predict    panoptic-deeplab predict IMAGES --model {self.output} --output predictions")
        say(
            f"Fine-tune  panoptic-deeplab train {self.output / 'config.json'} --model.weights {self.output}"
            " --run-folder runs/NAME --data.root FOLDER"
        )
