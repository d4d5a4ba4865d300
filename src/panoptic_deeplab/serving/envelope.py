"""Around every request: its id, its line in the log, its numbers in the metrics, and errors as problems."""

import asyncio
import logging
import re
import secrets
import time
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from panoptic_deeplab.serving import logs
from panoptic_deeplab.serving.problems import MEDIA_TYPE, Problem, fault
from panoptic_deeplab.serving.prometheus import Metrics

logger = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DRAIN_SECONDS = 2.0

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; script-src 'self' 'wasm-unsafe-eval';"
        b" worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
    ),
)


class Envelope:
    """The outermost layer of the service.

    Args:
        app: what is inside. It finds the request's id in `scope["state"]["request_id"]`, and may put fields for the log
            into `scope["state"]["fields"]`.
        metrics: counts here.
        max_drained: bytes of a refused body that are read, so that whoever sends it gets to see the answer.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, max_drained: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_drained = max_drained

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        fields: dict[str, Any] = {}
        state = scope.setdefault("state", {})
        state.update(request_id=request_id, fields=fields, start=start)
        status = 0
        has_more = True

        async def counted_receive() -> Message:
            nonlocal has_more
            message = await receive()
            has_more = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def labeled_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 400 and status not in (408, 499) and has_more:
                    await self._drain(counted_receive)
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *_HEADERS]
            await send(message)

        try:
            await self._app(scope, counted_receive, labeled_send)
        except Exception:
            logger.exception("The service failed.", extra={"fields": {"request_id": request_id}})
            if not status:
                await _send_problem(fault(), request_id, labeled_send)
        finally:
            seconds = time.monotonic() - start
            path = getattr(scope.get("route"), "path", "") or "page"
            self._metrics.requests.labels(path, status or 499).inc()
            self._metrics.seconds.labels(path).observe(seconds)
            entry = {"request_id": request_id, "method": scope["method"], "path": scope["path"]}
            entry |= {"status": status or 499, "seconds": round(seconds, 4)}
            logs.requests.info("request", extra={"fields": entry | fields})

    async def _drain(self, receive: Receive) -> None:
        total = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while total < self._max_drained:
                    message = await receive()
                    total += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return


async def _send_problem(problem: Problem, request_id: str, send: Send) -> None:
    """Answer with an error."""
    body = problem.body(request_id)
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **problem.headers}
    await send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
