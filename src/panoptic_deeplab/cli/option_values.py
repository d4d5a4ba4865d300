"""How values are written on the command line, for all options in one place."""

from collections.abc import Sequence
from typing import Any

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from panoptic_deeplab.config import CompatConfig
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


def with_home(arguments: Sequence[str]) -> list[str]:
    """The arguments with the home folder for `~`, which shells leave alone in quotes and in `--option=~/path`."""
    return [_with_home(argument) for argument in arguments]


def _with_home(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if argument.startswith("~"):
        return str(user_path(argument))
    return f"{option}={user_path(value)}" if equals and option.startswith("--") and value.startswith("~") else argument
