"""How our processes log: JSON lines for machines, one short line for people at a terminal."""

from __future__ import annotations

import json
import logging
import sys
import time

QUIET = {"kafka": "WARNING", "kafka.net": "ERROR", "aiokafka": "WARNING", "faust": "WARNING", "mode": "WARNING",
         "neo4j": "WARNING", "httpx": "WARNING"}  # fmt: skip
"""Libraries that say too much, and from which level on they are heard."""


class JsonLines(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(level: str = "INFO") -> None:
    """Log to stderr: JSON lines unless it is a terminal. Libraries are quiet."""
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)
