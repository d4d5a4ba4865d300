"""Run the tests with every interpreter that is here, and with the oldest small dependencies: `make test-versions`.

Each gets an environment of its own under a folder that is given or temporary. What cannot be found is named, and is no
failure; a test that fails is one. PyTorch and torchvision are taken as they are published for the interpreter: their
oldest supported versions are large downloads and are left to `--oldest-torch`.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INTERPRETERS = ("python3.11", "python3.12", "python3.13")
_LARGE = {"torch", "torchvision"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the environments are made and kept; None = temporary")
    parser.add_argument("--oldest-torch", action="store_true", help="take the oldest torch and torchvision too")
    parser.add_argument("tests", nargs="*", default=["tests/unit", "tests/cli"], help="what pytest runs")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="versions-"))
    pip_flags = ["--quiet", "--disable-pip-version-check"]
    outcomes: dict[str, str] = {}
    for interpreter in INTERPRETERS:
        if shutil.which(interpreter) is None:
            outcomes[interpreter] = "not found on this machine"
            continue
        outcomes[interpreter] = _run(folder / interpreter, interpreter, [], pip_flags, options.tests)
    oldest = oldest_requirements(with_torch=options.oldest_torch)
    found = next((name for name in INTERPRETERS if shutil.which(name)), None)
    if found is not None:
        outcomes[f"{found}, oldest dependencies"] = _run(folder / "oldest", found, oldest, pip_flags, options.tests)
    for name, outcome in outcomes.items():
        sys.stdout.write(f"{name:32} {outcome}\n")
    return int(any(outcome.startswith("failed") for outcome in outcomes.values()))


def oldest_requirements(*, with_torch: bool) -> list[str]:
    """Each dependency at its minimum, `name==version`.

    Args:
        with_torch: include torch and torchvision.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pairs = [re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement) for requirement in project["dependencies"]]
    assert all(pairs), "each dependency has a minimum"
    return [f"{pair[1]}=={pair[2]}" for pair in pairs if pair and (with_torch or pair[1] not in _LARGE)]


def _run(folder: Path, interpreter: str, requirements: list[str], pip_flags: list[str], tests: list[str]) -> str:
    python = folder / "bin" / "python"
    steps = [
        [interpreter, "-m", "venv", folder],
        [python, "-m", "pip", "install", *pip_flags, "--upgrade", "pip>=25.1"],
        [python, "-m", "pip", "install", *pip_flags, "-e", f"{ROOT}[all]", "--group", f"{ROOT}/pyproject.toml:test"],
    ]
    if requirements:
        steps.append([python, "-m", "pip", "install", *pip_flags, *requirements])
    for step in steps:
        if subprocess.run(step, check=False).returncode:
            return f"failed to install: {' '.join(map(str, step))}"
    code = subprocess.run([python, "-m", "pytest", "-n", "2", *tests], cwd=ROOT, check=False).returncode
    return "passed" if code == 0 else f"failed (pytest ended with {code})"


if __name__ == "__main__":
    sys.exit(main())
