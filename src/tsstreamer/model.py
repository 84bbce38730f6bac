"""The values that pass between the parts, and to users: frozen, without behaviour, knowing no thread and no SQLite."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CloseReport", "Message", "Stats", "StorageStats", "StreamStats"]

CONTENTTYPE_YAML = 5
"""The testbed's number for YAML in its wire format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Rows of one stream on their way to other nodes; a messenger's `send` gets one at a time.

    The identity says: these are all the rows with ``after < id <= upto`` of storage `storage` in database `dbid`
    that pass the filter of stream `stream`. A message that is sent again has the same identity, sequence, timestamp and
    data.

    Attributes:
        dstnodes: Names of the destination nodes.
        dstgroups: Names of the destination groups.
        dstdocks: Names of the docks that get the message at each destination.
        data: What the formatter returned.
        contenttype: The kind of `data` in the testbed's numbering; 5 is YAML.
        src: Name of the node that sends.
        sequence: Number of the message in its stream: 1, 2, 3 …; goes on after a restart.
        timestamp: Seconds since 1970: the `now` of the pass that first built the message.
        stream: Name of the stream.
        storage: Key of the storage that the rows come from.
        dbid: Identity of the database file, new whenever the file is new.
        epoch: Grows when the database was not closed cleanly; ids of an older epoch may be used again in a later one.
        after: The rows have ids greater than this.
        upto: The rows have ids up to this one, inclusive.
        rows: Number of rows in `data`.
    """

    dstnodes: frozenset[str]
    dstgroups: frozenset[str]
    dstdocks: frozenset[str]
    data: str | bytes
    contenttype: int
    src: str
    sequence: int
    timestamp: float
    stream: str
    storage: str
    dbid: str
    epoch: int
    after: int
    upto: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageStats:
    """The ledger of one storage, in rows since this streamer was opened; a consistent snapshot.

    ``accepted == committed + pending + rejected + sum(dropped.values())`` always holds.

    Attributes:
        accepted: Rows that `storeData` took (dropped ones included).
        committed: Rows that survive a crash of the process.
        pending: Rows in memory: waiting, or in the transaction that is being written.
        rejected: Rows that SQLite refused one by one; they are in the dead-letter table.
        dropped: Rows given up, by reason: ``dropNewest``, ``dropOldest``, ``close``.
        refused: Calls of `storeData` that raised `BufferFullError`; these rows were never accepted.
        highWater: The most rows that were ever pending at the start of a transaction.
        deleted: Rows removed by retention.
        deletedUnsent: Those among them that some stream had still to send (``keepUnsent=False``).
    """

    accepted: int
    committed: int
    pending: int
    rejected: int
    dropped: Mapping[str, int]
    refused: int
    highWater: int
    deleted: int
    deletedUnsent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStats:
    """The state of one stream.

    Attributes:
        storage: Key of the storage that is streamed.
        state: ``waiting``, ``sending``, ``backing off`` or ``stopped`` (after an error that does not pass by itself).
        since: Seconds since 1970 at which that state began; tries in between do not end a back-off.
        lastError: Text of the last failure, empty when there was none.
        position: Rows with ids up to this one were accepted by the messenger.
        sentRows: Rows accepted by the messenger since this streamer was opened.
        sentMessages: Messages accepted likewise.
        inFlight: Messages handed over whose futures are not done.
        deadRows: Rows that the formatter could not format; they are in the dead-letter table.
        lagRows: Committed ids that are still to be sent, or to be looked at by the filter; -1 while the file is gone.
        lagSeconds: Age of the oldest row among these, by its timestamp; 0.0 without one.
    """

    storage: str
    state: str
    since: float
    lastError: str
    position: int
    sentRows: int
    sentMessages: int
    inFlight: int
    deadRows: int
    lagRows: int
    lagSeconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A snapshot of a streamer, see `SqliteDataStreamer.stats`.

    Attributes:
        state: ``running``, ``degraded`` (the writer retries), ``failed`` (it gave up), ``closed`` or ``forked``.
        reason: Why the writer is degraded or failed, otherwise empty.
        since: Seconds since 1970 at which that state began.
        storages: The ledgers, by storage key.
        streams: The streams, by name.
        commits: Transactions of rows committed since this streamer was opened.
        walBytes: Size of the write-ahead log; 0 in memory.
        databaseBytes: Size of the database file without the log; 0 in memory.
    """

    state: str
    reason: str
    since: float
    storages: Mapping[str, StorageStats]
    streams: Mapping[str, StreamStats]
    commits: int
    walBytes: int
    databaseBytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseReport:
    """What `SqliteDataStreamer.close` left behind, in rows since the streamer was opened.

    Attributes:
        stored: Rows committed.
        rejected: Rows in the dead-letter table.
        dropped: Rows given up, by reason.
        unsent: For each stream by name, the committed ids that are still to be sent; -1 where the file is gone.
    """

    stored: int
    rejected: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    unsent: Mapping[str, int] = field(default_factory=dict)
