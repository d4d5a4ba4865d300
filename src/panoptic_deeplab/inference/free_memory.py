"""How much memory there is, for sentences that come before the work instead of the system's end of the process."""

import os
import sys
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
"""Where containers say what they may take, in version 2."""


def available_memory() -> int | None:
    """Bytes that this process can still take without swapping; None where the system does not tell.

    Linux tells what is free or can be freed, for the machine and for the container. macOS tells only what is built in.
    """
    if sys.platform == "darwin":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kilobytes = _table(_MEMINFO).get("MemAvailable:")
    found = [size for size in (None if kilobytes is None else 1024 * kilobytes, _of_container()) if size is not None]
    return min(found, default=None)


def _of_container() -> int | None:
    limit, used = (_number(_CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit is None or used is None:
        return None
    details = _table(_CGROUP / "memory.stat")
    files = details.get("inactive_file", 0) + details.get("active_file", 0)  # kept of files, and given up when needed
    return max(limit - used + files, 0)


def _number(path: Path) -> int | None:
    """None for `max`, which is no limit, too."""
    try:
        text = path.read_text("ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _table(path: Path) -> dict[str, int]:
    """Name -> number, of lines such as `MemAvailable: 5 kB`."""
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines]
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}
