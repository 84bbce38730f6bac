"""What one writes by hand around the sqlite3 module: two yardsticks, the plain queue, and two without a queue."""

import queue
import threading
from itertools import chain
from pathlib import Path

from benchmarks.peers.base import BATCH, INSERT, VALUES, connect, create
from benchmarks.workload import KEY, Row, Value

RAW_TRANSACTION = 10_000
"""Rows in a transaction of the yardsticks."""

RAW_STATEMENT = 1000
"""Rows in a statement of the multi-row yardstick: 8 000 parameters fit every SQLite, and more is not faster."""


class _Sqlite:
    """A database with the table ``logkey``, opened by hand."""

    table = KEY
    database: Path

    def start(self, folder: Path, bound: int) -> None:
        """Create the database; `bound` means nothing without a queue."""
        del bound
        self.database = folder / "rows.db"
        self._connection = create(self.database)


class RawExecutemany(_Sqlite):
    """`executemany` in one thread. Rows are only collected until `finish`, which alone is timed."""

    def start(self, folder: Path, bound: int) -> None:
        """Create the database."""
        super().start(folder, bound)
        self._rows: list[Row] = []

    def store(self, *row: Value) -> None:
        """Keep one row."""
        self._rows.append(row)

    def finish(self) -> None:
        """Insert and commit all rows."""
        for begin in range(0, len(self._rows), RAW_TRANSACTION):
            self._connection.execute("BEGIN")
            self._insert(self._rows[begin : begin + RAW_TRANSACTION])
            self._connection.execute("COMMIT")

    def _insert(self, rows: list[Row]) -> None:
        self._connection.executemany(INSERT, rows)


class RawMultiRow(RawExecutemany):
    """The same with many rows for each step of SQLite."""

    _many = f"INSERT INTO {KEY} VALUES " + ",".join([VALUES] * RAW_STATEMENT)

    def _insert(self, rows: list[Row]) -> None:
        whole = len(rows) - len(rows) % RAW_STATEMENT
        chunks = (tuple(chain.from_iterable(rows[at : at + RAW_STATEMENT])) for at in range(0, whole, RAW_STATEMENT))
        self._connection.executemany(self._many, chunks)
        super()._insert(rows[whole:])


class PlainQueue(_Sqlite):
    """The design that everybody starts with: a bounded queue and a thread that writes what it finds."""

    def start(self, folder: Path, bound: int) -> None:
        """Create the database and start the thread."""
        super().start(folder, bound)
        self._queue: queue.Queue[Row | None] = queue.Queue(bound)
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def store(self, *row: Value) -> None:
        """Queue one row."""
        self._queue.put(row)

    def finish(self) -> None:
        """Let the thread write the rest."""
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        more = True
        while more:
            items = [self._queue.get()]
            try:
                while len(items) < BATCH:
                    items.append(self._queue.get_nowait())
            except queue.Empty:
                pass
            more = None not in items
            self._connection.execute("BEGIN")
            self._connection.executemany(INSERT, [item for item in items if item is not None])
            self._connection.execute("COMMIT")


class LockedConnection(_Sqlite):
    """One connection for all threads, under a lock."""

    def start(self, folder: Path, bound: int) -> None:
        """Create the database."""
        super().start(folder, bound)
        self._lock = threading.Lock()

    def store(self, *row: Value) -> None:
        """Insert and commit one row."""
        with self._lock:
            self._connection.execute(INSERT, row)

    def finish(self) -> None:
        """Do nothing: each row is committed when `store` returns."""


class ConnectionPerThread(_Sqlite):
    """A connection for each thread; SQLite's own lock orders them."""

    def start(self, folder: Path, bound: int) -> None:
        """Create the database."""
        super().start(folder, bound)
        self._local = threading.local()

    def store(self, *row: Value) -> None:
        """Insert and commit one row."""
        try:
            connection = self._local.connection
        except AttributeError:
            connection = self._local.connection = connect(self.database)
        connection.execute(INSERT, row)

    def finish(self) -> None:
        """Do nothing: each row is committed when `store` returns."""
