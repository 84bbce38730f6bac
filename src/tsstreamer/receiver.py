"""The receiving side: makes delivery *at least once* into *exactly once*.

A sender repeats a message until it knows that it was accepted. `Receiver` remembers, for each source, database and
stream, which ids it has taken, and says of each message how much of it is new. A message is any object that has the
attributes `src`, `dbid`, `epoch`, `stream`, `after`, `upto` and `rows` of `tsstreamer.model.Message`.

What no receiver can see, because nothing in a message tells:

* A message lost for ever that was the first of a new epoch, if its ids lie below ids already taken in the old epoch.
  (If it comes again, it is taken.) Every other loss is a gap.
* A database put back from a backup that goes on under the same `dbid`: it sends new rows under an old identity.
* Another filter under the same stream name: rows that the old filter left out of ids already taken are repeats.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tsstreamer._verdict import State, Verdict, judge

if TYPE_CHECKING:
    import sqlite3

    from tsstreamer._verdict import Identity

__all__ = ["Receiver", "Verdict"]

_CREATE = """\
CREATE TABLE IF NOT EXISTS tsstreamer_receiver (
    src TEXT NOT NULL, dbid TEXT NOT NULL, stream TEXT NOT NULL,
    epoch INTEGER NOT NULL, upto INTEGER NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (src, dbid, stream)
)"""
_EXISTS = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'tsstreamer_receiver'"
# The CAST makes the answer independent of the connection's text_factory.
_LOAD = """\
SELECT epoch, upto, CAST(detail AS BLOB) FROM tsstreamer_receiver WHERE src = ? AND dbid = ? AND stream = ?"""
_SAVE = "INSERT OR REPLACE INTO tsstreamer_receiver VALUES (?, ?, ?, ?, ?, ?)"

_Key = tuple[str, str, str]


class Receiver:
    """Tells new rows from repeated ones, across restarts of either side.

    With a connection, what was taken is kept in its database, in the table ``tsstreamer_receiver``. Rows and state
    are then one transaction, which is yours: `take` begins one where none is open, and never commits. Nothing is
    cached, so a rollback takes back both::

        receiver = Receiver(connection)

        def send(message):
            rows = decode(message.data)
            with connection:  # commits, or rolls back if anything below raises
                verdict = receiver.take(message)
                connection.executemany("INSERT INTO log VALUES (?, ?, ?)", rows[verdict.skip :])
            if verdict.kind == "gap":
                print("ids", verdict.missed, "of", message.stream, "from", message.src, "are missing")

    Accept the message (return from `send`, acknowledge it) only after the commit. Without a connection the state is in
    memory and ends with the process. Then store first and take last: a message that was taken is a repeat when it
    comes again, stored or not::

        verdict = receiver.check(message)
        store(decode(message.data)[verdict.skip :])
        receiver.take(message)

    A gap is reported once: the rows behind it are taken, and it goes on from there. If the missing message comes after
    all, it is ``new`` and `late`. To keep strict order with a messenger that has several messages in flight, raise
    inside the ``with`` at a gap: that message is then refused as well, and the sender goes back to the missing one.
    Where the missing one is lost for ever, the same gap comes again each time, until you take it.

    A stream that was stopped and started again sends its rows from the start: those taken before are repeats.

    Messages of one stream must be taken one after the other; those of different streams may be taken at the same time
    in any threads when the state is in memory, and wherever the connection may be used otherwise.

    Args:
        connection: A connection of the receiver, with any settings; it stays the caller's and is not closed. Only with
            ``autocommit=True`` must the caller begin the transaction.
    """

    def __init__(self, connection: sqlite3.Connection | None = None) -> None:
        self._store = _Memory() if connection is None else _Table(connection)

    def check(self, message: Identity) -> Verdict:
        """Say what `take` would say, and remember nothing.

        Raises:
            TypeError: As `take`.
            ValueError: As `take`.
        """
        return judge(self._store.load(_key(message)), message)[0]

    def take(self, message: Identity) -> Verdict:
        """Say how much of `message` is new, and remember that it was taken.

        Exceptions of `sqlite3` (a locked database, a full disk) pass through; after any exception it was not taken.

        Raises:
            TypeError: The names or numbers that identify the message are of the wrong types.
            ValueError: They make no sense, or the connection commits each statement by itself.
        """
        key = _key(message)
        self._store.begin()
        verdict, state = judge(self._store.load(key), message)
        self._store.save(key, state)
        return verdict


def _key(message: Identity) -> _Key:
    """Return what the state belongs to. The message came over a network: nonsense must not get into the state."""
    key = (message.src, message.dbid, message.stream)
    if not all(isinstance(name, str) for name in key):
        text = f"src, dbid and stream must be str, got {key!r}"
        raise TypeError(text)
    numbers = (message.epoch, message.after, message.upto, message.rows)
    if not all(isinstance(number, int) for number in numbers):
        text = f"epoch, after, upto and rows must be int, got {numbers!r}"
        raise TypeError(text)
    if min(message.epoch, message.after, message.rows) < 0 or message.upto - message.after < max(1, message.rows):
        text = f"epoch, after, upto, rows = {numbers!r}: must be 0 <= after < upto, with a row for each id at most"
        raise ValueError(text)
    return key


class _Memory:
    """States of this process."""

    def __init__(self) -> None:
        self._states: dict[_Key, State] = {}

    def begin(self) -> None:
        """Do nothing: a state is replaced in one step."""

    def load(self, key: _Key) -> State | None:
        return self._states.get(key)

    def save(self, key: _Key, state: State) -> None:
        self._states[key] = state


class _Table:
    """States in a table, read each time: a cache would outlive a rollback."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def begin(self) -> None:
        if self._connection.in_transaction:
            return
        if getattr(self._connection, "autocommit", None) is True:  # the attribute is there from Python 3.12 on
            text = "a connection with autocommit=True would not commit rows and state together: BEGIN first"
            raise ValueError(text)
        # IMMEDIATE: a state that was read cannot change before it is written.
        self._connection.execute("BEGIN IMMEDIATE")

    def load(self, key: _Key) -> State | None:
        cursor = self._connection.cursor()
        cursor.row_factory = None
        row = cursor.execute(_LOAD, key).fetchone() if cursor.execute(_EXISTS).fetchone() else None
        if row is None:
            return None
        epoch, last, detail = row
        holes, counts = json.loads(detail)
        return State(epoch, last, tuple((after, upto, since) for after, upto, since in holes), dict(counts))

    def save(self, key: _Key, state: State) -> None:
        # Not once in __init__: where a transaction is always open, the first rollback would take the table away.
        self._connection.execute(_CREATE)
        detail = json.dumps([state.holes, list(state.counts.items())], separators=(",", ":"))
        self._connection.execute(_SAVE, (*key, state.epoch, state.last, detail))
