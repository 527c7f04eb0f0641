"""Log lines for machines are JSON objects, one per line."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

from kafka.errors import Cancelled, KafkaTimeoutError

from sx9_ml_models.logs import JsonLines, is_not_a_cancelled_request


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


def test_no_logger_or_handler_writes_a_secret() -> None:
    """In a process of its own, since the configuration of logging belongs to the whole process."""
    program = """
import logging
from sx9_ml_models import logs
logs.set_up()
own = logging.getLogger("library")
own.addHandler(logging.StreamHandler())
try:
    raise OSError("no answer from http://me:pa55word@host")
except OSError:
    own.exception("at %s with %s", "http://me:pa55word@host/x", "t0k3n-value")
"""
    environment = os.environ | {"MLFLOW_TRACKING_URI": "http://me:pa55word@host", "HF_TOKEN": "t0k3n-value"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("http://***@host/x with ***") == 2, "by the handler of the library, and by ours"
    assert done.stderr.count("OSError: no answer from http://***@host") == 2
    assert "pa55word" not in done.stderr
    assert "t0k3n-value" not in done.stderr


def test_a_client_that_is_closed_while_it_waits_for_metadata_logs_no_error() -> None:
    def kept(logger: str, error: Exception) -> bool:
        return is_not_a_cancelled_request(
            logging.LogRecord(logger, logging.ERROR, "", 0, "Metadata refresh: failed %s", (error,), None)
        )

    assert not kept("kafka.cluster", Cancelled())
    assert kept("kafka.cluster", KafkaTimeoutError()), "a request that failed is an error"
    assert kept("kafka.coordinator", Cancelled())
