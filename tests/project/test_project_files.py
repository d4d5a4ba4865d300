"""Workflows, container and issue forms name what exists; the slow tests do what they say."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_workflows_call_targets_that_exist(workflow: Path) -> None:
    document = yaml.safe_load(workflow.read_text("utf-8"))
    commands = [step["run"] for job in document["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "make"
        assert words[1] in MAKE_TARGETS


def test_issue_forms_have_what_the_site_requires() -> None:
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        document = yaml.safe_load(form.read_text("utf-8"))
        assert form.stem == "config" or {"name", "description", "body"} <= document.keys()


def _instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments)."""
    text = re.sub(r"\\\n", "", (ROOT / "Dockerfile").read_text("utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_dockerfile_copies_what_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    sources = [source for word, rest in _instructions() if word == "COPY" for source in rest.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert source.removeprefix("./") in kept


def test_every_small_dependency_has_a_minimum() -> None:
    oldest = runpy.run_path(str(ROOT / "tests" / "project" / "versions.py"))["oldest_requirements"](with_torch=False)
    assert {"numpy", "pillow", "timm"} <= {requirement.partition("==")[0] for requirement in oldest}


@pytest.mark.slow
def test_steps_of_the_dockerfile_make_a_program(tmp_path: Path) -> None:
    """No base image is at hand, so its steps run in a fresh environment in its place."""
    venv.create(tmp_path / "python", with_pip=True)
    work = tmp_path / "work"
    work.mkdir()
    arguments = dict(re.fullmatch(r'(\w+)="?(.*?)"?', rest).groups() for word, rest in _instructions() if word == "ARG")  # type: ignore[union-attr]
    environment = {**os.environ, **arguments, "PATH": f"{tmp_path}/python/bin:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    for word, rest in _instructions():
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, work / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, work / target)
        elif word == "RUN" and not rest.startswith("useradd"):
            subprocess.run(["bash", "-ec", rest], cwd=work, env=environment, check=True)
    (entry,) = [rest for word, rest in _instructions() if word == "ENTRYPOINT"]
    shown = subprocess.run(
        [*yaml.safe_load(entry), "doctor"], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
    )
    assert "panoptic-deeplab" in shown.stdout, shown.stderr


@pytest.mark.slow
def test_wheel_works_in_a_bare_environment(tmp_path: Path) -> None:
    """Built, installed without extras and away from the checkout: it opens its recipes and predicts."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "python", with_pip=True)
    python = tmp_path / "python" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], env=environment, check=True)
    code = """
import numpy, torch
from panoptic_deeplab import CategoryTable, PanopticDeepLab, PanopticPredictor, load_config, save_pretrained
config = load_config("nuclei_lite0")
categories = CategoryTable.load(config.data.categories)
network = PanopticDeepLab(config.model, len(categories)).eval()
save_pretrained("model", network, config=config, categories=categories)
result = PanopticPredictor.from_pretrained("model").predict(numpy.zeros((64, 80, 3), numpy.uint8))
assert result.panoptic_map.shape == (64, 80)
"""
    subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, check=True)
