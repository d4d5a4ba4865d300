"""Rules about the source as a whole."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import panoptic_deeplab
from panoptic_deeplab.config.io import recipe_names

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "panoptic_deeplab"
FILES = sorted(SOURCE.rglob("*.py"))


def test_imports_point_one_way() -> None:
    code = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_every_part_is_in_a_layer() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    layered = {name.rpartition(".")[2] for layer in layers for name in re.split(r" [|:] ", layer)}
    files = {file.stem for file in SOURCE.glob("[!_]*.py")}
    assert files | {file.parent.name for file in SOURCE.glob("*/__init__.py")} == layered


_ALIAS = ("panoptic_deeplab.model.network", "panoptic_deeplab.weights.open")
"""`PanopticDeepLab.from_pretrained`, the one import against the layers."""


def test_no_file_imports_itself_through_others() -> None:
    """Imports inside of functions count."""
    imports = _imports()
    assert _ALIAS[1] in imports[_ALIAS[0]]
    imports[_ALIAS[0]].remove(_ALIAS[1])
    order = TopologicalSorter(imports)
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert sum(map(len, imports.values())) > 400


def _imports() -> dict[str, set[str]]:
    """File -> the files of the package that it imports, wherever it does; type checking and lazy names do not count."""
    names = {
        ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): file
        for file in FILES
    }
    imports: dict[str, set[str]] = {name: set() for name in names}
    for name, file in names.items():
        waiting: list[ast.AST] = [] if name == "panoptic_deeplab" else [ast.parse(file.read_text("utf-8"))]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            waiting.extend(ast.iter_child_nodes(node))
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert isinstance(node, ast.ImportFrom)
                for alias in node.names:
                    target = f"{module}.{alias.name}" if f"{module}.{alias.name}" in names else module
                    if target in names and target != "panoptic_deeplab":
                        imports[name].add(target)
    return imports


def test_nine_files_lie_at_the_top() -> None:
    assert {file.stem for file in SOURCE.glob("*.py")} == {
        *("__init__", "__main__", "errors", "provenance", "files", "stopwatch", "categories", "maps", "distributed"),
    }


def test_every_room_says_what_belongs_in_it() -> None:
    for file in SOURCE.rglob("__init__.py"):
        assert len((ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").split()) > 8, file


def test_files_are_short() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines()) for file in FILES}
    assert len(lengths) > 30
    assert {file: length for file, length in lengths.items() if length > 400} == {}


def test_only_the_command_line_prints() -> None:
    printing = set()
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                printing.add(file.relative_to(SOURCE).parts[0])
    assert printing == {"cli"}


def test_docstrings_begin_with_what_they_describe() -> None:
    """Not with a bare genitive: "URL of the file", not "Of the file"; "config: settings of the run"."""
    genitive = re.compile(r"\A\s*Of\b|^\s+Of\b|^\s+[*]{0,2}\w+(?:, \w+)*: [Oo]f\b", re.MULTILINE)
    files = [file for folder in ("src", "tests", "benchmarks", "examples") for file in (ROOT / folder).rglob("*.py")]
    docstrings = [
        (str(file.relative_to(ROOT)), node.value.value)
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    assert len(docstrings) > 1000
    assert [(file, found[0]) for file, text in docstrings if (found := genitive.search(text))] == []


def test_nothing_unfinished_is_left() -> None:
    words = re.compile(r"raise NotImplementedError|\bTODO\b|\bFIXME\b|\bXXX\b")
    found = [str(file) for file in FILES if words.search(file.read_text("utf-8"))]
    assert found == []


def test_version_is_the_same_everywhere() -> None:
    version = panoptic_deeplab.__version__
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_recipes_are_in_the_package() -> None:
    assert {"cityscapes_xception71", "coco27_lite0", "demo", "nuclei_lite0"} <= set(recipe_names())
