"""`ResultStore`: results of a collection on disk, of which a kill at any moment loses and repeats nothing.

    OUTPUT/
    ├── job.json              model and settings; another call with other ones is refused
    ├── results/part-00000.parquet ...   whole shards of `SHARD_IMAGES` images, one row each
    ├── pending.jsonl         finished images that are in no shard yet, one line each
    ├── errors.jsonl          {"image", "error"} of images that cannot be predicted, one line each
    ├── panoptic/, labels/    PNG files by choice
    └── manifest.json         counts, shards and classes, when all is done

The guarantee. An image is *finished* from the moment when its line is on disk (`fsync`) in `pending.jsonl`, or in
`errors.jsonl`. Its PNG files are written before. A finished image is never predicted again, and is in the results, or
in the errors, exactly once; an image that is not finished is predicted anew, and its files are written over. Because:

- A line that a kill has cut short has no newline at its end. It is removed, and its image is not finished.
- A shard is written beside its place, synced and renamed into it; then `pending.jsonl` is emptied. After a kill between
  the two, the rows of the shard are in both, and are removed from `pending.jsonl`.
- One process at a time: the file `.lock` is held as long as one works, and the system lets go of it with the process.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from panoptic_deeplab.errors import ConfigError, DatasetError, OutputError, require
from panoptic_deeplab.files import make_folder, parse_json, read_json, write_json, written_whole

SHARD_IMAGES = 1000
"""Images of a shard."""

_LONGEST_STEM = 60


class ResultStore:
    """A context manager, which holds the folder for itself.

    Args:
        folder: made where it does not exist.
        job: what the results depend on, as plain data: model, settings, products.
        shard_images: images of a shard.

    Raises:
        ConfigError: another process writes there, or the folder belongs to another job.
        DatasetError: a file in the folder is damaged.
        MissingDependencyError: pyarrow is not installed.
        OutputError: the system refuses to write.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], *, shard_images: int = SHARD_IMAGES) -> None:
        self._arrow = require("pyarrow", extra="batch", purpose="Writing Parquet")
        self._parquet = require("pyarrow.parquet", extra="batch", purpose="Writing Parquet")
        self.folder = make_folder(folder)
        self._job = json.loads(json.dumps(job))
        self._shard_images = shard_images
        self._lock = FileLock(self.folder / ".lock", timeout=0)
        self._pending: list[dict[str, Any]] = []
        self._shards: dict[str, int] = {}
        self.finished: set[str] = set()
        """Keys of the images that have a result or an error."""
        self.num_errors = 0

    def __enter__(self) -> "ResultStore":
        try:
            self._lock.acquire()
        except Timeout as error:
            raise ConfigError(
                f"Another process writes to {self.folder}. Wait for it, or choose another --output."
            ) from error
        try:
            self._check_job()
            self._recover()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Keep the results of images; when this returns, they are finished.

        Args:
            rows: as `schema` says. The system waits for the disk once for all of them.
        """
        self._append("pending.jsonl", *rows)
        self._pending += [dict(row) for row in rows]
        self.finished.update(row["image"] for row in rows)
        while len(self._pending) >= self._shard_images:
            self._write_shard()

    def add_error(self, key: str, message: str) -> None:
        """Keep why an image has no result; when this returns, the image is finished."""
        self._append("errors.jsonl", {"image": key, "error": message})
        self.finished.add(key)
        self.num_errors += 1

    def picture(self, kind: str, key: str, stem: str) -> Path:
        """Where a PNG of an image goes: unique by its key, and readable by its name.

        Args:
            kind: name of the folder.
            key: name of the image.
            stem: name of the image, without suffix.
        """
        digest = hashlib.sha256(key.encode()).hexdigest()
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in stem)[:_LONGEST_STEM]
        while len(plain.encode()) > 2 * _LONGEST_STEM:
            plain = plain[:-1]
        return make_folder(self.folder / kind / digest[:2]) / f"{plain}-{digest[:16]}.png"

    def finish(self, categories: Sequence[Mapping[str, Any]]) -> Path:
        """Write the last shard and the manifest, and give its path.

        Args:
            categories: the classes, as plain data.
        """
        if self._pending:
            self._write_shard()
        path = self.folder / "manifest.json"
        shards = [{"file": f"results/{name}", "images": count} for name, count in sorted(self._shards.items())]
        document = {
            "format_version": 1,
            "images": sum(self._shards.values()),
            "errors": self.num_errors,
            "shards": shards,
            "job": self._job,
            "categories": categories,
        }
        write_json(path, document, indent=1)
        return path

    def schema(self) -> Any:
        """Columns of a shard: one row an image."""
        arrow = self._arrow
        segment = arrow.struct(
            [
                ("id", arrow.int32()),
                ("category_id", arrow.int64()),
                ("name", arrow.string()),
                ("isthing", arrow.bool_()),
                ("area", arrow.int64()),
                ("bbox", arrow.list_(arrow.int32())),
                ("score", arrow.float32()),
                ("rle", arrow.string()),
            ]
        )
        return arrow.schema(
            [
                ("image", arrow.string()),
                ("height", arrow.int32()),
                ("width", arrow.int32()),
                ("segments", arrow.list_(segment)),
                ("files", arrow.map_(arrow.string(), arrow.string())),
                ("warning", arrow.string()),
            ]
        )

    def _write_shard(self) -> None:
        name = f"part-{len(self._shards):05d}.parquet"
        whole, rest = self._pending[: self._shard_images], self._pending[self._shard_images :]
        rows = [row | {"files": list(row["files"].items())} for row in whole]
        table = self._arrow.Table.from_pylist(rows, schema=self.schema())
        path = make_folder(self.folder / "results") / name
        with written_whole(path) as temporary:
            self._parquet.write_table(table, temporary, compression="zstd")
            _sync(temporary)
        _sync(path.parent)
        self._shards[name] = len(rows)
        self._replace("pending.jsonl", rest)
        self._pending = rest

    def _check_job(self) -> None:
        path = self.folder / "job.json"
        if not path.exists():
            write_json(path, self._job, indent=1)
            return
        known = read_json(path, what="job", error=DatasetError)
        if known != self._job:
            keys = sorted({*known, *self._job}) if isinstance(known, dict) else []
            other = next((key for key in keys if known.get(key) != self._job.get(key)), "all")
            raise ConfigError(
                f"{self.folder} holds results of another job: its `{other}` differs. Go on with the same model and"
                " options, or choose another --output."
            )

    def _recover(self) -> None:
        """Find out what is finished."""
        for path in sorted((self.folder / "results").glob("part-*.parquet")):
            try:
                keys = self._parquet.read_table(path, columns=["image"]).column("image").to_pylist()
            except (OSError, ValueError) as error:
                raise DatasetError(
                    f"{path} is damaged: {error}. Its images cannot be known; restore it, or choose another --output."
                ) from error
            self._shards[path.name] = len(keys)
            self.finished.update(keys)
        for pattern in (".pending.*", ".manifest.*", "results/.part-*", "*/??/.*.png"):  # cut short by a kill
            for stale in self.folder.glob(pattern):
                stale.unlink(missing_ok=True)
        rows = self._lines("pending.jsonl")
        self._pending = [row for row in rows if row["image"] not in self.finished]
        if len(self._pending) != len(rows):
            self._replace("pending.jsonl", self._pending)
        self.finished.update(row["image"] for row in self._pending)
        errors = self._lines("errors.jsonl")
        self.finished.update(row["image"] for row in errors)
        self.num_errors = len(errors)

    def _lines(self, name: str) -> list[dict[str, Any]]:
        """The whole lines of a file; one without an end is removed."""
        path = self.folder / name
        if not path.exists():
            return []
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
        rows = [
            parse_json(line, where=f"{path}, line {number},", error=DatasetError)
            for number, line in enumerate(whole.splitlines(), start=1)
        ]
        return rows

    def _append(self, name: str, *rows: Mapping[str, Any]) -> None:
        path = self.folder / name
        lines = b"".join(json.dumps(row, allow_nan=False).encode("ascii") + b"\n" for row in rows)
        try:
            with path.open("ab") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}. Make room, and go on.") from error

    def _replace(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        with written_whole(self.folder / name) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), "ascii")
            _sync(temporary)
        _sync(self.folder)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some systems sync no folders
        if not path.is_dir():
            raise
    finally:
        os.close(handle)
