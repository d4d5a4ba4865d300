"""The pages of the reference, made from the code: public names, settings and verbs.

Nothing here knows a name: what is exported from `panoptic_deeplab`, every section and field of `Config`, and every verb
of the command line gets its place by itself.
"""

import ast
import dataclasses
import importlib
import inspect
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import panoptic_deeplab
from panoptic_deeplab.cli import PROGRAM, VERBS
from panoptic_deeplab.config import Config

_ROOMS = {
    "inference": "Predict",
    "results": "Results",
    "visualize": "Draw",
    "images": "Images",
    "model": "Network",
    "weights": "Weights",
    "data": "Labeled data",
    "training": "Training",
    "postprocess": "Post-processing",
    "metrics": "Metrics",
    "evaluation": "Evaluation",
    "export": "Export",
    "config": "Configuration",
    "categories": "Categories",
    "maps": "Maps",
    "errors": "Errors",
}
"""Titles, in the order in which a reader needs them; a room that is not named here follows under its own name."""


def write(folder: Path) -> None:
    """Write `api/`, `settings.md` and `commands.md` into a folder, which holds nothing else that is generated."""
    shutil.rmtree(folder / "api", ignore_errors=True)
    (folder / "api").mkdir(parents=True)
    rooms = _names_of_rooms()
    for room, names in rooms.items():
        (folder / "api" / f"{room}.md").write_text(_api_page(room, names), "utf-8")
    entries = "\n".join(f"api/{room}" for room in rooms)
    text = (
        "# Python API\n\nEvery public name is imported from `panoptic_deeplab`:"
        f" `from panoptic_deeplab import PanopticPredictor`.\n\n```{{toctree}}\n:maxdepth: 2\n\n{entries}\n```\n"
    )
    (folder / "python-api.md").write_text(text, "utf-8")
    (folder / "settings.md").write_text(_settings_page(), "utf-8")
    (folder / "commands.md").write_text(_commands_page(), "utf-8")


def _names_of_rooms() -> dict[str, list[str]]:
    rooms: dict[str, list[str]] = {room: [] for room in _ROOMS}
    # What lies in a room's own files comes before what lies deeper in it.
    for module, names in sorted(panoptic_deeplab._PUBLIC_NAMES.items(), key=lambda item: item[0].count(".")):
        rooms.setdefault(module.partition(".")[0], []).extend(names.split())
    return {room: names for room, names in rooms.items() if names}


def _api_page(room: str, names: list[str]) -> str:
    about = inspect.getdoc(importlib.import_module(f"panoptic_deeplab.{room}")) or ""
    parts = [f"# {_ROOMS.get(room, room.capitalize())}", about]
    for name in names:
        value = getattr(panoptic_deeplab, name)
        if inspect.isclass(value) and issubclass(value, BaseException):
            directive = f".. autoexception:: panoptic_deeplab.{name}\n   :show-inheritance:"
        elif inspect.isclass(value) and room == "config" and name != "Config":
            directive = f".. autoclass:: panoptic_deeplab.{name}\n\n   Its fields are in :doc:`/reference/settings`."
        elif inspect.isclass(value):
            directive = f".. autoclass:: panoptic_deeplab.{name}\n   :members:"
        else:
            directive = f".. autofunction:: panoptic_deeplab.{name}"
        parts.append(f"```{{eval-rst}}\n{directive}\n```")
    return "\n\n".join(parts) + "\n"


def _settings_page() -> str:
    parts = [
        "# Settings",
        "A recipe sets what differs from these defaults; on the command line each is an option with its dotted name,"
        " as `--train.max-steps 100`.",
    ]
    for section in dataclasses.fields(Config):
        parts += _section(section.name, section.default_factory)  # type: ignore[arg-type]
    return "\n\n".join(parts) + "\n"


def _section(name: str, kind: Any) -> list[str]:
    parts = [f"## `{name}`", inspect.getdoc(kind) or ""]
    documents = _field_documents(kind)
    default = kind()
    nested = []
    for field in dataclasses.fields(kind):
        value = getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            nested.append((f"{name}.{field.name}", type(value)))
            continue
        shown = "null" if value is None else repr(list(value) if isinstance(value, tuple) else value)
        type_name = field.type if isinstance(field.type, str) else _type_name(field.type)
        text = textwrap.fill(documents.get(field.name, ""), 116, break_long_words=False, break_on_hyphens=False)
        line = f"`{name}.{field.name}` — `{type_name}`, default `{shown}`"
        parts.append(f"{line}\n: {textwrap.indent(text, '  ').lstrip()}" if text else line)
    for deeper, deeper_kind in nested:
        parts += _section(deeper, deeper_kind)
    return parts


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _field_documents(kind: type) -> dict[str, str]:
    """The text under each field."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    documents = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(field.target, ast.Name):
            documents[field.target.id] = " ".join(inspect.cleandoc(str(ast.literal_eval(after.value))).split())
    return documents


def _commands_page() -> str:
    parts = ["# Commands", f"Each is `{PROGRAM} VERB ...`; `--help` shows the same texts."]
    for verb in VERBS:
        shown = subprocess.run(
            [sys.executable, "-m", "panoptic_deeplab", *verb.split(), "--help"],
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        parts.append(f"## {verb}\n\n```text\n{shown.stdout.strip()}\n```")
    return "\n\n".join(parts) + "\n"
