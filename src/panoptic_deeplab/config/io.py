"""Configuration from and to files: strict YAML <-> the dataclasses of `config/`.

A file names only what differs from the defaults, or from another file that its first key names:

    base: cityscapes_xception71     # a packaged recipe, or a YAML file by a path that starts from this file's folder
    train:
      images_at_once: 2             # everything else is as in the base

Whatever it says is checked against the dataclasses' annotations: unknown keys, keys given twice and values of the wrong
type are errors that name the file and the line. YAML is data here: no tags, no aliases, no code (`yaml_text.py`).
"""

import dataclasses
import math
import os
import re
import reprlib
import types
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from panoptic_deeplab.config import Config
from panoptic_deeplab.config.yaml_text import Places, parse_yaml
from panoptic_deeplab.errors import ConfigError, did_you_mean
from panoptic_deeplab.files import read_text, user_path, write_text

_Section = TypeVar("_Section")

_BASE = "base"
"""The key that names the file to start from."""
_MOST_BASES = 20
"""A configuration may come from so many files."""


def load_config(recipe_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a packaged recipe by name, or any YAML file by path, with everything that its `base` says.

    Args:
        recipe_or_path: `demo`, `nuclei_lite0`, ... (see `recipe_names()`) or a path such as `runs/street/config.yaml`.
        overrides: values that win over the file's, by dotted key (`{"train.max_steps": 100}`) or nested.

    Raises:
        ConfigError: no such recipe or file, bases that go in a circle, an unknown key, or a value of the wrong type or
            range.
    """
    is_recipe = str(recipe_or_path) in recipe_names()
    data, places = _load(recipe_or_path if is_recipe else user_path(recipe_or_path))
    _merge(data, overrides or {}, places)
    return _build_config(data, places)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    return sorted(f.name.removesuffix(".yaml") for f in _recipes().iterdir() if f.name.endswith(".yaml"))


def config_to_dict(config: Config) -> dict[str, Any]:
    """All settings as plain dicts, lists and scalars, ready for JSON or YAML."""
    plain = _plain(dataclasses.asdict(config))
    assert isinstance(plain, dict)
    return plain


def config_from_dict(data: Mapping[str, Any], *, where: str = "configuration") -> Config:
    """The inverse of `config_to_dict`; keys left out take their defaults.

    Args:
        data: nested mappings, as read from JSON.
        where: file name for error messages.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type or range.
    """
    return _build_config(data, {"": where})


def with_changes(section: _Section, changes: Mapping[str, Any], *, name: str) -> _Section:
    """Change some fields of one section of a configuration.

    Args:
        section: `config.postprocess`, for example.
        changes: values by the names of the fields; other fields keep theirs.
        name: how the section is called in messages.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type or range.
    """
    changed = _build_dataclass(type(section), {**vars(section), **changes}, name, {"": "options"})
    assert isinstance(changed, type(section))
    return changed


def save_config(config: Config, path: str | Path) -> None:
    """Write all settings, defaults included, as a YAML file that `load_config` reads back to an equal `Config`."""
    command = f"panoptic-deeplab train {Path(path).name} --run-folder NEW"
    header = f"# Complete configuration of one run. Repeat it, in another folder, with: {command}\n"
    body = yaml.dump(config_to_dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    write_text(path, header + body)


def setting_line(name: str, value: Any) -> str:
    """One setting as a line of YAML, lists in brackets.

    >>> setting_line("crop_size", [257, 257])
    'crop_size: [257, 257]'
    """
    text: str = yaml.dump({name: value}, Dumper=_Dumper, allow_unicode=True, width=10_000)
    return text.strip()


# ------------------------------------------------------------------------------------------------- text -> plain data


def _recipes() -> Any:
    return resources.files("panoptic_deeplab") / "recipes"


def _load(
    recipe_or_path: str | Path, *, named_in: str = "", descendants: tuple[str, ...] = ()
) -> tuple[dict[str, Any], Places]:
    """A document, laid over its base if it has one; it is the `base` in a place, to which other documents led."""
    data, places = _read(recipe_or_path, named_in=named_in)
    is_recipe = str(recipe_or_path) in recipe_names()
    identity = str(recipe_or_path) if is_recipe else os.path.realpath(recipe_or_path)
    if identity in descendants:
        circle = " -> ".join((*descendants[descendants.index(identity) :], identity))
        raise ConfigError(f"`{_BASE}` goes in a circle: {circle} ({named_in}). Remove it in one of them.")
    if len(descendants) > _MOST_BASES:
        raise ConfigError(
            f"`{_BASE}` leads over more than {_MOST_BASES} files ({named_in}). Write some of them in one."
        )
    if _BASE not in data:
        return data, places
    base, place = data[_BASE], places[_BASE]
    if next(iter(data)) != _BASE:
        raise ConfigError(f"`{_BASE}` must be the first key, since what follows changes what it names ({place}).")
    if not isinstance(base, str):
        raise ConfigError(f"`{_BASE}` must be a recipe's name or a YAML file. Got {_shown(base)} instead ({place}).")
    del data[_BASE], places[_BASE]
    if base not in recipe_names() and not is_recipe:
        base = _base_path(base, beside=Path(recipe_or_path).parent, place=place)
    base_data, base_places = _load(base, named_in=place, descendants=(*descendants, identity))
    return _laid_over(base_data, data), base_places | places


def _laid_over(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the values of `changes`, section by section; lists are replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _read(recipe_or_path: str | Path, *, named_in: str) -> tuple[dict[str, Any], Places]:
    name = str(recipe_or_path)
    if name in recipe_names():
        where, path = f"recipe {name}", _recipes() / f"{name}.yaml"
    else:
        where, path = name, Path(recipe_or_path)
        try:
            is_folder, is_there = path.is_dir(), path.exists()
        except (OSError, ValueError):  # a name that no file can have
            is_folder, is_there = False, False
        if is_folder:
            raise ConfigError(f"{name} is a folder. Expected a recipe or a YAML file, such as {path / 'config.yaml'}.")
        if not is_there:
            naming = f", which is the `{_BASE}` in {named_in}" if named_in else ""
            raise ConfigError(
                f"There is no recipe and no YAML file {name!r}{naming}."
                f" {did_you_mean(path.name, recipe_names(), see_all='panoptic-deeplab train --help')}"
            )
    data, places = parse_yaml(read_text(path, what="configuration", error=ConfigError), where)
    if data is None:
        return {}, places
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else "one value"
        raise ConfigError(f"{where} must hold sections such as `data:` and `train:`. Got {kind} instead.")
    known = (_BASE, *(field.name for field in dataclasses.fields(Config)))
    if data and not any(get_close_matches(key, known, n=1) for key in data):
        raise ConfigError(
            f"{where} is no configuration: none of its keys is like one of a configuration. Expected sections such as"
            " `data:` and `train:`."
        )
    return data, places


def _base_path(base: str, *, beside: Path, place: str) -> str:
    """The file that `base` names. A recipe may come from somebody else, so it does not know places of this machine."""
    if base.startswith(("/", "\\", "~")) or PureWindowsPath(base).drive or "\0" in base:
        raise ConfigError(
            f"`{_BASE}` must be a recipe's name, or a YAML file by a path that starts from the folder of this file. Got"
            f" {base!r} instead ({place})."
        )
    return str(beside / base)


def _merge(data: dict[str, Any], overrides: Mapping[str, Any], places: Places, prefix: str = "") -> None:
    for key, value in overrides.items():
        name, _, rest = key.partition(".")
        path = f"{prefix}{name}"
        if rest or isinstance(value, Mapping):
            section = data.setdefault(name, {})
            if isinstance(section, dict):  # else the file has a value there, which `_build_config` reports
                _merge(section, {rest: value} if rest else value, places, f"{path}.")
        else:
            data[name] = value
            places[path] = "overrides"


# ------------------------------------------------------------------------------------------------ plain data -> Config


def _build_config(data: Mapping[str, Any], places: Places) -> Config:
    config = _typed(Config, data, "", places)
    assert isinstance(config, Config)
    return config


def _typed(expected: Any, value: Any, key: str, places: Places) -> Any:
    """`value` as the annotation `expected` wants it, or a ConfigError."""
    if dataclasses.is_dataclass(expected):
        assert isinstance(expected, type)
        return _build_dataclass(expected, value, key, places)
    typed = _match(expected, value)
    if typed is _NO_MATCH:
        wanted = _describe(expected)
        if wanted.startswith(_NAMES[int]) and type(value) is int and value.bit_length() > _MOST_BITS:
            wanted += f" of at most {_MOST_BITS} bits"
        raise ConfigError(f"`{key}` must be {wanted}. Got {_shown(value)} instead ({_place(key, places)}).")
    return typed


def _build_dataclass(cls: type, value: Any, key: str, places: Places) -> Any:
    if not isinstance(value, Mapping):
        what = f"`{key}` must be a section with keys" if key else "A configuration must hold sections with keys"
        raise ConfigError(f"{what}. Got {_shown(value)} instead ({_place(key, places)}).")
    hints = get_type_hints(cls)
    prefix = f"{key}." if key else ""
    for name in value:
        if name not in hints:
            suggestion = did_you_mean(str(name), hints)
            if "Did you mean" in suggestion:
                suggestion = suggestion.replace("`", f"`{prefix}", 1)
            place = _place(f"{prefix}{name}", places)
            shown = name if isinstance(name, str) and name.isprintable() and len(name) < 80 else _shown(name)
            raise ConfigError(f"unknown key `{prefix}{shown}` in {place}. {suggestion}")
    typed = {name: _typed(hints[name], item, f"{prefix}{name}", places) for name, item in value.items()}
    try:
        return cls(**typed)
    except ConfigError as error:  # a value out of range: say where it came from
        named = re.match(r"`([\w.]+)`", str(error))
        place = _place(named[1] if named else key, places)
        raise ConfigError(f"{str(error).removesuffix('.')} ({place}).") from error


_NO_MATCH = object()

_MOST_BITS = 63
"""An integer may have this many bits."""


def _match(expected: Any, value: Any) -> Any:
    """`value` typed to `expected`, or `_NO_MATCH`."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (Union, types.UnionType):
        matches = (_match(argument, value) for argument in arguments)
        return next((match for match in matches if match is not _NO_MATCH), _NO_MATCH)
    if origin is Literal:
        matching = (a for a in arguments if type(a) is type(value) and a == value)
        return next(matching, _NO_MATCH)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            return _NO_MATCH
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        if len(arguments) != len(value):
            return _NO_MATCH
        items = tuple(_match(argument, item) for argument, item in zip(arguments, value, strict=True))
        return _NO_MATCH if _NO_MATCH in items else items
    if expected is float:
        return _as_float(value)
    if expected is type(None):
        return None if value is None else _NO_MATCH
    if expected is int and type(value) is int and value.bit_length() > _MOST_BITS:
        return _NO_MATCH  # no count of anything, and no number that torch takes
    return value if type(value) is expected else _NO_MATCH  # exact: True is no integer


def _as_float(value: Any) -> Any:
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 (without a dot) as text
        try:
            value = float(value)
        except ValueError:
            return _NO_MATCH
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _NO_MATCH
    try:
        number = float(value)
    except OverflowError:  # an integer of 400 digits
        return _NO_MATCH
    return number if math.isfinite(number) else _NO_MATCH


_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def _describe(expected: Any) -> str:
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    if origin is tuple:
        items = {int: "integers", float: "numbers"}.get(arguments[0], "values")
        if get_origin(arguments[0]) is Literal:
            items = f"values, each {_describe(arguments[0])}"
        return f"a list of {items}" if arguments[-1] is Ellipsis else f"a list of {len(arguments)} {items}"
    return _NAMES[expected]


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 80, 80, 40


def _shown(value: Any) -> str:
    """A value for a message: not all of a long or deep one."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to write integers of 5,000 digits
        return "a number of thousands of digits"


def _place(key: str, places: Places) -> str:
    while key and key not in places:
        key = key.rpartition(".")[0]
    return places[key]


# ------------------------------------------------------------------------------------------------ Config -> plain data


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


class _Dumper(yaml.SafeDumper):
    """Sections as blocks, lists on one line."""


_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)
