"""Where this copy of the package comes from, for files that have to say what made them."""

import subprocess
from pathlib import Path


def source_commit() -> str | None:
    """The last commit that changed this package, where it was imported from a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "log", "-1", "--format=%H", "--", "."]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
