"""A process that owns services until it ends: `python -m tests.streams.local.owner <state folder> <what>`.

It prints one line of JSON when they are up, and `ended` when it has stopped them.
"""

from __future__ import annotations

import functools
import json
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from streams.local import process
from streams.local import services as local
from streams.local.services import services
from streams.local.state import Folders
from streams.settings import load_settings
from tests.streams.local.web import Web


def own_web(state: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in a background job
    folders = Folders(state, state)
    web = Web(state / "web", state / "web.lock")
    started = process.start(web, folders, None, 60, None, threading.Event())
    print(json.dumps({"port": started.port}), flush=True)
    time.sleep(600)


def own_services(state: Path) -> None:
    with services(load_settings(state_dir=state)) as endpoints:
        print(json.dumps(asdict(endpoints)), flush=True)
        time.sleep(600)


def own_services_of_before(state: Path) -> None:
    """Kafka and Neo4j as releases started them that gave them no password."""
    local.LocalKafka = functools.partial(local.LocalKafka, has_password=False)  # type: ignore[misc,assignment]
    local.LocalNeo4j = functools.partial(local.LocalNeo4j, has_password=False)  # type: ignore[misc,assignment]
    own_services(state)


if __name__ == "__main__":
    try:
        owners = {"web": own_web, "services": own_services, "services-of-before": own_services_of_before}
        owners[sys.argv[2]](Path(sys.argv[1]))
    finally:
        print("ended", flush=True)
