"""Run the tests with every interpreter that is here, and with the oldest small dependencies: `make test-versions`.

Each gets an environment of its own, of some gigabytes, which is removed before the next one is made. What cannot be
found is named, and is no failure; a test that fails is one. PyTorch and torchvision are taken as they are published for
the interpreter: their oldest supported versions are large downloads and are left to `--oldest-torch`.

The environment of the oldest dependencies has few of the extras, since others want newer ones of them; tests of what is
not installed are skipped.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INTERPRETERS = ("python3.11", "python3.12", "python3.13")
OLDEST = "oldest"
_LARGE = {"torch", "torchvision"}
_EXTRAS_OF_OLDEST = "train,eval,serve"
_OLD_WORDS = ("-W", "ignore::FutureWarning", "-W", "ignore::DeprecationWarning")
"""Old packages use what a new PyTorch or Python has deprecated, which is no fault of ours."""
_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = (*INTERPRETERS, OLDEST)
    parser.add_argument("--only", action="append", choices=names, help="this one alone; may be given again")
    parser.add_argument("--folder", type=Path, help="where the environments are made and kept; else they are removed")
    parser.add_argument("--oldest-torch", action="store_true", help="take the oldest torch and torchvision too")
    parser.add_argument("tests", nargs="*", default=["tests/unit", "tests/cli"], help="what pytest runs")
    options = parser.parse_args()
    chosen = options.only or names
    outcomes: dict[str, str] = {}
    for name in INTERPRETERS:
        interpreter = find_interpreter(name)
        if name in chosen:
            needs = [f"{ROOT}[all]", "--group", f"{ROOT}/pyproject.toml:test"]
            outcomes[name] = _outcome(interpreter, needs, options.folder, options.tests, name)
    if OLDEST in chosen:
        interpreter = next(filter(None, map(find_interpreter, INTERPRETERS)), None)
        oldest = oldest_requirements(with_torch=options.oldest_torch)
        needs = [f"{ROOT}[{_EXTRAS_OF_OLDEST}]", *oldest, *_test_tools()]
        outcomes["oldest dependencies"] = _outcome(interpreter, needs, options.folder, options.tests, OLDEST)
    for name, outcome in outcomes.items():
        sys.stdout.write(f"{name:20} {outcome}\n")
    return int(any(outcome.startswith("failed") for outcome in outcomes.values()))


def find_interpreter(name: str) -> Path | None:
    """An interpreter that runs, on the path or among those of pyenv (whose stand-ins on the path may lead nowhere)."""
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    on_path = shutil.which(name)
    candidates = [Path(on_path)] if on_path else []
    candidates += sorted(root.glob(f"versions/*/bin/{name}"))
    for candidate in candidates:
        if (
            subprocess.run([candidate, "-c", "import venv, ensurepip"], check=False, capture_output=True).returncode
            == 0
        ):
            return candidate
    return None


def oldest_requirements(*, with_torch: bool) -> list[str]:
    """Each dependency at its minimum, `name==version`.

    Args:
        with_torch: include torch and torchvision.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pairs = [re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement) for requirement in project["dependencies"]]
    assert all(pairs), "each dependency has a minimum"
    return [f"{pair[1]}=={pair[2]}" for pair in pairs if pair and (with_torch or pair[1] not in _LARGE)]


def _test_tools() -> list[str]:
    """What runs the tests, out of the group `test`; the rest of it is what they compare with."""
    group = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]["test"]
    return [line for line in group if re.match(r"(pytest|pytest-xdist|hypothesis|beartype|httpx)\b", line)]


def _outcome(interpreter: Path | None, needs: Sequence[str], kept: Path | None, tests: Sequence[str], name: str) -> str:
    """Make an environment, run the tests in it, and remove it unless it is kept."""
    if interpreter is None:
        return "not found on this machine"
    folder = Path(tempfile.mkdtemp(prefix="versions-")) if kept is None else kept
    try:
        return _run(folder / name, interpreter, needs, tests)
    finally:
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, interpreter: Path, needs: Sequence[str], tests: Sequence[str]) -> str:
    python = folder / "bin" / "python"
    steps: list[list[str | Path]] = [[interpreter, "-m", "venv", folder], [python, *_PIP, "--upgrade", "pip>=25.1"]]
    steps.append([python, *_PIP, "-e", *needs])
    for step in steps:
        if subprocess.run(step, check=False).returncode:
            return f"failed to install: {' '.join(map(str, step))}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = _OLD_WORDS if folder.name == OLDEST else ()
    command = [python, "-m", "pytest", "-n", "2", *quiet, *tests]
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    return "passed" if code == 0 else f"failed (pytest ended with {code})"


if __name__ == "__main__":
    sys.exit(main())
