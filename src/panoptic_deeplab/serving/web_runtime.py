"""onnxruntime-web, which runs models inside of a browser: one version of it, as files that are checked and kept packed.

It comes from npm's archive of the package, of which 10 MB of 33 are needed: for WebAssembly and for WebGPU the
interface (JavaScript), its loader and the program. The programs are kept compressed, and the page unpacks them.
"""

import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

from panoptic_deeplab.errors import ConfigError, MissingDependencyError, first_line
from panoptic_deeplab.files import make_folder, user_path, written_whole
from panoptic_deeplab.weights.download import cache_folder

PACKAGE = "onnxruntime-web@1.30.0"

_CHECKSUMS = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
    "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
"""SHA-256 of the files in the folder `package/dist` of the archive."""


def runtime_files() -> list[Path]:
    """The files that are kept, for a folder `runtime/` beside the page.

    Raises:
        MissingDependencyError: they are not there, or damaged; the message says how they come.
    """
    files = [_place(name) for name in _CHECKSUMS]
    for name, path in zip(_CHECKSUMS, files, strict=True):
        if not path.is_file() or _checksum(_unpacked(path)) != _CHECKSUMS[name]:
            raise MissingDependencyError(
                f"Predicting in the browser needs the files of {PACKAGE} in {path.parent}, and {path.name} is missing"
                f" or damaged there. Get them with `make browser-runtime` in a checkout of this project, or anywhere:"
                f" npm pack {PACKAGE}, and add --runtime {_archive_name()}"
            )
    return files


def keep_runtime(archive: str | Path) -> None:
    """Take what is needed out of npm's archive of the package, for `runtime_files`.

    Args:
        archive: the `.tgz` that `npm pack` made.

    Raises:
        ConfigError: it is no archive, or one of another version.
    """
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(user_path(archive)) as opened:
            for name in _CHECKSUMS:
                member = opened.extractfile(f"package/dist/{name}")
                contents[name] = b"" if member is None else member.read()
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise ConfigError(
            f"The archive {archive} cannot be read ({first_line(error)}). Expected the file of `npm pack {PACKAGE}`."
        ) from error
    for name, content in contents.items():
        if _checksum(content) != _CHECKSUMS[name]:
            raise ConfigError(
                f"The archive {archive} has another {name} than {PACKAGE}. Get it with `npm pack {PACKAGE}`."
            )
    make_folder(_folder())
    for name, content in contents.items():
        with written_whole(_place(name)) as path:
            path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".wasm") else content)


def fetch_runtime() -> None:
    """Get the archive from npm, and keep what is needed of it; nothing is done where that is there.

    Raises:
        MissingDependencyError: there is no npm, or it does not get the package.
    """
    try:
        runtime_files()
        return
    except MissingDependencyError as missing:
        npm = shutil.which("npm")
        if npm is None:
            raise MissingDependencyError("There is no npm here. Install Node.js, which brings it.") from missing
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--pack-destination", folder, PACKAGE]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it does not say why"]
            raise MissingDependencyError(f"npm cannot get {PACKAGE}: {lines[0]}. Is it online?")
        keep_runtime(Path(folder) / _archive_name())


def _archive_name() -> str:
    return f"{PACKAGE.replace('@', '-')}.tgz"


def _folder() -> Path:
    return cache_folder() / PACKAGE.replace("@", "-")


def _place(name: str) -> Path:
    return _folder() / (f"{name}.gz" if name.endswith(".wasm") else name)


def _unpacked(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error):
        return b""


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
