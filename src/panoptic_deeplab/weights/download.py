"""`download`: one file over HTTP, in a way that an interruption costs nothing; and where downloads are kept.

NAME.part         what has arrived; the next attempt asks for the rest (HTTP range)
NAME.part.etag    the server's mark of that version, so that the rest of another version is never appended
NAME              the whole file, renamed in one step
"""

import errno
import hashlib
import http.client
import logging
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from panoptic_deeplab import __version__
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import user_path

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with bytes that have arrived and bytes of the whole file (0 = unknown)."""

_ETAG = re.compile(r'"[!-~]+"')

_CHUNK = 1 << 20
_TIMEOUT = 30.0
"""Seconds without an answer."""
_ATTEMPTS = 4
"""A connection that breaks is tried again, from where it broke."""
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cache_folder() -> Path:
    """Where downloads go: `$PANOPTIC_DEEPLAB_CACHE`, else a folder in the place that this platform has for caches."""
    chosen = os.environ.get("PANOPTIC_DEEPLAB_CACHE")
    if chosen:
        return user_path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "panoptic-deeplab"


def download(url: str, path: Path, *, progress: Progress | None = None, pause: float = 1.0) -> None:
    """Fetch a file, going on where an earlier attempt was interrupted.

    Args:
        url: `https://...` or `http://...`.
        path: the file; its folder is made.
        progress: called now and then.
        pause: seconds before the connection is tried again, doubled each time.

    Raises:
        CheckpointError: the server cannot be reached, refuses, or breaks off again and again; what has arrived is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    logger.info("Downloading %s", url)
    for attempt in range(_ATTEMPTS):
        try:
            _fetch(url, part, progress)
            break
        except urllib.error.HTTPError as error:
            with error:
                raise CheckpointError(
                    f"{url} cannot be downloaded: the server answers {error.code} {error.reason}."
                ) from error
        except (OSError, http.client.HTTPException) as error:
            if attempt + 1 < _ATTEMPTS and not _is_unreachable(error) and not _is_of_the_disk(error):
                time.sleep(pause * 2**attempt)
                continue
            raise CheckpointError(_message(url, part, error)) from error
    part.replace(path)
    _etag_file(part).unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Checksum of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    """One connection: append to `part` until the file is complete."""
    start = part.stat().st_size if part.exists() else 0
    etag_file = _etag_file(part)
    etag = etag_file.read_bytes().decode("ascii", "replace") if etag_file.exists() else ""
    if not _ETAG.fullmatch(etag):
        start = 0  # the server has no mark of versions, or it was damaged here: the rest could be of another one
    headers = {"User-Agent": f"panoptic-deeplab/{__version__}", "Accept-Encoding": "identity"}
    if start > 0:
        headers |= {"Range": f"bytes={start}-", "If-Range": etag}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # "range not satisfiable": all of it, or more, is there
            raise
        with error:
            if _total(error.headers) == start:
                return
        part.unlink()
        _fetch(url, part, progress)
        return
    with response:
        if response.status != 206:
            start = 0
        total = _total(response.headers) or 0
        etag_file.write_text(_strong_etag(response.headers), "utf-8")
        with part.open("ab" if start > 0 else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                if progress is not None:
                    progress(file.tell(), total)
            arrived = file.tell()
        if total and arrived != total:
            raise http.client.IncompleteRead(b"", total - arrived)


def _total(headers: Any) -> int | None:
    """Bytes of the whole file, from `Content-Range: bytes 5-9/10` or `bytes */10`, else from the content's length."""
    found = re.search(r"/(\d+)$", headers.get("Content-Range") or "")
    length = found[1] if found else headers.get("Content-Length")
    return int(length) if length is not None and length.isdecimal() else None


def _strong_etag(headers: Any) -> str:
    """Weak marks (`W/...`) do not promise equal bytes."""
    etag: str = headers.get("ETag") or ""
    return "" if etag.startswith("W/") else etag


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _is_unreachable(error: BaseException) -> bool:
    """No network, no such host, nobody listening: waiting does not help."""
    return isinstance(error, urllib.error.URLError)


def _is_of_the_disk(error: BaseException) -> bool:
    """The file cannot be written: errors of the network name no file."""
    return isinstance(error, OSError) and (error.filename is not None or error.errno in _DISK_IS_FULL)


def _message(url: str, part: Path, error: BaseException) -> str:
    if _is_of_the_disk(error):
        reason = getattr(error, "strerror", None)
        return (
            f"The download {part} cannot be written ({reason}). $PANOPTIC_DEEPLAB_CACHE names another folder for"
            " downloads."
        )
    reason = getattr(error, "reason", None) or error
    if _is_unreachable(error):
        return f"{url} cannot be reached ({reason}). Check the network connection."
    arrived = part.stat().st_size if part.exists() else 0
    return (
        f"The download of {url} broke off after {arrived / 1e6:.1f} MB ({type(error).__name__}: {reason})."
        " Run the same command again to go on from there."
    )
