"""The bounded hand-over of one storage: rows wait here between the producers and the writer.

Contract:

* Any thread may put a row, also from a signal handler or a finalizer: that way takes no lock, except where the backlog
  is full or closing. Only the writer takes rows out (and ``dropOldest``, under the lock).
* Put first, look at the state afterwards. Whoever looks first and puts then may be suspended in between, and its row
  lands in a queue that nobody empties any more. A call that returns has its row counted in the last drain, one that
  raises has not.
* ``accepted = committed + pending + rejected + dropped``: each term has its own counter, changed under the lock.
* At most ``maxPending`` rows wait. Those of the running transaction, `STATEMENT_ROWS` at most, are on their way and
  come on top, or nobody could store while SQLite works. Each producing thread may exceed the bound by one.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from contextlib import suppress
from itertools import repeat
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from tsstreamer import _options as options
from tsstreamer._rows import Row, compile_store
from tsstreamer.errors import BufferFullError
from tsstreamer.model import StorageStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from tsstreamer._sql import Table

__all__ = ["Backlog"]


class Backlog:
    """Rows of one storage on their way to the writer."""

    def __init__(
        self, table: Table, wake: Callable[[], None], max_pending: int, overflow: str, block_timeout: float
    ) -> None:
        """Make an open, empty backlog; `wake` must be re-entrant and must not block."""
        self.table = table
        self.queue: SimpleQueue[Row] = SimpleQueue()
        self.attention = False
        """Set while a put must be followed by `attend`: the writer sleeps, or the backlog is closing."""
        self.limit = max_pending
        """Queue length at which `admit` decides: the room left, less while the writer gathers, -1 to refuse all."""
        self._wake = wake
        self._max_pending = max_pending
        self._overflow = overflow
        self._block_timeout = block_timeout
        # Re-entrant: a signal handler may store a row while its thread is in here.
        self._lock = threading.RLock()
        self._gates: deque[Any] = deque()  # one locked lock for each producer that waits for room
        self._consumer = 0  # ident of the writer's thread, which must never wait for itself
        self._sleeping = False
        self._gathering = False
        self._refusal: Callable[[], Exception] | None = None
        self._sealed = False
        self._late: list[Row] = []
        self._taken = self._in_flight = self._committed = self._rejected = self._refused = self._high_water = 0
        self._settled = 0  # rows out of the queue that are accounted for, with all before them
        self._dropped: Counter[str] = Counter()
        self._deleted = self._deleted_unsent = 0
        self.store = compile_store(table, self)

    # --- producers ---

    def admit(self) -> bool:
        """Decide on a row that found the queue at its limit: True to put it, False when it was dropped.

        Raises:
            BufferFullError: The overflow policy says so.
            StreamerClosedError: Nothing goes in any more.
        """
        # True where a signal handler or finalizer stores while its thread is in here: the writer could not get in to
        # make room, so such a row exceeds the bound rather than wait.
        nested = self._lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001  (as `threading.Condition` asks it)
        with self._lock:
            if self._refusal is not None:
                raise self._refusal()
            if self._gathering:
                self._gathering = False
                self._set_limit()
                self._wake()
            if self.queue.qsize() < self.limit:
                return True
            if self._overflow == "dropNewest":
                self._dropped["dropNewest"] += 1
                return False
            if self._overflow == "dropOldest":
                self._drop_oldest()
                return True
            if self._overflow == "block" and nested:
                return True
            if self._overflow == "raise" or threading.get_ident() == self._consumer:
                raise self._full(0.0)
        return self._wait_for_room()

    def attend(self, row: Row) -> None:
        """Follow up a put that was done while the writer slept or the backlog was closing.

        Raises:
            StreamerClosedError: The row came after the last drain; it is not in the file, and never will be.
        """
        if self._sleeping:
            self._sleeping = False
            self.attention = self._refusal is not None
            self._wake()
        if self._refusal is None:
            return
        with self._lock:
            if not self._sealed:
                return
            self._late += self._pop(self.queue.qsize())
            # By identity: an equal row of another thread may well have been drained in time.
            for index, late in enumerate(self._late):
                if late is row:
                    del self._late[index]
                    raise self._refusal()

    def _drop_oldest(self) -> None:
        self._pop(1)
        self._taken += 1
        self._dropped["dropOldest"] += 1
        if not self._in_flight:
            self._settled = self._taken

    def _wait_for_room(self) -> bool:
        deadline = monotonic() + self._block_timeout
        line_up = self._gates.append
        while True:
            gate = threading.Lock()
            gate.acquire()
            line_up(gate)
            try:
                # Looked at after the gate is in place, so that room made in between is not missed.
                if self.queue.qsize() >= self.limit and self._refusal is None:
                    gate.acquire(timeout=max(0.0, min(options.TURN_SECONDS, deadline - monotonic())))
            finally:
                with suppress(ValueError):  # it was opened
                    self._gates.remove(gate)
            if self._refusal is not None:
                raise self._refusal()
            if self.queue.qsize() < self.limit:
                return True
            if monotonic() >= deadline:
                with self._lock:
                    raise self._full(self._block_timeout)
            line_up = self._gates.appendleft  # others were faster: it has waited longer than those behind it

    def _full(self, waited: float) -> BufferFullError:
        self._refused += 1
        text = f"storage {self.table.key!r}: {self._max_pending} rows are pending (maxPending)"
        return BufferFullError(text + (f", no room within {waited} s (blockTimeout)" if waited else ""))

    # --- the writer ---

    def sleep(self) -> None:
        """Ask for a wake-up by the next put. The caller must look at the queue once more afterwards."""
        self._consumer = threading.get_ident()
        self._sleeping = True
        self.attention = True
        self.let_in()

    def gather(self) -> None:
        """Stop asking for a wake-up by each put, but ask for one when enough rows for a good batch wait."""
        with self._lock:
            self._sleeping = False
            self.attention = self._refusal is not None
            self._gathering = True
            self._set_limit()
        self.let_in()

    def drain(self, most: int) -> list[Row]:
        """Take up to `most` waiting rows, oldest first, and let producers in for the room that is left."""
        with self._lock:
            self._gathering = False
            waiting = self.queue.qsize()
            rows = self._pop(min(most, waiting))
            self._taken += len(rows)
            self._in_flight += len(rows)
            self._high_water = max(self._high_water, self._in_flight + self.queue.qsize())
            self._set_limit()
        # One producer at full speed fills this room, and the writer then waits for the GIL behind one thread only.
        # Where those before it have left more room than that, nobody needs to wait.
        self.let_in(1 if waiting + most >= self._max_pending else sys.maxsize)
        return rows

    def settle(self, committed: int, rejected: int = 0) -> None:
        """Account for drained rows whose transaction is committed."""
        with self._lock:
            self._in_flight -= committed + rejected
            self._settled = self._taken
            self._committed += committed
            self._rejected += rejected

    def abandon(self) -> None:
        """Give up every row that is not committed: the streamer closes and could not write them."""
        with self._lock:
            self._dropped["close"] += self._in_flight
            self._in_flight = 0

    def retired(self, deleted: int, unsent: int) -> None:
        """Account for rows that retention deleted."""
        with self._lock:
            self._deleted += deleted
            self._deleted_unsent += unsent

    def refuse(self, refusal: Callable[[], Exception]) -> None:
        """Let nothing in any more; every later call raises what `refusal` makes."""
        with self._lock:
            self._refusal = refusal
            self.attention = True
            self._set_limit()
        self.let_in()

    def seal(self) -> bool:
        """End the hand-over if the queue is empty; a row that arrives later belongs to its caller again."""
        with self._lock:
            if self.queue.qsize():
                return False
            self._sealed = True
            return True

    def forked(self, refusal: Callable[[], Exception]) -> None:
        """Make the copy in a forked child inert: its lock may have been held by a thread that is not here."""
        self._lock = threading.RLock()
        self.queue = SimpleQueue()
        self._gates.clear()
        self._sealed = True
        self.refuse(refusal)

    def _pop(self, number: int) -> list[Row]:
        # One C call without a bytecode boundary: no other thread gets the GIL in between. Nobody else takes rows (the
        # lock), so `get` never finds the queue empty.
        return list(map(self.queue.get, repeat(False, number)))  # noqa: FBT003  (positional only in map)

    def _set_limit(self) -> None:
        if self._refusal is not None:
            self.limit = -1
        else:
            self.limit = min(self._max_pending, options.GATHER_ROWS) if self._gathering else self._max_pending

    def ripe(self) -> bool:
        """Say whether as many rows wait as end the gathering."""
        return self.queue.qsize() >= min(self._max_pending, options.GATHER_ROWS)

    def let_in(self, number: int = sys.maxsize) -> None:
        """Let the `number` producers that have waited longest look for room."""
        for _ in range(min(number, len(self._gates))):
            try:
                self._gates.popleft().release()
            except IndexError:  # another thread was faster
                return

    # --- anybody ---

    def offered(self) -> int:
        """Return a mark: `settled` reaches it when every row put before this call is accounted for."""
        with self._lock:
            return self._taken + self.queue.qsize()

    def settled(self) -> int:
        """Return the mark up to which all rows are accounted for; those given up at the close never are."""
        with self._lock:
            return self._settled

    def dropped(self) -> dict[str, int]:
        """Return the rows given up so far, by reason."""
        with self._lock:
            return dict(self._dropped)

    def stats(self) -> StorageStats:
        """Return the ledger as one consistent snapshot."""
        with self._lock:
            waiting, dropped = self.queue.qsize(), dict(self._dropped)
            return StorageStats(
                accepted=self._taken + waiting + dropped.get("dropNewest", 0),
                committed=self._committed,
                pending=waiting + self._in_flight,
                rejected=self._rejected,
                dropped=dropped,
                refused=self._refused,
                highWater=self._high_water,
                deleted=self._deleted,
                deletedUnsent=self._deleted_unsent,
            )
