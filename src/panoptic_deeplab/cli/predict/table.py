"""table.csv of `panoptic-deeplab predict --output`: one row for each segment of all images of the folder."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panoptic_deeplab.cli.predict.json_files import place, refuse_listed
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import read_text, write_text

if TYPE_CHECKING:
    from panoptic_deeplab.results.panoptic_result import PanopticResult

TABLE = "table.csv"


class SegmentRows:
    """Collects the rows; a further call adds to those of the calls before.

    Args:
        folder: exists.
        paths: the paths of all images to predict.
        options: those of `to_table`.

    Raises:
        ConfigError: the file that is there lists one of the images, or is none of `predict`.
    """

    def __init__(self, folder: Path, paths: Iterable[Path], options: dict[str, Any]) -> None:
        self._path, self.options = folder / TABLE, options
        self._head: list[str] | None = None
        self._texts: list[str] = []
        self._has_new = False
        if not self._path.exists():
            return
        text = read_text(self._path, what="table of an earlier call", error=ConfigError)
        try:
            self._head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        except (csv.Error, ValueError) as error:
            raise ConfigError(f"{self._path} is no table of `predict`: {error}. Choose another --output.") from error
        refuse_listed(self._path, paths, {row[0] for row in rows if row})
        self._texts.append(text if text.endswith("\n") else f"{text}\n")

    def check_columns(self, empty: "PanopticResult") -> None:
        """Hold the columns of earlier calls against those of this one.

        Args:
            empty: a result without segments.

        Raises:
            ConfigError: they differ.
        """
        from panoptic_deeplab.results.measurements import table_csv, to_table

        columns = to_table(empty, image="", **self.options)
        if self._head is None:
            self._texts.append(table_csv(columns))
        elif self._head != list(columns):
            raise ConfigError(
                f"{self._path} has the columns {', '.join(self._head)}, and this call would write"
                f" {', '.join(columns)}. Choose another --output, or the options of the earlier call."
            )

    def add(self, path: Path, result: "PanopticResult") -> None:
        """List the segments of an image."""
        from panoptic_deeplab.results.measurements import to_table

        self.add_columns(to_table(result, image=place(path), **self.options))

    def add_columns(self, columns: dict[str, Any]) -> None:
        """List the segments of an image whose table has been made."""
        from panoptic_deeplab.results.measurements import table_csv

        self._has_new = True
        self._texts.append(table_csv(columns, head=False))

    def write(self) -> list[Path]:
        """Write the file, if this call has added an image; gives its path.

        Raises:
            OutputError: the system refuses to write.
        """
        if not self._has_new:
            return []
        write_text(self._path, "".join(self._texts))
        return [self._path]
