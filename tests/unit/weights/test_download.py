"""Against a server on this machine that knows ranges, and breaks off, changes and refuses as it is told."""

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.weights import download as module
from panoptic_deeplab.weights.download import cache_folder, download, sha256_of

CONTENT = bytes(range(256)) * 400


class Server(ThreadingHTTPServer):
    """Settings are attributes that a test changes."""

    daemon_threads = True
    content = CONTENT
    etag: str | None = '"v1"'
    status = 200
    breaks_after: int | None = None
    """Bytes of an answer, for the next `breaks` answers."""
    breaks = 0
    knows_ranges = True
    requests: list[dict[str, str]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights/model.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers))
        if server.status != 200:
            self.send_error(server.status)
            return
        start, wanted = 0, self.headers.get("Range")
        fresh = self.headers.get("If-Range") in (None, server.etag)
        if wanted and fresh and server.knows_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        if server.etag is not None:
            self.send_header("ETag", server.etag)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks > 0:
            server.breaks -= 1
            self.wfile.write(body[: server.breaks_after])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.requests = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "zoo" / "model.pth"


def fetch(server: Server, path: Path) -> None:
    download(server.url, path, pause=0.0)


def test_whole_file(server: Server, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, int]] = []
    with caplog.at_level(logging.INFO):
        download(server.url, path, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.pth"]
    assert f"Downloading {server.url}" in caplog.text
    assert sha256_of(path) == "27783e87963a4efb6829b531c9ba57b44f45797f6770bd637fbf0d807cbdbae0"


def test_broken_connection_is_resumed(server: Server, path: Path) -> None:
    server.breaks, server.breaks_after = 2, 30_000
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [None, "bytes=30000-", "bytes=60000-"]


def test_next_run_goes_on(server: Server, path: Path) -> None:
    server.breaks, server.breaks_after = 4, 10_000
    with pytest.raises(CheckpointError, match=r"broke off after 0\.0 MB.*Run the same command again to go on"):
        fetch(server, path)
    assert not path.exists()
    assert path.with_name("model.pth.part").stat().st_size == 40_000
    fetch(server, path)
    assert server.requests[-1]["Range"] == "bytes=40000-"
    assert path.read_bytes() == CONTENT


def test_other_version_is_not_appended(server: Server, path: Path) -> None:
    server.breaks, server.breaks_after = 4, 10_000
    with pytest.raises(CheckpointError):
        fetch(server, path)
    server.content, server.etag = CONTENT[::-1], '"v2"'
    fetch(server, path)
    assert path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_without_mark_of_the_version_it_starts_anew(server: Server, path: Path, etag: str | None) -> None:
    server.etag = etag
    server.breaks, server.breaks_after = 1, 10_000
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [None, None]


def test_server_without_ranges(server: Server, path: Path) -> None:
    server.knows_ranges = False
    server.breaks, server.breaks_after = 1, 10_000
    fetch(server, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_part_that_is_complete_or_longer(server: Server, path: Path, extra: bytes) -> None:
    """As after a kill between the last byte and the renaming."""
    path.parent.mkdir()
    path.with_name("model.pth.part").write_bytes(CONTENT + extra)
    path.with_name("model.pth.part.etag").write_text('"v1"')
    fetch(server, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "reason"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_refusal_is_not_repeated(server: Server, path: Path, status: int, reason: str) -> None:
    server.status = status
    with pytest.raises(CheckpointError, match=f"the server answers {reason}"):
        fetch(server, path)
    assert len(server.requests) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
@pytest.mark.parametrize(("obstacle", "reason"), [("full", "No space left on device"), ("folder", "Is a directory")])
def test_a_disk_that_takes_nothing_is_no_matter_of_the_network(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str, reason: str
) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("waiting does not help"))
    path.parent.mkdir()
    part = path.with_name("model.pth.part")
    part.symlink_to("/dev/full") if obstacle == "full" else part.mkdir()
    with pytest.raises(CheckpointError) as caught:
        fetch(server, path)
    assert str(caught.value) == (
        f"The download {part} cannot be written ({reason}). $PANOPTIC_DEEPLAB_CACHE names another folder for downloads."
    )


def test_no_network_is_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:9/model.pth"
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("waiting does not help"))
    with pytest.raises(CheckpointError) as caught:
        download(url, path)
    message = str(caught.value)
    assert message.startswith(f"{url} cannot be reached (")
    assert message.endswith("Check the network connection.")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"PANOPTIC_DEEPLAB_CACHE": "~/big/disk"}, "HOME/big/disk"),
        ("linux", {}, "HOME/.cache/panoptic-deeplab"),
        ("linux", {"XDG_CACHE_HOME": "/var/caches"}, "/var/caches/panoptic-deeplab"),
        ("darwin", {}, "HOME/Library/Caches/panoptic-deeplab"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/panoptic-deeplab"),
        ("win32", {}, "HOME/AppData/Local/panoptic-deeplab"),
    ],
)
def test_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("PANOPTIC_DEEPLAB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**variables, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module.sys, "platform", platform)
    assert cache_folder() == Path(expected.replace("HOME", str(tmp_path)))
