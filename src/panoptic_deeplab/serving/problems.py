"""Errors as `application/problem+json` (RFC 9457), with the sentence that the library raises."""

import json
from typing import Any

from panoptic_deeplab.errors import visible

MEDIA_TYPE = "application/problem+json"

TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    404: "Not found",
    405: "Method not allowed",
    408: "The request took too long",
    413: "Too large",
    415: "Unknown image format",
    422: "Cannot be processed",
    499: "The client has left",
    500: "The service failed",
    503: "Not now",
}


class Problem(Exception):  # noqa: N818 - what RFC 9457 calls it
    """An answer that is an error; it travels from a worker as it is.

    Args:
        status: of HTTP.
        detail: one sentence for a person.
        headers: further ones.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def document(self, request_id: str) -> dict[str, Any]:
        """The body."""
        return {
            "type": "about:blank",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": visible(self.detail),
            "request_id": request_id,
        }

    def body(self, request_id: str) -> bytes:
        """The body as UTF-8."""
        return json.dumps(self.document(request_id)).encode()


def out_of_time() -> Problem:
    """For work that nobody will do in time."""
    return Problem(503, "The time for this request ran out before its answer. Try later.", {"Retry-After": "5"})


def fault() -> Problem:
    """For what should not happen; the log has the traceback."""
    return Problem(500, "The service failed, which is no fault of yours. Tell its keeper the request's id.")
