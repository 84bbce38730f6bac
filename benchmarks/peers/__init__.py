"""Everything that can store rows: tsstreamer, the hand-written writers, and the packages that others use.

All of them offer the same few calls (`Subject`) and are used with the best settings that their documentation offers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.peers.base import Subject
from benchmarks.peers.handwritten import ConnectionPerThread, LockedConnection, PlainQueue, RawExecutemany, RawMultiRow
from benchmarks.peers.ours import TsStreamer
from benchmarks.peers.packages import Loguru, PeeweeQueue, PersistQueue, SqliteDict
from benchmarks.peers.stdlib import QueueListener

__all__ = ["OURS", "PEERS", "QUEUES", "RAW", "SUBJECTS", "Subject", "SubjectSpec"]


@dataclass(frozen=True)
class SubjectSpec:
    """What can be said of a subject without starting it.

    Attributes:
        label: As in tables and plots.
        kind: ``ours``; ``raw`` collects rows and writes them in `finish`, in one thread; ``plain`` is the queue and
            writer one would write by hand; ``peer`` is what a program would use instead of tsstreamer.
        make: Makes one that is not started. Raises `ModuleNotFoundError` if its package is not installed.
        settings: How it is used.
        package: Distribution that it needs, if any.
    """

    label: str
    kind: Literal["ours", "raw", "plain", "peer"]
    make: Callable[[], Subject]
    settings: str
    package: str = ""


SUBJECTS = {
    "tsstreamer": SubjectSpec("tsstreamer", "ours", TsStreamer, "defaults, overflow=block", "tsstreamer"),
    "raw_executemany": SubjectSpec(
        "raw executemany", "raw", RawExecutemany, "one thread, ready-made rows, 10 000 a transaction, WAL, NORMAL"
    ),
    "raw_multirow": SubjectSpec(
        "raw multi-row insert",
        "raw",
        RawMultiRow,
        "the same with 1 000 rows for each statement: the ceiling of sqlite3",
    ),
    "plain_queue": SubjectSpec(
        "queue + executemany",
        "plain",
        PlainQueue,
        "queue.Queue, a thread that drains up to 1 000 rows into one executemany",
    ),
    "locked": SubjectSpec(
        "one locked connection", "peer", LockedConnection, "insert and commit under one lock, WAL, NORMAL"
    ),
    "per_thread": SubjectSpec(
        "connection per thread", "peer", ConnectionPerThread, "autocommit in each thread, WAL, NORMAL, timeout 60 s"
    ),
    "queue_listener": SubjectSpec(
        "QueueHandler + SQLite",
        "peer",
        QueueListener,
        "blocking enqueue, prepare() returns the record, BufferingHandler of 1 000 records or 0.25 s into executemany",
    ),
    "peewee": SubjectSpec(
        "peewee SqliteQueueDatabase", "peer", PeeweeQueue, "execute_sql, queue_max_size, WAL, NORMAL", "peewee"
    ),
    "sqlitedict": SubjectSpec(
        "sqlitedict",
        "peer",
        SqliteDict,
        "autocommit=False, journal_mode=WAL, outer_stack=False, commit(blocking=False) each 1 000 rows",
        "sqlitedict",
    ),
    "persist_queue": SubjectSpec(
        "persist-queue", "peer", PersistQueue, "SQLiteQueue(multithreading=True), pickled rows", "persist-queue"
    ),
    "loguru": SubjectSpec(
        "loguru enqueue=True",
        "peer",
        Loguru,
        "row bound to the record, format={message}, no backtrace, sink of 1 000 records or 0.25 s into executemany",
        "loguru",
    ),
}
"""All subjects by name, in the order of tables and plots."""

OURS = "tsstreamer"
RAW = [name for name, spec in SUBJECTS.items() if spec.kind == "raw"]
PEERS = [name for name, spec in SUBJECTS.items() if spec.kind == "peer"]
QUEUES = [name for name, spec in SUBJECTS.items() if spec.kind != "raw"]
"""Everything that takes single rows from threads."""
