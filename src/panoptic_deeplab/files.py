"""Files without surprises: the one reader of text, the one check of names that come from data, the one way to write.

- Text is UTF-8 with or without a byte-order mark, or UTF-16 with one; anything else is one sentence, not a guess.
- A name that a data set, a JSON file or an archive gives is used as a path only after `file_name` or `path_inside` has
  seen it: data never lead out of their own folder unless the user says so.
- A file that people read is written beside its place and renamed into it: it is there whole or not at all, and what a
  full disk left half-written is removed.

Errors of readers and of names are of the class `error`. Their messages say `what` a file should be, or begin with the
entry that names a file (`where`). `outside` says that the user allows what leads out of a folder, `option` how.
"""

import codecs
import glob
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path, PureWindowsPath
from typing import Any

from safetensors import SafetensorError

from panoptic_deeplab.errors import OutputError, PanopticDeepLabError

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte-order mark -> the encoding that it announces."""

MAX_NAME_BYTES = 255
"""What file systems allow in one name."""

_TORCH_WRITER = re.compile(r"inline_container|iostream error|PytorchStreamWriter")
"""A part of what `torch.save` says where the disk is full: the number of the system's error does not reach it."""

_WINDOWS_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}
)

_UMASK = os.umask(0o022)  # it can only be read by setting it, so once, before there are threads
os.umask(_UMASK)


def user_path(path: str | Path) -> Path:
    """A path as a person writes it: `~` in front is the home folder, as in a shell."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~name of nobody, or a user without a home
        return Path(path)


def read_text(path: Traversable, *, what: str, error: type[PanopticDeepLabError]) -> str:
    """Read a text file, on disk or inside of a package; `error`: it cannot be read, or is in another encoding."""
    if isinstance(path, Path) and (path.is_fifo() or path.is_char_device() or path.is_block_device()):
        raise error(f"The {what} {path} is a pipe or a device, which may never end. Write it to a file first.")
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the name
        said = getattr(reason, "strerror", None) or str(reason)
        raise error(f"The {what} {path} cannot be read: {said}.") from reason
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as reason:
        line = content[: reason.start].count(b"\n") + 1
        raise error(
            f"The {what} {path} is no text in UTF-8, or in UTF-16 with a byte-order mark (byte"
            f" 0x{content[reason.start]:02x} in line {line}). Save it as UTF-8."
        ) from reason
    if "\0" in text:
        raise error(
            f"The {what} {path} holds zero bytes, as UTF-16 without a byte-order mark does, and a file that was not"
            " written to its end. Save it as UTF-8."
        )
    return text


def files_like(folder: Path, pattern: str) -> list[Path]:
    """Files in a folder whose names match a pattern as `*.json`, with the suffix in letters of any case, sorted.

    Hidden ones are left out, such as `._a.json`, which macOS lays beside a file on other disks.
    """
    stem, dot, suffix = pattern.rpartition(".")
    letters = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in suffix)
    found = folder.glob(f"{stem}{dot}{letters}")
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def existing_file(path: Path, *, error: type[PanopticDeepLabError]) -> Path | None:
    """Find the file of a name; where there is none, one with the suffix in letters of another case (`train.TXT`).

    `error`: a folder stands in its place.
    """
    if path.is_file():
        return path
    if path.is_dir():
        raise error(f"{path} is a folder. Expected a file of this name; rename the folder.")
    return next(iter(files_like(path.parent, f"{glob.escape(path.stem)}{path.suffix}")), None)


def read_json(path: Traversable, *, what: str, error: type[PanopticDeepLabError]) -> Any:
    """Read a JSON file in any encoding that `read_text` takes; `error`: it cannot be read, or is no JSON."""
    return parse_json(read_text(path, what=what, error=error), where=f"The {what} {path}", error=error)


def parse_json(text: str | bytes, *, where: str, error: type[PanopticDeepLabError]) -> Any:
    """Read JSON from memory; `error`: it is no JSON, has a key twice in one object, or is nested too deeply."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as reason:
        raise error(f"{where} is nested too deeply to be read. Expected JSON of a few levels.") from reason
    except ValueError as reason:  # JSONDecodeError, UnicodeDecodeError, a number of 5,000 digits
        raise error(f"{where} is not valid JSON, or is truncated: {reason}.") from reason


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a key that it has twice, Python would take the last value in silence."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"an object has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def file_name(value: Any, *, where: str, error: type[PanopticDeepLabError], suffix: str = "") -> str:
    """Check that a value from data (text or a whole number) can name one file, and give the name with a suffix.

    `error`: the name would lead into another folder, or no file can have it.
    """
    fault = _fault(value, suffix) if isinstance(value, str) or type(value) is int else "is neither text nor a number"
    if fault:
        raise error(f"{where} names a file {value!r}, which {fault}. Expected a plain name without a folder.")
    return f"{value}{suffix}"


