"""The options of every verb that loads a model to predict with it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

from panoptic_deeplab.cli.verb import Device, Flag, Verb, config_of_model
from panoptic_deeplab.config import Config, InputConfig, PostprocessConfig, Precision, TestTimeAugmentationConfig
from panoptic_deeplab.errors import ConfigError

if TYPE_CHECKING:
    from panoptic_deeplab.inference.predictor import PanopticPredictor


@dataclass(frozen=True, kw_only=True)
class InferenceVerb(Verb):
    """A verb with a model. Settings not named are those the model was trained with."""

    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="MODEL")]
    """Model folder, such as runs/street/best; a published model, such as detectron2/R52_os16_dsconv (`panoptic-deeplab
    models` lists them; it is downloaded the first time); owner/name of a repository on the hub; or an exported file
    (.onnx, .xml, .pt2). Name several for an ensemble: --model A --model B; their maps are averaged, and the first one's
    post-processing is used."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one."""
    precision: Precision = "float32"
    """bfloat16 is faster where the hardware has it, and slightly different; float16 is for GPUs."""
    compile: Flag = False
    """Compile the network with torch.compile: faster, after minutes for the first image of each size, so for many
    images of few sizes. What was compiled is kept in a temporary folder, or that of TORCHINDUCTOR_CACHE_DIR."""
    output_stride: Literal[8, 16, 32] | None = None
    """Run the weights at another output stride than in training: 8 instead of 16 is finer and slower."""
    input: InputConfig = field(default_factory=InputConfig)
    test_time_augmentation: TestTimeAugmentationConfig = field(default_factory=TestTimeAugmentationConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)

    def load_predictor(self, *, device: str | None = None) -> "PanopticPredictor":
        """The model or ensemble, ready to predict.

        Args:
            device: instead of the option's.

        Raises:
            CheckpointError: a model cannot be loaded, or does not fit the others.
            ConfigError: no model is named, or an option does not fit the models.
        """
        from panoptic_deeplab.inference.predictor import PanopticPredictor

        if not self.model:
            raise ConfigError("Name a model folder with --model. Got none.")
        several = len(self.model) > 1
        members = [
            PanopticPredictor.from_pretrained(
                folder,
                device=device or self.device,
                precision=self.precision,
                compile=self.compile,
                output_stride=self.output_stride,
                input_config=None if several else self.input,
                test_time_augmentation=self.test_time_augmentation,
                postprocess=self.postprocess,
            )
            for folder in self.model
        ]
        if not several:
            return members[0]
        if self.input != members[0].config.input:
            raise ConfigError(
                f"`input` cannot be set for an ensemble: each of the {len(members)} models keeps the one it was"
                " trained with. Leave the option out."
            )
        return PanopticPredictor.ensemble(members)

    def settings(self) -> dict[str, Any]:
        """What was asked of the model, as plain data for a report."""
        names = ("input", "test_time_augmentation", "postprocess")
        return {"output_stride": self.output_stride, **{name: asdict(getattr(self, name)) for name in names}}


DataLike = Annotated[Path | None, tyro.conf.Suppress]
"""No option: the model folder whose data set is meant, or None (`OptionsOfModel.data_like`)."""


class OptionsOfModel(NamedTuple):
    """What options that are not named depend on."""

    folder: Path
    """Of the first model, or its exported file."""
    config: Config
    """Of the first model."""
    defaults: dict[str, Any]
    """Of the fields of `InferenceVerb`."""
    data_like: Path | None
    """For `open_same_source`: the folder whose data set is meant; None where the user names another `data.root`."""

    @property
    def categories(self) -> str:
        """For `data.categories`: the table in the folder; a file keeps its own, so the one of the run is meant."""
        return str(self.folder / "categories.json") if self.folder.is_dir() else self.config.data.categories


def options_of_model(arguments: Sequence[str]) -> OptionsOfModel | None:
    """For `Verb.defaults`: the settings of the first model's run; None where there are none.

    Args:
        arguments: the command line after the verb.
    """
    found = config_of_model(arguments)
    if found is None:
        return None
    folder, config = found
    defaults = {
        "model": (),  # named options are added to it
        "input": config.input,
        "test_time_augmentation": config.test_time_augmentation,
        "postprocess": config.postprocess,
    }
    names_data = any(argument.partition("=")[0] == "--data.root" for argument in arguments)
    return OptionsOfModel(folder, config, defaults, None if names_data else folder)
