"""SQLite files that are caches. What is in them can be made again, so another format is dropped, not converted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path


def open_cache(
    path: Path | str, tables: str, names: Sequence[str], version: int, pragmas: Sequence[str] = ()
) -> sqlite3.Connection:
    """Open a file and create its tables; tables of another format are dropped first.

    Args:
        path: The file, or `:memory:`.
        tables: Statements that create the tables where they are missing.
        names: The names of the tables.
        version: Of their format, at least 1.
        pragmas: Settings of the connection, such as `journal_mode = WAL`.

    Returns:
        A connection that any one thread at a time may use.

    Raises:
        sqlite3.DatabaseError: The file is damaged, or no database.
    """
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        for pragma in pragmas:
            db.execute(f"PRAGMA {pragma}")
        if db.execute("PRAGMA user_version").fetchone()[0] not in (0, version):
            for name in names:
                db.execute(f"DROP TABLE IF EXISTS {name}")
        db.executescript(tables)
        db.execute(f"PRAGMA user_version = {version}")
    except BaseException:
        db.close()
        raise
    return db
