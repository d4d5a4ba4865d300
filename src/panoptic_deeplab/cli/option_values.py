"""How values are written on the command line, for all options in one place.

`COMMON_SETTINGS` are those of a recipe that the help of `train` shows; a `Changes` holds a section of the settings that
a trained model brings and an option can change.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, ClassVar, TypedDict

import tyro
from tyro.constructors import (
    MISSING,
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from panoptic_deeplab.config import (
    CompatConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    InputConfig,
    PostprocessConfig,
    TestTimeAugmentationConfig,
)
from panoptic_deeplab.files import user_path

_NULL = "null"

OPTION_TYPES = ConstructorRegistry()
"""For `tyro.cli`: an option without a value takes `null`, as in recipes; `None` and `none` mean the same."""


@OPTION_TYPES.primitive_rule
def _null(type_info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if type_info.type is not type(None):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=_NULL,
        instance_from_str=lambda words: None,
        is_instance=lambda value: value is None,
        str_from_instance=lambda value: [_NULL],
        choices=(_NULL, "None", "none"),
    )


@OPTION_TYPES.struct_rule
def _without_options(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Leave what only published weights need out of the options and their help: a recipe says it."""
    if info.type is not CompatConfig:
        return None
    given = info.default if isinstance(info.default, CompatConfig) else CompatConfig()
    return StructConstructorSpec(instantiate=lambda: given, fields=())


class Changes(dict[str, Any]):
    """The fields of one section that were named: the others are the model's, which is opened after the parse."""

    section: ClassVar[type]

    def __init_subclass__(cls) -> None:
        cls.__doc__ = cls.section.__doc__  # which the help shows above the options


class DataChanges(Changes):
    """Those of `data`."""

    section = DataConfig


class InputChanges(Changes):
    """Those of `input`."""

    section = InputConfig


class AugmentationChanges(Changes):
    """Those of `test_time_augmentation`."""

    section = TestTimeAugmentationConfig


class PostprocessChanges(Changes):
    """Those of `postprocess`."""

    section = PostprocessConfig


class EvaluationChanges(Changes):
    """Those of `evaluation`."""

    section = EvaluationConfig


class _Absent(TypedDict, total=False):
    """What tyro takes for a value that is left out unless named; it has no name for it."""

    value: int


@OPTION_TYPES.struct_rule
def _named_only(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Make the options of a section from its fields, without their defaults."""
    if not (isinstance(info.type, type) and issubclass(info.type, Changes)):
        return None
    section, absent = (
        ConstructorRegistry.get_struct_spec(StructTypeInfo.make(kind, MISSING, in_union_context=False))
        for kind in (info.type.section, _Absent)
    )
    assert isinstance(section, StructConstructorSpec)
    assert isinstance(absent, StructConstructorSpec)
    known = info.default if isinstance(info.default, Changes) else {}
    fields = tuple(
        StructFieldSpec(field.name, field.type, known[field.name], field.helptext)
        if field.name in known
        else StructFieldSpec(
            field.name,
            Annotated[field.type, tyro.conf.arg(help_behavior_hint="(default: the model's)")],  # type: ignore[arg-type]
            absent.fields[0].default,
            field.helptext,
        )
        for field in section.fields
    )
    return StructConstructorSpec(instantiate=info.type, fields=fields)


COMMON_SETTINGS = {
    "data": ("format", "root", "categories", "train_split", "val_split", "crop_size"),
    "input": ("longest_side",),
    "model": ("backbone", "weights"),
    "train": ("max_steps", "batch_size", "learning_rate", "precision", "validate_every"),
}
"""What the help of `train` shows; `--help-all` shows every setting."""

COMMON_OPTIONS = ConstructorRegistry()
"""For the help of `train`: `OPTION_TYPES` with the common settings alone."""

COMMON_OPTIONS.primitive_rule(_null)
HELP_ALL = "--help-all"


_being_shortened: set[object] = set()


@COMMON_OPTIONS.struct_rule
def _common_only(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Leave out the sections and fields that are not common."""
    shown: dict[object, tuple[str, ...]] = {Config: tuple(COMMON_SETTINGS)}
    shown |= {field.default_factory: COMMON_SETTINGS.get(field.name, ()) for field in fields(Config)}
    if info.type not in shown or info.type in _being_shortened:
        return None
    _being_shortened.add(info.type)  # so that tyro's own rule answers now
    try:
        whole = ConstructorRegistry.get_struct_spec(info)
    finally:
        _being_shortened.remove(info.type)
    assert isinstance(whole, StructConstructorSpec)
    return StructConstructorSpec(whole.instantiate, tuple(f for f in whole.fields if f.name in shown[info.type]))


def with_home(arguments: Sequence[str]) -> list[str]:
    """The arguments with the home folder for `~`, which shells leave alone in quotes and in `--option=~/path`."""
    return [_with_home(argument) for argument in arguments]


def _with_home(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if argument.startswith("~"):
        return str(user_path(argument))
    return f"{option}={user_path(value)}" if equals and option.startswith("--") and value.startswith("~") else argument
