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
from tsstreamer._packing import FormatError
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
        self._out: deque[_Outgoing] = deque()
        self._planned: deque[tuple[int, int, float]] = deque()  # sequence, upto, timestamp of messages to repeat
        self._position = self._stored = self._scanned = self._stored_scanned = self._sequence = 0
        self._stored_plan: list[tuple[int, int, float]] = []
        self._letters: list[tuple[str, str | None, int | None, float, str, list[Any]]] = []
        self._due = -math.inf
        self._last_now = -math.inf
        self._retry_at = -math.inf
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
        _, self._position, self._scanned, self._sequence, plan, _ = row
        self._stored, self._stored_scanned = self._position, self._scanned
        self._stored_plan = [(number, upto, timestamp) for number, upto, timestamp in json.loads(plan)]
        self._planned = deque(self._stored_plan)
        self._out.clear()

    def forget(self) -> None:
        """Stop, and delete the position. Does not wait for a step that is running."""
        self.stopped.set()
        self._writer.run(lambda database: database.execute(_sql.DROP_STREAM, (self.spec.name, self._owner)))

    # --- when ---

    def due(self, now: float) -> bool:
        """Say whether there is something to do at `now`; a clock that went back makes the stream due."""
        if self._state == "stopped":
            return False
        if now < self._last_now:
            self._due = min(self._due, now)
            self._retry_at = min(self._retry_at, now)
        self._last_now = now
        if now < self._retry_at:
            return False
        return now >= self._due or any(item.future is not None and item.future.done() for item in self._out)

    def next_due(self) -> float:
        """Return the time, on the clock of `due`, at which there is something to do next."""
        return math.inf if self._state == "stopped" else max(self._due, self._retry_at)

    def unfinished(self) -> bool:
        """Say whether a further step now, or a future, could still move the position."""
        return self._state == "waiting" and (self._due <= self._last_now or bool(self._out))

    def rewind(self) -> None:
        """Be due at once: another clock is used from now on."""
        self._due = self._last_now = self._retry_at = -math.inf

    # --- the step ---

    def step(self, now: float, messenger: Messenger, timestamp: float) -> None:
        """Send what may be sent now; never raises but for KeyboardInterrupt. The caller holds `lock`."""
        self._enter("sending")
        try:
            more = self._send_all(messenger, timestamp)
        except Exception as error:  # noqa: BLE001  (whatever it is, the stream shows it and tries again)
            self._fail(now, error)
        except BaseException:
            self._enter("waiting")
            raise
        else:
            if self._error is not None:
                self._stop(self._error)
                return
            self._schedule(now, more=more)
            self._enter("waiting")

    def _schedule(self, now: float, *, more: bool) -> None:
        self._retry_at = -math.inf
        if more:
            self._due = now
        elif math.isinf(self._due):
            self._due = now + self.spec.period
        elif now >= self._due:
            # Periods that were missed are skipped, not made up for.
            missed = (now - self._due) / self.spec.period
            self._due += self.spec.period * (math.floor(missed) + 1)
            if not now < self._due < math.inf:
                self._due = now + self.spec.period

    def _send_all(self, messenger: Messenger, timestamp: float) -> bool:
        """Go on until nothing is left, the window is full or the pass has had its share; True if more could follow."""
        sent = scans = 0
        while not self.stopped.is_set():
            self._collect()
            exhausted = self._fill(timestamp)
            scans += 1
            ready = [item for item in self._out if item.future is None and not item.accepted]
            if not ready:
                self._save()
                if self._out:
                    return False
                if exhausted:
                    return False
                if scans >= options.PASS_SCANS:
                    return True
                continue
            self._save()  # the boundaries first
            for item in ready:
                if self.stopped.is_set():
                    return False
                try:
                    self._hand_over(item, messenger)
                except MessengerError:
                    self._collect()
                    self._save()  # those before it were accepted
                    raise
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
            try:
                packed = self._packer.pack(
                    look, plan and plan[1], give_up=self._format_failures >= options.FORMAT_TRIES
                )
            except (FormatError, TsStreamerError):
                if self._out:
                    return False  # what is built goes first; then the error comes again
                raise
            if packed is None:
                return True
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
            dbid=self._database.dbid,
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
        except BaseException as error:  # SystemExit too: a messenger must not end the thread of its stream
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

    def _collect(self) -> None:
        """Take the results of futures in order; what comes after a failure is sent again with it: the order holds."""
        for item in self._out:
            if item.accepted:
                continue
            future = item.future
            if future is None:
                break
            if not future.done():
                if monotonic() - item.sent_at < self.spec.ack_timeout:
                    break
                message = f"message {item.message.sequence} was not acknowledged within {self.spec.ack_timeout} s"
                self._resend()
                raise MessengerError(message)
            if future.cancelled() or future.exception() is not None:
                error = None if future.cancelled() else future.exception()
                self._resend()
                raise _refused(item.message, error) from error
            item.accepted = True
        while self._out and self._out[0].accepted:
            message = self._out.popleft().message
            self._position, self._sequence = message.upto, message.sequence
            self._sent_rows += message.rows
            self._sent_messages += 1
            self._failures = 0

    def _resend(self) -> None:
        for item in self._out:
            if not item.accepted:
                item.future = None

    # --- the position ---

    def _save(self) -> None:
        """Bring position and boundaries into the database, if they changed."""
        plan = [(item.message.sequence, item.message.upto, item.message.timestamp) for item in self._out]
        far = self._scanned - self._stored_scanned >= options.SCAN_ROWS
        if (
            self._position == self._stored
            and plan + list(self._planned) == self._stored_plan
            and not self._letters
            and not far
        ):
            return
        plan += self._planned
        values = (
            self._position,
            self._scanned,
            self._sequence,
            json.dumps(plan),
            self.spec.name,
            self._owner,
            self._stored,
        )
        letters = list(self._letters)

        def move(database: Database) -> tuple[int, list[Any]]:
            moved = database.execute(_sql.MOVE_STREAM, values)
            if moved and letters:
                database.bury(letters)
            return moved, [] if moved else database.query(_sql.GET_STREAM, (self.spec.name,))

        if self._writer.state == "degraded":
            raise StorageError(self._writer.reason)  # it is retrying; do not wait with it
        moved, found = self._writer.run(move, options.SAVE_SECONDS)
        if moved:
            self._stored, self._stored_scanned, self._stored_plan = self._position, self._scanned, plan
            del self._letters[: len(letters)]
        elif self.stopped.is_set():
            return
        elif not found:
            # The file is a new one: so is the stream, and the database's identity in the messages says so.
            self._load(self._writer.run(lambda database: self._claim(database, None)))
            message = "the database was replaced: beginning again with its first row"
            raise MessengerError(message)
        elif found[0][5] == self._owner:
            self._load(found[0])  # retention deleted rows that were not sent, and moved the position past them
            message = "rows were deleted before they were sent"
            raise MessengerError(message)
        else:
            message = f"stream {self.spec.name!r} was taken over by another sender"
            self._error = MessengerError(message)
            raise self._error

    # --- state ---

    def _fail(self, now: float, error: Exception) -> None:
        if isinstance(error, FormatError):
            self._format_failures += 1
        if self._error is not None or isinstance(error, FilterError):
            self._stop(self._error or error)
            return
        self._last_error = str(error)
        delay = min(options.BACKOFF_LAST, options.BACKOFF_FIRST * 2 ** min(self._failures, 30))
        self._failures += 1
        self._retry_at = now + delay * random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)
        self._due = min(self._due, self._retry_at)
        self._enter("backing off")

    def _stop(self, error: Exception) -> None:
        self._last_error = str(error)
        self._enter("stopped")

    def _enter(self, state: str) -> None:
        if state != self._state:
            self._state, self._since = state, time.time()

    def unsent(self) -> int:
        """Return the committed ids after the position; -1 where the file cannot be read any more."""
        try:
            ((newest,),) = self._database.read(self.spec.table.last_id)
        except StorageError:
            return -1
        return max(0, int(newest) - max(self._position, self._scanned if not self._out else 0))

    def stats(self) -> StreamStats:
        """Return a snapshot; reads the database."""
        position = self._position
        times = self._database.read(self.spec.table.oldest_time, (position,))
        late = self.unsent()
        oldest = times[0][0] if times and late else None
        return StreamStats(
            storage=self.spec.table.key,
            state=self._state,
            since=self._since,
            lastError=self._last_error,
            position=position,
            sentRows=self._sent_rows,
            sentMessages=self._sent_messages,
            inFlight=sum(item.future is not None for item in self._out),
            deadRows=self._dead_rows,
            lagRows=late,
            lagSeconds=max(0.0, time.time() - oldest) if isinstance(oldest, float) else 0.0,
        )


def _refused(message: Message, error: BaseException | None) -> MessengerError:
    what = "its future was cancelled" if error is None else f"{type(error).__name__}: {error}"
    return MessengerError(f"message {message.sequence} of stream {message.stream!r} was not accepted: {what}")
