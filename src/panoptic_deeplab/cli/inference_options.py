"""The options of every verb that loads a model to predict with it."""

from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from panoptic_deeplab.cli.option_values import (
    AugmentationChanges,
    Changes,
    DataChanges,
    InputChanges,
    PostprocessChanges,
)
from panoptic_deeplab.cli.verb import Device, Flag, Verb, progress_bar
from panoptic_deeplab.config import Config, DataConfig, Precision
from panoptic_deeplab.config.io import with_changes
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import user_path

if TYPE_CHECKING:
    from panoptic_deeplab.data.sample import PanopticSource
    from panoptic_deeplab.inference.predictor import PanopticPredictor


@dataclass(frozen=True, kw_only=True)
class InferenceVerb(Verb):
    """A verb with a model. Settings not named are those the model was trained with."""

    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="MODEL")]
    """Model folder, such as runs/street/best; a model in the package or a published one, such as
    detectron2/R52_os16_dsconv, which is downloaded the first time (`panoptic-deeplab models` lists both); owner/name of
    a repository on the hub; or an exported file (.onnx, .xml, .pt2). Name several for an ensemble: --model A --model B;
    their maps are averaged, and the first one's post-processing is used."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one."""
    precision: Precision = "float32"
    """bfloat16 is faster where the hardware has it, and slightly different; float16 is for GPUs."""
    compile: Flag = False
    """Compile the network with torch.compile: faster, after minutes for the first image of each size, so for many
    images of few sizes. What was compiled is kept in a temporary folder, or that of TORCHINDUCTOR_CACHE_DIR."""
    output_stride: Literal[8, 16, 32] | None = None
    """Run the weights at another output stride than in training: 8 instead of 16 is finer and slower."""
    object_size: Annotated[float | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Typical diameter of the objects in the images, for models that know how large those of their training were, as
    `nuclei`: images are scaled until objects look as they did then."""
    input: InputChanges = field(default_factory=InputChanges)
    test_time_augmentation: AugmentationChanges = field(default_factory=AugmentationChanges)
    postprocess: PostprocessChanges = field(default_factory=PostprocessChanges)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "InferenceVerb | None":
        """The settings of a model that is on this machine, for the help alone: nothing else needs them before parsing.

        Raises:
            CheckpointError: the model's settings are damaged.
        """
        named = _value_of("--model", arguments) if {"--help", "-h"} & set(arguments) else None
        if named is None or not user_path(named).exists():
            return None
        config = _settings(user_path(named))
        values: dict[str, Any] = {}
        for option in fields(cls):
            factory: Any = option.default_factory
            if isinstance(factory, type) and issubclass(factory, Changes):
                values[option.name] = factory(asdict(getattr(config, option.name)))
            elif option.default is MISSING and factory is MISSING:
                values[option.name] = Path(option.name) if option.name == "output" else ()  # not used by the help
        return cls(**values)

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
        if several and (self.input or self.object_size is not None):
            raise ConfigError(
                f"`input` and `object_size` cannot be set for an ensemble: each of {len(self.model)} models keeps the"
                " input it was trained with. Leave the option out."
            )
        members: list[PanopticPredictor] = []
        for model in self.model:
            first = members[0].config if members else None  # the first one's settings are all members'
            members.append(
                PanopticPredictor.from_pretrained(
                    located(model),
                    device=device or self.device,
                    precision=self.precision,
                    compile=self.compile,
                    output_stride=self.output_stride,
                    input_config=self.input,
                    object_size=self.object_size,
                    test_time_augmentation=first.test_time_augmentation if first else self.test_time_augmentation,
                    postprocess=first.postprocess if first else self.postprocess,
                )
            )
        return PanopticPredictor.ensemble(members) if several else members[0]

    def settings(self, config: Config) -> dict[str, Any]:
        """What was asked of the model, as plain data for a report.

        Args:
            config: the predictor's.
        """
        names = ("input", "test_time_augmentation", "postprocess")
        return {"output_stride": self.output_stride, **{name: asdict(getattr(config, name)) for name in names}}


@dataclass(frozen=True, kw_only=True)
class InferenceOnData(InferenceVerb):
    """A verb with a model and a data set: the one that the model was trained on, unless another one is named."""

    data: DataChanges = field(default_factory=DataChanges)

    def data_config(self, config: Config) -> DataConfig:
        """The `data` section, with the classes in the model's folder; a file keeps its own, so the run's are meant.

        Args:
            config: the predictor's.
        """
        return with_changes(_data_of(located(self.model[0]), config), self.data, name="data")

    def open_split(self, data: DataConfig, split: str) -> "PanopticSource":
        """Open a split of the set that the model belongs to, or of the one that `data.root` names.

        Raises:
            ConfigError: see `open_same_source`.
            DatasetError: see `open_same_source`.
            CheckpointError: see `open_same_source`.
        """
        from panoptic_deeplab.data.identity import open_same_source

        return open_same_source(data, split, like=None if "root" in self.data else located(self.model[0]))


def located(model: str) -> Path:
    """The model folder or exported file that a name means; a model of the zoo or the hub is downloaded.

    Raises:
        CheckpointError: the name means nothing, or the model cannot be had.
    """
    from panoptic_deeplab.inference.exported.model_file import is_model_file
    from panoptic_deeplab.weights.locations import model_folder

    if is_model_file(model):
        return user_path(model)
    with progress_bar("download") as progress:
        return model_folder(model, progress=progress)


def _settings(model: Path) -> Config:
    from panoptic_deeplab.inference.exported.model_file import is_model_file, read_model_file_info
    from panoptic_deeplab.weights.folder import read_settings

    config = read_model_file_info(model).config if is_model_file(model) else read_settings(model)[0]
    return replace(config, data=_data_of(model, config))


def _data_of(model: Path, config: Config) -> DataConfig:
    categories = model / "categories.json"
    return replace(config.data, categories=str(categories)) if model.is_dir() else config.data


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    """What stands behind an option, where it is first named."""
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name == option:
            return value if equals else following
    return None
