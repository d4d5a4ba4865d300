"""The log of the service: one JSON object a line on stderr."""

import json
import logging
import sys
import time
from typing import Any

from panoptic_deeplab.errors import visible

requests = logging.getLogger("panoptic_deeplab.serving.requests")
"""One entry for each request, its fields in `extra={"fields": {...}}`."""


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, message, and the fields that it brings."""

    def format(self, record: logging.LogRecord) -> str:
        """Make the line; `json` escapes whatever would break it."""
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "message": visible(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def log_as_json() -> None:
    """Send what this package and uvicorn log to stderr, as JSON; called in every process of the service."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.captureWarnings(True)
    levels = {"panoptic_deeplab": logging.INFO, "uvicorn": logging.WARNING, "py.warnings": logging.WARNING}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
