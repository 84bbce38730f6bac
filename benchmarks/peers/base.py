"""What a subject is, and the SQLite parts that the hand-written ones share."""

import sqlite3
from pathlib import Path
from typing import Protocol

from benchmarks.workload import KEY, KEYS, TYPES, Value

COLUMNS = ["time", *KEYS]
CREATE = f"CREATE TABLE {KEY} (" + ", ".join(map(" ".join, zip(COLUMNS, ["REAL", *TYPES], strict=True))) + ")"
VALUES = "(" + ",".join("?" * len(COLUMNS)) + ")"
INSERT = f"INSERT INTO {KEY} VALUES {VALUES}"

BATCH = 1000
"""Rows in a transaction of those who choose it themselves: more gains nothing at full speed, and beside busy threads a
longer transaction only delays what is counted as committed."""

HOLD_BACK = 0.25
"""Seconds after which a buffering sink writes what it has."""

TIMEOUT = 60.0
"""Seconds that a connection waits for a lock: longer than any benchmark holds it."""


class Subject(Protocol):
    """Takes rows from threads. Started once, finished once, in a process of its own."""

    database: Path
    table: str

    def start(self, folder: Path, bound: int) -> None:
        """Open a database in `folder`; hold at most `bound` waiting rows where that can be said."""
        ...

    def store(self, *row: Value) -> None:
        """Take one row from any thread: the timestamp, then the seven values."""
        ...

    def finish(self) -> None:
        """Return as soon as all rows are committed."""
        ...


class Reader:
    """A connection of its own that counts what is committed."""

    def __init__(self, subject: Subject) -> None:
        """Open it and look once, so that a later look costs one step."""
        self._connection = sqlite3.connect(subject.database, timeout=TIMEOUT)
        self._last_row = f'SELECT coalesce(max(rowid), 0) FROM "{subject.table}"'
        self._count = f'SELECT count(*) FROM "{subject.table}"'
        self.committed()

    def committed(self) -> int:
        """Return the highest rowid: nothing is deleted here, so it is the number of rows, without a scan."""
        return int(self._connection.execute(self._last_row).fetchone()[0])

    def count(self) -> int:
        """Return the number of rows, counted."""
        return int(self._connection.execute(self._count).fetchone()[0])


def connect(database: Path) -> sqlite3.Connection:
    """Open `database` for writing as one would by hand: WAL, NORMAL, autocommit, usable from any thread."""
    connection = sqlite3.connect(database, timeout=TIMEOUT, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def create(database: Path) -> sqlite3.Connection:
    """Open `database` as `connect` does and create the table ``logkey``."""
    connection = connect(database)
    connection.execute(CREATE)
    return connection
