"""metrics.csv: one row a logged step. Whatever a kill or an editor has done to it, no readable row is lost."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from panoptic_deeplab.errors import CheckpointError, OutputError
from panoptic_deeplab.files import read_text, written_whole

logger = logging.getLogger(__name__)


class MetricsFile:
    """Appends rows; the file can be read at any time.

    Args:
        path: the file.
        columns: names, the first of them `step`.
        start_step: steps made before, by the run that is resumed; later rows are dropped, since they are made again.
            Lines that are no rows are dropped too, with a warning that names a copy of the file.

    Raises:
        CheckpointError: the file is there and cannot be read.
        OutputError: the system refuses to write.
    """

    def __init__(self, path: Path, *, columns: Sequence[str], start_step: int) -> None:
        self._path = path
        self._columns = columns
        rows, damaged = _read(path, columns) if path.exists() else ([], [])
        if damaged:
            names = (f"{path.stem}_damaged_{number}{path.suffix}" for number in count(1))
            copy = next(p for p in map(path.with_name, names) if not p.exists())
            with written_whole(copy) as temporary:
                shutil.copyfile(path, temporary)
            numbers = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
            logger.warning(
                "%s is damaged in %d lines (%s), which are left out; nothing but the curves depends on them. The whole"
                " file is kept as %s.",
                *(path, len(damaged), numbers, copy),
            )
        kept = [row for row in rows if int(row["step"]) <= start_step]
        with written_whole(path) as temporary:
            temporary.write_bytes(b"".join(map(self._text, [dict(zip(columns, columns, strict=True)), *kept])))
        self._last_row = kept[-1] if kept else {}

    def write(self, row: Mapping[str, str]) -> None:
        """Append a row of texts without commas; one of the `step` of the last row is added to that.

        Raises:
            OutputError: the system refuses to write; the rows before are untouched.
        """
        if self._last_row.get("step") == row["step"]:
            row = self._last_row | dict(row)
            content = self._path.read_bytes().removesuffix(self._text(self._last_row))
            with written_whole(self._path) as temporary:
                temporary.write_bytes(content + self._text(row))
        else:
            self._append(self._text(row))
        self._last_row = dict(row)

    def _append(self, line: bytes) -> None:
        try:
            size = self._path.stat().st_size
            try:
                with self._path.open("ab") as file:
                    file.write(line)
            except OSError:
                with self._path.open("r+b") as file:  # a part of the row
                    file.truncate(size)
                raise
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror}. Make room.") from error

    def _text(self, row: Mapping[str, str]) -> bytes:
        """A line; no value needs quotes."""
        return (",".join(row.get(name, "") for name in self._columns) + "\n").encode()


def _read(path: Path, columns: Sequence[str]) -> tuple[list[dict[str, str]], list[int]]:
    """The rows, and the numbers of the lines that are none."""
    try:
        text = read_text(path, what="table of metrics", error=CheckpointError)
    except CheckpointError:
        if not path.is_file():
            raise
        text = path.read_bytes().decode("utf-8", "replace")  # lines in between may be whole
    lines = text.splitlines()
    header = lines[0].split(",") if lines else []
    names, has_header = (header, True) if "step" in header else (list(columns), False)
    rows: list[dict[str, str]] = []
    damaged: list[int] = [] if has_header or not lines else [1]
    for number, line in enumerate(lines[has_header:], start=1 + has_header):
        row = _row(line, names, columns)
        cut = number == len(lines) and not text.endswith(("\n", "\r"))  # in the middle of its last number, perhaps
        if row is None or cut or (rows and int(row["step"]) <= int(rows[-1]["step"])):
            damaged.append(number)
        else:
            rows.append(row)
    return rows, sorted(set(damaged))


def _row(line: str, names: Sequence[str], columns: Sequence[str]) -> dict[str, str] | None:
    cells = line.split(",")
    row = dict(zip(names, cells, strict=False))
    if len(cells) != len(names) or not (row["step"].isascii() and row["step"].isdecimal()):
        return None
    try:
        for cell in filter(None, cells):
            float(cell)
    except ValueError:
        return None
    return {name: row[name] for name in columns if name in row}
