"""A folder of files over HTTP, for the page that predicts in the browser: `make_static_app`."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from panoptic_deeplab.serving.envelope import Envelope
from panoptic_deeplab.serving.prometheus import Metrics

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".gz": "application/gzip",
    ".onnx": "application/octet-stream",
}
"""Said here, since the tables of some systems lack or misname them, and browsers run no script of another type."""

_HEADERS = {
    # Both together let a page have threads that share memory, which onnxruntime-web uses.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cache-control": "no-cache",  # kept by browsers, who ask each time whether it is still the one (ETag)
}

_MAX_BODY = 1_000_000
"""Nobody has anything to send."""


def make_static_app(folder: Path, *, at_end: Callable[[], None]) -> Starlette:
    """The app.

    Args:
        folder: what `write_site` wrote.
        at_end: called after the last request.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        at_end()

    return Starlette(
        routes=[Mount("/", _Files(directory=folder, html=True))],
        middleware=[Middleware(Envelope, metrics=Metrics(), max_drained=_MAX_BODY)],
        lifespan=lifespan,
    )


class _Files(StaticFiles):
    """Files with the headers that the page needs."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, or that it is still the one which the browser has."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        media_type = _MEDIA_TYPES.get(Path(full_path).suffix)
        if media_type is not None:
            response.headers["content-type"] = media_type
        response.headers.update(_HEADERS)
        return response
