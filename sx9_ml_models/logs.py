"""Logging of our processes, on stderr: JSON lines, or short plain lines on a terminal; without secrets."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from transport.secrets import without_secrets

LIBRARY_LEVELS = {
    "kafka": "WARNING", "kafka.net": "ERROR", "aiokafka": "WARNING", "aiokafka.conn": "ERROR", "faust": "WARNING",
    "mode": "WARNING", "neo4j": "WARNING", "httpx": "WARNING",
}  # fmt: skip
"""Libraries that log too much -> the lowest level that is kept."""


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object: time (RFC 3339, UTC), level, logger, message, and traceback if any.

    >>> record = logging.LogRecord("sx9", logging.INFO, "", 0, "%d windows", (3,), None)
    >>> json.loads(JsonLines().format(record))["message"]
    '3 windows'
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, without a newline."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = record.exc_text or without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def is_not_a_cancelled_request(record: logging.LogRecord) -> bool:
    """False for the error that kafka-python logs if a client is closed while it waits for metadata."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not (record.name == "kafka.cluster" and any(type(each).__name__ == "Cancelled" for each in arguments))


class RecordWithoutSecrets(logging.LogRecord):
    """A record whose message and traceback have no secrets, whichever logger, handler or formatter writes it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info:
            self.exc_text = without_secrets(logging.Formatter().formatException(self.exc_info))

    def getMessage(self) -> str:  # noqa: N802  the name in the standard library
        """The message with its arguments."""
        return without_secrets(super().getMessage())


def set_up(level: str = "INFO") -> None:
    """Configure logging. Calling it again replaces the configuration.

    Args:
        level: Lowest level of our own loggers that is kept: `DEBUG`, `INFO`, `WARNING`, `ERROR`.
    """
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonLines())
    handler.addFilter(is_not_a_cancelled_request)
    logging.setLogRecordFactory(RecordWithoutSecrets)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name, lowest in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(lowest)
