"""The packages that programs use for this. Each is imported by `start`, so that a missing one is only missing."""

import itertools
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers.base import BATCH, HOLD_BACK, INSERT, TIMEOUT, create
from benchmarks.workload import KEY, Row, Value


class PeeweeQueue:
    """`SqliteQueueDatabase`: a thread executes one statement after the other, each its own transaction."""

    table = KEY
    database: Path

    def start(self, folder: Path, bound: int) -> None:
        """Create the database and start the thread."""
        sqliteq = import_module("playhouse.sqliteq")
        self.database = folder / "rows.db"
        create(self.database).close()
        self._peewee = sqliteq.SqliteQueueDatabase(
            str(self.database), queue_max_size=bound, timeout=TIMEOUT, pragmas={"journal_mode": "wal", "synchronous": 1}
        )

    def store(self, *row: Value) -> None:
        """Queue one insert and do not look at its result."""
        self._peewee.execute_sql(INSERT, row)

    def finish(self) -> None:
        """Stop, which works off the queue."""
        self._peewee.stop()


class SqliteDict:
    """A dictionary in SQLite with a thread of its own; it cannot bound its queue."""

    table = KEY
    database: Path

    def start(self, folder: Path, bound: int) -> None:
        """Create the database and start the thread."""
        del bound
        sqlitedict = import_module("sqlitedict")
        self.database = folder / "rows.db"
        self._dict = sqlitedict.SqliteDict(
            str(self.database), tablename=KEY, autocommit=False, journal_mode="WAL", outer_stack=False
        )
        self._keys = itertools.count(1)

    def store(self, *row: Value) -> None:
        """Queue one row under the next number, and a commit now and then."""
        key = next(self._keys)
        self._dict[str(key)] = row
        if key % BATCH == 0:
            self._dict.commit(blocking=False)

    def finish(self) -> None:
        """Commit and wait for it."""
        self._dict.commit(blocking=True)


class PersistQueue:
    """A queue in SQLite: `put` serialises, inserts and commits in the caller."""

    table = "queue_default"
    database: Path

    def start(self, folder: Path, bound: int) -> None:
        """Create the database."""
        del bound
        persistqueue = import_module("persistqueue")
        self._queue: Any = persistqueue.SQLiteQueue(str(folder), multithreading=True, timeout=TIMEOUT)
        self.database = folder / "data.db"

    def store(self, *row: Value) -> None:
        """Put one row."""
        self._queue.put(row)

    def finish(self) -> None:
        """Do nothing: each row is committed when `store` returns."""


class _Sink:
    """A loguru sink that writes a transaction when it has many rows or old ones."""

    def __init__(self, database: Path) -> None:
        self._connection = create(database)
        self._rows: list[Row] = []
        self._written = time.monotonic()

    def write(self, message: Any) -> None:  # noqa: ANN401 - loguru's own type
        self._rows.append(message.record["extra"]["row"])
        if len(self._rows) >= BATCH or time.monotonic() - self._written >= HOLD_BACK:
            self.stop()

    def stop(self) -> None:
        """Write what there is; loguru calls it when the sink is removed."""
        self._connection.execute("BEGIN")
        self._connection.executemany(INSERT, self._rows)
        self._connection.execute("COMMIT")
        self._rows.clear()
        self._written = time.monotonic()


class Loguru:
    """`enqueue=True`: records are pickled through a pipe to a thread that calls the sink."""

    table = KEY
    database: Path

    def start(self, folder: Path, bound: int) -> None:
        """Create the database and the sink; the pipe bounds what waits."""
        del bound
        self.database = folder / "rows.db"
        self._logger = import_module("loguru").logger
        self._logger.remove()
        self._logger.add(
            _Sink(self.database), enqueue=True, format="{message}", backtrace=False, diagnose=False, colorize=False
        )

    def store(self, *row: Value) -> None:
        """Log the message with its row bound to it."""
        self._logger.bind(row=row).info(row[6])

    def finish(self) -> None:
        """Remove the sink, which works off the pipe."""
        self._logger.remove()
