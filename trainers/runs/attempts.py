"""The failed attempts at the trigger in work, in a file: a trainer that was killed goes on counting."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from transport.files import write_atomically

log = logging.getLogger(__name__)


class Attempts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of the attempts at one trigger.

    Attributes:
        trigger: Its id.
        errors: Message of each failure of the candidate.
        faults: How often the machine failed, without an end of a run in between.
        running: Whether an attempt is under way; after a start, that it was killed together with the trainer.
    """

    trigger: str
    errors: list[str] = []
    faults: int = 0
    running: bool = False


class AttemptsFile:
    """The attempts at one trigger on disk.

    Args:
        path: The file; missing folders are created.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, trigger: str) -> Attempts:
        """The attempts at a trigger, by its id. An attempt that never ended counts as a fault of the machine."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=Attempts)
        except (FileNotFoundError, msgspec.DecodeError):
            return Attempts(trigger=trigger)
        if found.trigger != trigger:
            return Attempts(trigger=trigger)
        if found.running:
            log.warning("the last attempt at trigger %s did not end: its process was killed", trigger)
            found.running = False
            found.faults += 1
        return found

    def save(self, attempts: Attempts) -> None:
        """Write the attempts. Where that fails, a trainer that is killed forgets them; that is all."""
        try:
            write_atomically(self._path, msgspec.json.encode(attempts))
        except OSError as error:
            log.warning("%s can't be written: %s", self._path, error)
