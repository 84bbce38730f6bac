"""One stream at work: builds messages, hands them to the messenger, and moves the position after they were accepted.

Contract:

* One thread at a time runs `step` (the caller holds `lock`). User code runs in there, so a stream that hangs hangs
  alone.
* The boundaries of a message are in the database before it is sent, so that it is the same message when it is sent
  again, also by the next process. The position is in the database after it was accepted, never before.
* Both go there by compare-and-swap on the owner and the old position: whoever finds them changed is a second sender,
  and stops.
"""

from __future__ import annotations

import inspect
import json
import math
import random
import threading
import time
import uuid
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from tsstreamer import _options as options
from tsstreamer import _sql
from tsstreamer._packing import FormatError, Horizon, reason
from tsstreamer.errors import FilterError, MessengerError, StorageError, TsStreamerError
from tsstreamer.model import Message, StreamStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from tsstreamer._database import Database
    from tsstreamer._packing import Packed, Packer
    from tsstreamer._sql import Table
    from tsstreamer._writer import Writer
    from tsstreamer.protocols import Messenger

__all__ = ["Sender", "StreamSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """What a user asked for."""

    name: str
    table: Table
    nodename: str
    dstnodes: frozenset[str]
    dstgroups: frozenset[str]
    dstdocks: frozenset[str]
    period: float
    contenttype: int
    userdata: object
    window: int
    ack_timeout: float


@dataclass(slots=True)
class _Outgoing:
    """A message on its way: not handed over, with a future that decides, or accepted."""

    message: Message
    future: Future[Any] | None = None
    sent_at: float = 0.0
    accepted: bool = False


class Sender:
    """The running state of one stream."""

    def __init__(self, spec: StreamSpec, packer: Packer, database: Database, writer: Writer) -> None:
        """Make it; `claim` must follow."""
        self.spec = spec
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.wake: Callable[[], object] = lambda: None
        """Called when a future is done, from its thread."""
        self._packer = packer
        self._database = database
        self._writer = writer
        self._owner = uuid.uuid4().hex
        # Lists: other threads copy them, and the copy of a list is one step with and without the GIL.
        self._out: list[_Outgoing] = []
        self._planned: deque[tuple[int, int, float]] = deque()  # sequence, upto, timestamp of messages to repeat
        self._position = self._stored = self._scanned = self._stored_scanned = self._sequence = 0
        self._stored_plan: list[tuple[int, int, float]] = []
        self._letters: list[tuple[str, str | None, int | None, float, str, list[Any]]] = []
        self._file = ("", 0)  # identity and epoch of the database that the position belongs to
        self._horizon = Horizon()  # when the stream was last due; later rows wait for the next period
        self._saved_at = monotonic()
        self._due = -math.inf
        self._last_now = -math.inf
        self._retry_at = -math.inf
        self._failing_since = 0.0
        self._failures = self._format_failures = 0
        self._error: TsStreamerError | None = None
        self._state, self._since, self._last_error = "waiting", time.time(), ""
        self._sent_rows = self._sent_messages = self._dead_rows = 0

    # --- starting and stopping ---

    def claim(self, since: float | str | None) -> None:
        """Take the stream over from whoever sent it before, at its position; a new one starts where `since` says."""
        self._load(self._writer.run(lambda database: self._claim(database, since)))

    def _claim(self, database: Database, since: float | str | None) -> tuple[Any, ...]:
        name, table = self.spec.name, self.spec.table
        found = database.query(_sql.GET_STREAM, (name,))
        if found and found[0][0] != table.key:
            message = (
                f"stream {name!r} sends from storage {found[0][0]!r}: stop it there, or give this one another name="
            )
            raise TsStreamerError(message)
        if not found:
            ((newest,),) = database.query(table.last_id)
            start = 0
            if since == "now":
                start = newest
            elif since is not None:
                ((first,),) = database.query(table.since, (since,))
                start = newest if first is None else first - 1
            database.execute(_sql.NEW_STREAM, (name, table.key, start, start, self._owner))
        database.execute(_sql.CLAIM_STREAM, (self._owner, name))
        row: tuple[Any, ...] = database.query(_sql.GET_STREAM, (name,))[0]
        return row

    def _load(self, row: tuple[Any, ...]) -> None:
        self._file = (self._database.dbid, self._database.epoch)
        _, self._position, self._scanned, self._sequence, plan, _ = row
        self._stored, self._stored_scanned = self._position, self._scanned
        self._stored_plan = [(number, upto, timestamp) for number, upto, timestamp in json.loads(plan)]
        # Retention may have moved the position into a message, or past it: its number is not used again.
        passed = [number for number, upto, _ in self._stored_plan if upto <= self._position]
        self._sequence = max(self._sequence, *passed, 0)
        self._planned = deque(self._stored_plan[len(passed) :])
        self._out.clear()

    def forget(self) -> None:
        """Stop, and delete the position. Does not wait for a step that is running."""
        self.stopped.set()
        self._writer.run(lambda database: database.execute(_sql.DROP_STREAM, (self.spec.name, self._owner)))

    # --- when ---

    def due(self, now: float) -> bool:
        """Say whether there is something to do at `now`; a clock that went back keeps the time that was left."""
        if self._state == "stopped":
            return False
        if now < self._last_now:
            self._due += now - self._last_now
            self._retry_at += now - self._last_now
        self._last_now = now
        if now < self._retry_at:
            return False
        return now >= self._due or any(item.future is not None and self._decided(item) for item in self._out)

    def next_due(self, poll: float = math.inf) -> float:
        """Return the time, on the clock of `due`, at which there is something to do next.

        While futures are outstanding, that is at most `poll` seconds after the last `due`: nobody else looks at them.
        """
        if self._state == "stopped" or self.stopped.is_set():
            return math.inf
        due = max(self._due, self._retry_at)
        sent = [item.sent_at for item in self._out.copy() if item.future is not None]
        if sent and self._retry_at <= self._last_now:
            due = min(due, self._last_now + max(0.0, min(poll, sent[0] + self.spec.ack_timeout - monotonic())))
        return due

    def unfinished(self) -> bool:
        """Say whether a further step now, or a future, could still move the position."""
        return self._state == "waiting" and (self._due <= self._last_now or bool(self._out))

    def rewind(self) -> None:
        """Be due at once: another clock is used from now on."""
        self._due = self._last_now = self._retry_at = -math.inf

    # --- the step ---

    def step(self, now: float, messenger: Messenger, timestamp: float, *, last: bool = False) -> None:
        """Send what may be sent now, with `last` up to the newest row; and only a signal's exception gets out.

        The caller holds `lock` and has asked `due`.
        """
        self._enter("sending")
        began = monotonic()
        try:
            if last or now >= self._due:
                self._horizon = self._packer.horizon(self._horizon)
            more = self._send_all(messenger, timestamp)
        except BaseException as error:
            # Signals come to the main thread only: Ctrl-C, and what a handler raises outside of user code, gets out.
            # What user code raises is an Exception by now; nothing ends the thread of a stream.
            if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                self._enter("waiting")
                raise
            self._fail(now + (monotonic() - began), error)
        else:
            if not self._out:
                self._failures = 0
            self._schedule(now, more=more)
            self._enter("waiting")

    def _schedule(self, now: float, *, more: bool) -> None:
        self._retry_at = -math.inf
        if more:
            self._due = now
        elif now >= self._due:
            # Periods that were missed are skipped, not made up for.
            missed = (now - self._due) / self.spec.period
            if math.isfinite(missed):
                self._due += self.spec.period * (math.floor(missed) + 1)
            if not now < self._due < math.inf:
                self._due = now + self.spec.period

    def _send_all(self, messenger: Messenger, timestamp: float) -> bool:
        """Go on until nothing is left, the window is full or the pass has had its share; True if more could follow."""
        if self._file != (self._database.dbid, self._database.epoch):
            # The file is another one: so is the stream, and the database's identity in the messages says so.
            self._load(self._writer.run(lambda database: self._claim(database, None)))
            self._horizon = self._packer.horizon(Horizon())
        try:
            return self._pass(messenger, timestamp)
        except MessengerError:
            self._retire()
            self._save()  # those before the failed one were accepted
            raise

    def _pass(self, messenger: Messenger, timestamp: float) -> bool:
        sent = scans = 0
        while not self.stopped.is_set():
            self._collect()
            exhausted = self._fill(timestamp)
            scans += 1
            ready = [item for item in self._out if item.future is None and not item.accepted]
            self._save()  # the boundaries first
            if not ready:
                if self._out or exhausted or scans >= options.PASS_SCANS:
                    return not (self._out or exhausted)
                continue
            for item in ready:
                if self.stopped.is_set():
                    return False
                self._hand_over(item, messenger)
                sent += 1
            if sent >= options.PASS_MESSAGES:
                self._collect()
                self._save()
                return True
        return False

    def _fill(self, timestamp: float) -> bool:
        """Build messages until the window is full; True if there are no more rows."""
        while len(self._out) < self.spec.window:
            plan = self._planned[0] if self._planned else None
            after = self._out[-1].message.upto if self._out else self._position
            look = max(after, self._scanned) if plan is None else after
            if plan is None and look >= self._horizon.last:
                return True
            give_up = self._format_failures >= options.FORMAT_TRIES
            try:
                if plan is None:
                    packed = self._packer.pack(look, self._horizon, give_up=give_up)
                else:
                    packed = self._packer.repeat(look, plan[1], self._horizon, give_up=give_up)
            except (FormatError, TsStreamerError):
                if self._out:
                    return False  # what is built goes first; then the error comes again
                raise
            self._format_failures = 0
            self._letters += [
                (self.spec.table.key, self.spec.name, n, row[0], why, row[1:]) for n, row, why in packed.dead
            ]
            self._dead_rows += len(packed.dead)
            if plan is not None:
                self._planned.popleft()
            self._scanned = max(self._scanned, packed.upto)
            if packed.data is None:
                return False  # nothing passes the filter up to here; the next message says so by its `after` and `upto`
            sequence = self._out[-1].message.sequence + 1 if self._out else self._sequence + 1
            sequence, when = (sequence, timestamp) if plan is None else (plan[0], plan[2])
            self._out.append(_Outgoing(self._message(packed, after, sequence, when)))
        return False

    def _message(self, packed: Packed, after: int, sequence: int, timestamp: float) -> Message:
        spec = self.spec
        return Message(
            dstnodes=spec.dstnodes,
            dstgroups=spec.dstgroups,
            dstdocks=spec.dstdocks,
            data=packed.data if packed.data is not None else "",
            contenttype=spec.contenttype,
            src=spec.nodename,
            sequence=sequence,
            timestamp=timestamp,
            stream=spec.name,
            storage=spec.table.key,
            dbid=self._file[0],
            epoch=packed.epoch,
            after=after,
            upto=packed.upto,
            rows=packed.rows,
        )

    def _hand_over(self, item: _Outgoing, messenger: Messenger) -> None:
        try:
            result = messenger.send(item.message)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _refused(item.message, error) from error
        if isinstance(result, Future):
            item.future, item.sent_at = result, monotonic()
            result.add_done_callback(lambda _: self.wake())
        elif inspect.isawaitable(result):
            close = getattr(result, "close", None)
            if close is not None:
                close()  # a coroutine that nobody awaits would warn
            message = f"send() returned {type(result).__name__}: return a concurrent.futures.Future"
            message += " (asyncio.run_coroutine_threadsafe makes one)"
            raise MessengerError(message)
        else:
            item.accepted = True

    def _decided(self, item: _Outgoing) -> bool:
        """Say whether a message that was handed over is accepted, refused, or out of time."""
        future = item.future
        return item.accepted or future is None or future.done() or monotonic() - item.sent_at >= self.spec.ack_timeout

    def _collect(self) -> None:
        """Take the results of futures in order; what comes after a failure is sent again with it: the order holds."""
        for item in self._out:
            future = item.future
            if item.accepted:
                continue
            if future is None or not self._decided(item):
                break
            if future.done() and not future.cancelled() and future.exception() is None:
                item.accepted = True
                continue
            self._resend(item)
            if not future.done():
                message = f"message {item.message.sequence} was not acknowledged within {self.spec.ack_timeout} s"
                raise MessengerError(message)
            error = None if future.cancelled() else future.exception()
            raise _refused(item.message, error) from error
        self._retire()

    def _retire(self) -> None:
        """Move over the accepted messages, up to the first that is not."""
        while self._out and self._out[0].accepted:
            message = self._out.pop(0).message
            self._position, self._sequence = message.upto, message.sequence
            self._sent_rows += message.rows
            self._sent_messages += 1
            self._failures = 0

    def _resend(self, failed: _Outgoing) -> None:
        for item in self._out:
            if item.message.upto >= failed.message.upto:
                item.future, item.accepted = None, False

    # --- the position ---

    def _save(self) -> None:
        """Bring position and boundaries into the database, if they changed."""
        plan = [(item.message.sequence, item.message.upto, item.message.timestamp) for item in self._out]
        plan += self._planned
        # Retention may delete what was scanned: never rows of a message that is not accepted yet.
        scanned = self._position if plan else max(self._position, self._scanned)
        late = monotonic() - self._saved_at >= options.SCANNED_SECONDS
        far = scanned - self._stored_scanned >= (1 if late else options.SCAN_ROWS)
        if self._position == self._stored and plan == self._stored_plan and not self._letters and not far:
            return
        place = (self._position, scanned, self._sequence, json.dumps(plan), self.spec.name, self._owner, self._stored)
        letters = list(self._letters)

        def move(database: Database) -> tuple[int, list[Any]]:
            moved = database.execute(_sql.MOVE_STREAM, place)
            if moved and letters:
                # A message that is repeated after a restart finds its bad rows again.
                known = database.query(_sql.KNOWN_DEAD, (self.spec.table.key, self.spec.name))
                database.bury([letter for letter in letters if letter[2:4] not in known])
            return moved, [] if moved else database.query(_sql.GET_STREAM, (self.spec.name,))

        if self._writer.state == "degraded":
            raise StorageError(self._writer.reason)  # it is retrying; do not wait with it
        moved, found = self._writer.run(move, options.SAVE_SECONDS, single=not letters)
        if moved:
            self._stored, self._stored_scanned, self._stored_plan = self._position, scanned, plan
            self._saved_at = monotonic()
            del self._letters[: len(letters)]
        elif not self.stopped.is_set():
            self._misplaced(found[0] if found else None)

    def _misplaced(self, found: tuple[Any, ...] | None) -> None:
        """Find out who moved the position, and go on from there if that is right."""
        if self._file != (self._database.dbid, self._database.epoch):
            message = "the database was replaced: beginning again with what is in it"
            raise MessengerError(message)  # and the next step takes the stream over there
        if found is None or found[5] != self._owner:
            what = "stopped" if found is None else "taken over"
            message = f"stream {self.spec.name!r} was {what} by another sender"
            self._error = MessengerError(message)
            raise self._error
        if self._stored < found[1] <= self._position:
            # Retention came no further than what was accepted; or a save that Ctrl-C interrupted was done all the same.
            self._stored = found[1]
            self._save()
            return
        self._load(found)
        message = f"rows were deleted before they were sent: going on after id {self._position}"
        raise MessengerError(message)

    # --- state ---

    def _fail(self, now: float, error: BaseException) -> None:
        self._last_error = str(error) if isinstance(error, (TsStreamerError, FormatError)) else reason(error)
        # A search that took too long may be the fault of a stalled machine: that is tried again, a few times.
        slow = getattr(error.__cause__, "sqlite_errorname", "") == "SQLITE_INTERRUPT"
        hopeless = isinstance(error, FilterError) and not (slow and self._failures < options.SEARCH_TRIES)
        if self._error is not None or hopeless:
            self._out.clear()
            self._enter("stopped")
            return
        if isinstance(error, FormatError):
            self._format_failures += 1
        if not self._failures:
            self._failing_since = time.time()
        delay = min(options.BACKOFF_LAST, options.BACKOFF_FIRST * 2 ** min(self._failures, 30))
        self._failures += 1
        self._retry_at = now + delay * random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)
        self._due = min(self._due, self._retry_at)
        self._enter("backing off")

    def _enter(self, state: str) -> None:
        if state != self._state:
            # A try in between does not end a back-off.
            self._state, self._since = state, self._failing_since if state == "backing off" else time.time()

    def _done(self) -> int:
        """Return the id up to which nothing is left to send."""
        return self._position if self._out or self._planned else max(self._position, self._scanned)

    def unsent(self) -> int:
        """Return the committed ids that are still to be sent, or to be looked at; -1 where the file cannot be read."""
        try:
            ((newest,),) = self._database.read(self.spec.table.last_id)
        except StorageError:
            return -1
        return max(0, int(newest) - self._done())

    def stats(self) -> StreamStats:
        """Return a snapshot; reads the database."""
        try:
            times = self._database.read(self.spec.table.oldest_time, (self._done(),))
        except StorageError:
            times = []
        oldest = times[0][0] if times else None
        return StreamStats(
            storage=self.spec.table.key,
            state=self._state,
            since=self._since,
            lastError=self._last_error,
            position=self._position,
            sentRows=self._sent_rows,
            sentMessages=self._sent_messages,
            inFlight=sum(item.future is not None and not item.future.done() for item in self._out.copy()),
            deadRows=self._dead_rows,
            lagRows=self.unsent(),
            lagSeconds=max(0.0, time.time() - oldest) if isinstance(oldest, float) else 0.0,
        )


def _refused(message: Message, error: BaseException | None) -> MessengerError:
    what = "its future was cancelled" if error is None else reason(error)
    return MessengerError(f"message {message.sequence} of stream {message.stream!r} was not accepted: {what}")
