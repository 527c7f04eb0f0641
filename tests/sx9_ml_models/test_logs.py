"""Log lines for machines are JSON objects, one per line."""

from __future__ import annotations

import json
import logging
import sys

from sx9_ml_models.logs import JsonLines


def test_a_line_has_time_level_logger_message_and_traceback() -> None:
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        record = logging.LogRecord("sx9.test", logging.ERROR, "", 0, "no %s", ("broker",), sys.exc_info())
    record.created, record.msecs = 1_600_000_000.25, 250.0
    text = JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    traceback = line.pop("traceback")
    assert line == {
        "time": "2020-09-13T12:26:40.250Z", "level": "error", "logger": "sx9.test", "message": "no broker",
    }  # fmt: skip
    assert traceback.endswith("ValueError: bad\nvalue")