def path_below(
    root: Path, name: Any, *, where: str, error: type[PanopticDeepLabError], outside: bool = False, option: str = ""
) -> Path:
    r"""Give the path below `root` that a relative name from data means, by the name alone: no link is followed.

    Between folders stands `/` (or `\` as Windows writes them). `error`: the name leads out, or no file can have it.
    """
    parts = name.replace("\\", "/").split("/") if isinstance(name, str) else [name]
    plain = [part for part in parts if part not in ("", ".")]
    absolute = isinstance(name, str) and (name.startswith(("/", "\\", "~")) or bool(PureWindowsPath(name).drive))
    faults = (_fault(part) if isinstance(part, str) else "is no text" for part in plain if part != "..")
    fault = next(filter(None, faults), None) if plain else "is empty"
    if fault and not (outside and absolute):
        raise error(f"{where} names the file {name!r}, which {fault}. Expected a path relative to {root}.")
    if not outside and (absolute or ".." in parts):
        raise error(_lies_outside(name, root, where, option))
    return Path(name).expanduser() if absolute else root.joinpath(*plain)


def path_inside(
    root: Path,
    name: Any,
    *,
    where: str,
    error: type[PanopticDeepLabError],
    outside: bool = False,
    option: str = "",
    within: Path | None = None,
) -> Path:
    """Give the path below `root` that a relative name from data means, links followed.

    `root` may itself be a link, since the user named it; links may lead to `within`, a folder around it, too. `error`:
    as for `path_below`, or a link leads out.
    """
    path = path_below(root, name, where=where, error=error, outside=outside, option=option)
    folders = (root, root if within is None else within)
    return followed(path, folders, name=name, where=where, error=error, outside=outside, option=option)


def followed(
    path: Path,
    folders: Sequence[Path],
    *,
    name: str,
    where: str,
    error: type[PanopticDeepLabError],
    outside: bool = False,
    option: str = "",
) -> Path:
    """Give a path back whose links lead to nowhere but into some folders, of which the message names the last.

    The folders may themselves be links, and the file's `name` for the message any. `error`: a link leads out of them,
    or links go in a circle.
    """
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as reason:  # Python's word for a circle of links
        raise error(f"{where} names the file {name!r}, whose links cannot be followed: {reason}.") from reason
    if not outside and not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise error(_lies_outside(name, folders[-1], where, option))
    return path


def make_folder(path: str | Path) -> Path:
    """Make a folder, with those above it, and give its path, without `~`; an `OutputError`: the system refuses."""
    folder = user_path(path)
    with _refused(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a path to write to; what is written there takes its place at the end, in one step.

    The path given lies in the same folder and has the same suffix. After an error nothing is left of it, and a file
    that stood in the place before is untouched. For `torch.save` and safetensors too, whose own errors are no
    `OSError`.

    Raises:
        OutputError: the system refuses to write: a full disk, a folder without permission.
    """
    path = user_path(path)
    with _refused(path):
        is_stream = path.exists() and not path.is_file()
    if is_stream:  # /dev/stdout, a pipe: nothing can be renamed there
        with _refused(path):
            yield path
        return
    suffix = path.suffix[:40]
    path = Path(os.path.realpath(path))  # a link stays, unless it leads to itself: what it points to is replaced
    with _refused(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}.", suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_UMASK)  # files of mkstemp, and of safetensors, are closed to everybody else
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, as `written_whole` does; a lone surrogate, which UTF-8 lacks, becomes an escape."""
    with written_whole(path) as temporary:
        temporary.write_text(text, "utf-8", errors="backslashreplace")


@contextmanager
def growing_text(path: str | Path) -> Iterator[Callable[[str], None]]:
    """Give the function that appends text to a new file in UTF-8, which is on disk at once: what is there when a long
    work is stopped can be used.

    Raises:
        OutputError: the system refuses to write, or the file is there already.
    """
    path = user_path(path)
    with _refused(path), path.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:

        def append(text: str) -> None:
            file.write(text)
            file.flush()

        yield append


def write_json(path: str | Path, document: Any, *, indent: int | None = None) -> None:
    """Write a JSON file in ASCII (other letters as escapes), as `written_whole` does."""
    write_text(path, json.dumps(document, indent=indent, allow_nan=False) + "\n")


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """What the system says when it refuses to write becomes one `OutputError`."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, SafetensorError, RuntimeError) as reason:
        said = _refusal(reason)
        if said is None:
            raise
        raise OutputError(f"{path} cannot be written: {said}. Make room, or choose another folder.") from reason


def _refusal(reason: Exception) -> str | None:
    """What the system said, in an error of Python, safetensors or `torch.save`; None if it is an error of ours."""
    if isinstance(reason, OSError):
        return reason.strerror or str(reason)
    code = re.search(r"\(os error (\d+)\)", str(reason))  # Rust's
    if code is not None:
        return os.strerror(int(code[1]))
    return "the system took only a part of it" if _TORCH_WRITER.search(str(reason)) else None


def _fault(value: str | int, suffix: str = "") -> str | None:
    """Why no file of one folder can have this name; None if one can."""
    name = f"{value}{suffix}"
    if str(value).strip(". ") == "":
        return "is empty or means a folder"
    if any(separator in name for separator in "/\\"):
        return "leads into another folder"
    if any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        return "has a character that no name may have"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    if name.partition(".")[0].upper() in _WINDOWS_DEVICES:
        return "is the name of a device on Windows"
    return None


def _lies_outside(name: str, root: Path, where: str, option: str) -> str:
    allow = f", or allow it with {option}" if option else ""
    return (
        f"{where} names the file {name!r}, which lies outside of {root}. Expected a path inside of it; move the file"
        f" there{allow}."
    )
