"""The standard library's answer: `QueueHandler`, `QueueListener`, and a `BufferingHandler` that writes to SQLite."""

import logging
import logging.handlers
import queue
import time
from pathlib import Path

from benchmarks.peers.base import BATCH, HOLD_BACK, INSERT, create
from benchmarks.workload import KEY, Value


class _Handler(logging.handlers.QueueHandler):
    """Puts records into a bounded queue and waits for room, the override that its documentation suggests."""

    queue: "queue.Queue[logging.LogRecord]"

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.put(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the record as it is: it does not leave the process and its message has no arguments."""
        return record


class _SqliteHandler(logging.handlers.BufferingHandler):
    """Writes the buffer as one transaction when it is full or old."""

    def __init__(self, database: Path) -> None:
        super().__init__(BATCH)
        self._connection = create(database)
        self._written = time.monotonic()

    def shouldFlush(self, record: logging.LogRecord) -> bool:
        return super().shouldFlush(record) or time.monotonic() - self._written >= HOLD_BACK

    def flush(self) -> None:
        """Write the buffer, in the listener's thread or, when that has ended, in the one that stopped it."""
        self._connection.execute("BEGIN")
        self._connection.executemany(INSERT, [record.row for record in self.buffer])  # type: ignore[attr-defined]
        self._connection.execute("COMMIT")
        self.buffer.clear()
        self._written = time.monotonic()


class QueueListener:
    """A logger with a `QueueHandler`; the listener's thread feeds the handler that writes."""

    table = KEY
    database: Path

    def start(self, folder: Path, bound: int) -> None:
        """Create the database and start the listener."""
        self.database = folder / "rows.db"
        self._sink = _SqliteHandler(self.database)
        records: queue.Queue[logging.LogRecord] = queue.Queue(bound)
        self._listener = logging.handlers.QueueListener(records, self._sink)
        self._listener.start()
        self._handle = _Handler(records).handle

    def store(self, *row: Value) -> None:
        """Make a record of the row, without the search for the caller, and hand it to the handler."""
        _, name, _, level, filename, fileno, msg, _ = row
        record = logging.LogRecord(str(name), int(level or 0), str(filename), int(fileno or 0), msg, None, None)
        record.row = row
        self._handle(record)

    def finish(self) -> None:
        """Stop the listener, which drains the queue, and write the buffer."""
        self._listener.stop()
        self._sink.flush()
