"""A process that owns services until it ends: `python -m tests.streams.local.owner <state folder> <what>`.

It prints one line of JSON when they are up, and `ended` when it has stopped them.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from streams.local import process
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


if __name__ == "__main__":
    try:
        {"web": own_web, "services": own_services}[sys.argv[2]](Path(sys.argv[1]))
    finally:
        print("ended", flush=True)
