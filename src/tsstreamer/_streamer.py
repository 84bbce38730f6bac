"""`SqliteDataStreamer`: checks what users say, puts the parts together, and orders the shutdown."""

from __future__ import annotations

import inspect
import math
import os
import sys
import threading
import warnings
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from tsstreamer import _filter, _process
from tsstreamer import _options as options
from tsstreamer._backlog import Backlog
from tsstreamer._database import Database
from tsstreamer._destinations import check_destinations
from tsstreamer._packing import Budget, Packer
from tsstreamer._retention import Rule
from tsstreamer._scheduler import Runner
from tsstreamer._sender import Sender, StreamSpec
from tsstreamer._sql import Table, check_name
from tsstreamer._writer import Writer
from tsstreamer.errors import (
    StorageError,
    StreamerClosedError,
    StreamExistsError,
    TsStreamerError,
    UnknownStorageError,
    UnknownStreamError,
)
from tsstreamer.formatters import SqlFormatter, YamlFormatter
from tsstreamer.model import CONTENTTYPE_YAML, CloseReport, Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import TracebackType

    from tsstreamer.protocols import FormatFunction, Messenger

__all__ = ["SqliteDataStreamer"]


class SqliteDataStreamer:
    """Stores rows of many threads in an SQLite file, and streams them to other nodes.

    Any method may be called from any thread. `storeData` takes no lock, touches no file and never waits for SQLite (for
    room it may: ``overflow="block"``), so signal handlers and finalizers may call it. A streamer belongs to the process
    that made it.

    Example:
        >>> streamer = SqliteDataStreamer(":memory:")
        >>> streamer.addStorage("readings", ["sensor", "value"], ["VARCHAR", "REAL"])
        >>> streamer.storeData("readings", 1700000000.0, "north", 21.5)
        >>> streamer.close().stored
        1
    """

    _database: Database
    _writer: Writer | None = None

    def __init__(
        self,
        sqlitename: str | os.PathLike[str],
        threadHack: bool = True,  # noqa: ARG002  (documented; the writer thread makes it unnecessary)
        *,
        nodename: str | None = None,
        flushInterval: float = options.FLUSH_INTERVAL,
        maxPending: int = options.MAX_PENDING,
        overflow: str = "block",
        blockTimeout: float = options.BLOCK_TIMEOUT,
        synchronous: str = "NORMAL",
        onError: Callable[[TsStreamerError | None], object] | None = None,
    ) -> None:
        """Open or create the database and start the writer thread.

        Args:
            sqlitename: Path of the database file, or ``":memory:"``.
            threadHack: Accepted for the sake of older callers; changes nothing.
            nodename: Name of this node in messages; the host's name unless given.
            flushInterval: Seconds that rows are gathered before they are committed: what a killed process may lose.
            maxPending: Rows that may wait in each storage; the transaction in progress, 16 380 rows at most, comes on
                top, and each storing thread may exceed it by one.
            overflow: What happens to a row that finds no room: ``"block"``, ``"dropNewest"``, ``"dropOldest"`` or
                ``"raise"``.
            blockTimeout: Seconds that ``"block"`` waits before `BufferFullError`.
            synchronous: SQLite's setting: ``"NORMAL"`` survives the process, ``"FULL"`` also a power loss, at one sync
                for each commit.
            onError: Called in the writer's thread once for each change of state: with the error when writing fails,
                with None when it works again. What it raises is printed and otherwise ignored.

        Raises:
            TypeError: An argument has a wrong type.
            ValueError: An argument is out of its range.
            StorageError: The file cannot be used; the text says why and what may help.
        """
        self._nodename = _node_name(nodename)
        if overflow not in options.OVERFLOWS:
            raise ValueError(_complaint("overflow", f"one of {', '.join(options.OVERFLOWS)}", overflow))
        if not isinstance(synchronous, str) or synchronous.upper() not in options.SYNCHRONOUS:
            raise ValueError(_complaint("synchronous", f"one of {', '.join(options.SYNCHRONOUS)}", synchronous))
        if onError is not None and not callable(onError):
            raise TypeError(_complaint("onError", "callable", onError))
        name = os.fspath(sqlitename) if isinstance(sqlitename, (str, os.PathLike)) else None
        if not isinstance(name, str) or not name:
            raise TypeError(_complaint("sqlitename", "a path or ':memory:'", sqlitename))
        interval = min(_number("flushInterval", flushInterval, least=0.0), threading.TIMEOUT_MAX)
        self._max_pending = _whole("maxPending", maxPending)
        self._overflow = overflow
        self._block_timeout = min(_number("blockTimeout", blockTimeout, least=0.0), threading.TIMEOUT_MAX)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._adding = threading.Lock()
        self._backlogs: dict[str, Backlog] = {}
        self._stores: dict[str, Callable[[float, tuple[object, ...]], None]] = {}
        self._senders: dict[str, Sender] = {}
        self._runners: dict[str, Runner] = {}
        self._ending: list[Runner] = []
        self._messenger: Messenger | None = None
        self._closing = False
        self._gate = threading.Lock()  # held by the thread that closes
        self._closer: threading.Thread | None = None
        self._closed = False
        self._report = CloseReport(stored=0, rejected=0)

        def opened() -> SqliteDataStreamer:
            self._database = Database(name, synchronous.upper())
            return self

        _process.register(opened)
        writer = Writer(self._database, interval, onError)
        try:
            writer.start()
        except BaseException:
            self._database.close()
            raise
        self._writer = writer

    # --- storing ---

    def addStorage(
        self,
        key: str,
        keys: Sequence[str],
        types: Sequence[str],
        *,
        maxAge: float | None = None,
        maxRows: int | None = None,
        keepUnsent: bool = True,
    ) -> None:
        """Create the table `key` with columns ``id``, ``time`` and `keys`, or use the one that exists.

        Waits for the commit. Again with the same columns it does nothing, or sets a new `maxAge` or `maxRows`.

        Args:
            key: Name of the storage and of its table.
            keys: Names of the columns.
            types: An SQLite type for each column, such as VARCHAR, INTEGER, REAL, BLOB; SQLite's rules of affinity
                apply to values.
            maxAge: Seconds after which rows are deleted, by their timestamps.
            maxRows: Rows that are kept.
            keepUnsent: Whether a row that a stream has still to send is kept beyond `maxAge` and `maxRows`.

        Raises:
            TypeError: An argument has a wrong type.
            ValueError: A name or type cannot be used, or a number is out of range.
            SchemaMismatchError: The storage or table exists with other columns.
            StorageError: SQLite said no.
            StreamerClosedError: The streamer is closed or belongs to another process.
        """
        table = Table.checked(key, keys, types)
        age = None if maxAge is None else _number("maxAge", maxAge, above=0.0)
        rows = None if maxRows is None else _whole("maxRows", maxRows)
        writer = self._open_writer()
        # Not under `_lock`: a database that somebody has locked must not hold `close` up.
        with self._adding:
            try:
                writer.run(lambda database: database.add_table(table))
                backlog = self._backlogs.get(key)
                if backlog is None:
                    backlog = Backlog(table, writer.wake, self._max_pending, self._overflow, self._block_timeout)
                elif age is rows is None:
                    return
                rule = Rule(backlog, age, rows, bool(keepUnsent))
                writer.run(rule.register)
            except StorageError:
                if self._closing:
                    raise self._refusal() from None
                raise
            writer.add(rule)
            with self._lock:
                self._backlogs[key] = backlog
                if self._closing:  # a close came in between, and may not have seen it
                    backlog.refuse(self._refusal)
                self._stores[key] = backlog.store

    def storeData(self, key: str, timestamp: float, *values: object) -> None:
        """Store a row. When this returns, the row will be committed before `close` returns.

        Args:
            key: A storage.
            timestamp: Seconds since 1970.
            values: One for each column: None, bool, int, float, str, bytes, or a numpy scalar. NaN becomes NULL, a bool
                0 or 1.

        Raises:
            UnknownStorageError: There is no such storage.
            TypeError: A wrong number of values, or a value of a type that SQLite cannot hold.
            ValueError: The timestamp is not finite, an integer has more than 64 bits, or text holds a lone surrogate.
            BufferFullError: There is no room, and the overflow policy says so.
            StreamerClosedError: The streamer is closed or belongs to another process.
        """
        try:
            store = self._stores[key]
        except (KeyError, TypeError):
            raise self._unknown_storage(key) from None
        store(timestamp, values)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every row stored before the call is committed; False if that took longer than `timeout` seconds.

        Raises:
            TypeError, ValueError: `timeout` is not a number of seconds.
            StreamerClosedError: The streamer is closed or belongs to another process.
        """
        return self._open_writer().flush(_timeout(timeout))

    # --- streaming ---

    def stream(  # noqa: PLR0917  (the documented call)
        self,
        key: str,
        dstnodes: Collection[str] | None = None,
        dstgroups: Collection[str] | None = None,
        dstdocks: Collection[str] | None = None,
        period: float = options.PERIOD,
        formatter: FormatFunction | SqlFormatter | None = None,
        *,
        sqlfilter: str | None = None,
        sqlfile: str | None = None,
        sqlparams: Sequence[object] = (),
        userdata: object = None,
        name: str | None = None,
        since: float | str | None = None,
        contenttype: int | None = None,
        maxRows: int = options.MESSAGE_ROWS,
        maxBytes: int = options.MESSAGE_BYTES,
        window: int = options.WINDOW,
        ackTimeout: float = options.ACK_TIMEOUT,
    ) -> None:
        """Send the rows of a storage, from the first or from where an earlier process stopped, in id order.

        Args:
            key: A storage.
            dstnodes: Names of the nodes to send to.
            dstgroups: Names of the groups to send to.
            dstdocks: Names of the docks at each destination.
            period: Seconds between two passes.
            formatter: ``f(data, userdata)`` or ``f(streamer, data, userdata)`` returning str or bytes, where data is a
                list of rows ``[time, value, …]``; or a `SqlFormatter`. `YamlFormatter` unless given.
            sqlfilter: A condition over the storage's columns, which may begin with AND or WHERE; only such rows are
                sent.
            sqlfile: Another name of `sqlfilter`.
            sqlparams: Values for the ``?`` in the condition.
            userdata: Handed to the formatter, and returned by `stopStream`.
            name: Name of the stream, `key` unless given.
            since: Where a new stream begins: a timestamp (the first row that is not older), or ``"now"``. A stream that
                was sent before goes on where it stopped.
            contenttype: Number of the kind of data in messages; the formatter's own, or 5 (YAML).
            maxRows: Rows in one message.
            maxBytes: Length of the data of one message, where one row is not longer by itself.
            window: Messages that are built ahead and, where the messenger returns futures, in flight.
            ackTimeout: Seconds until a future that is not done counts as a failure.

        Raises:
            UnknownStorageError: There is no such storage.
            StreamExistsError: A stream of that name is running.
            FilterError: The condition is not one that may be used.
            TypeError, ValueError: Another argument is wrong; both `sqlfilter` and `sqlfile` is a TypeError.
            StorageError: SQLite said no.
            StreamerClosedError: The streamer is closed or belongs to another process.
        """
        writer = self._open_writer()
        backlog = self._backlogs.get(key) if isinstance(key, str) else None
        if backlog is None:
            raise self._unknown_storage(key)
        table = backlog.table
        stream = table.key if name is None else check_name("the name of a stream", name)
        nodes, groups, docks = check_destinations(self._nodename, stream, dstnodes, dstgroups, dstdocks)
        if sqlfilter is not None and sqlfile is not None:
            message = f"give sqlfilter or its other name sqlfile, not both: {sqlfilter!r}, {sqlfile!r}"
            raise TypeError(message)
        columns = list(zip(table.columns, table.types, strict=True))
        condition = _filter.check(
            next((text for text in (sqlfilter, sqlfile) if text is not None), ""), sqlparams, columns
        )
        bound, kind = self._bind(formatter, userdata)
        spec = StreamSpec(
            name=stream,
            table=table,
            nodename=self._nodename,
            dstnodes=nodes,
            dstgroups=groups,
            dstdocks=docks,
            period=_number("period", period, above=0.0),
            contenttype=kind if contenttype is None else _whole("contenttype", contenttype, least=0, most=255),
            userdata=userdata,
            window=_whole("window", window),
            ack_timeout=_number("ackTimeout", ackTimeout, above=0.0),
        )
        budget = Budget(_whole("maxRows", maxRows), _whole("maxBytes", maxBytes))
        if since is not None and since != "now":
            since = _number("since", since)
        packer = Packer(self._database, table, condition, bound, nodename=self._nodename, budget=budget)
        sender = Sender(spec, packer, self._database, writer)
        with sender.lock:  # updates pass it by until it has its position
            with self._lock:
                if stream in self._senders:
                    message = f"a stream {stream!r} is running: stop it first, or give this one another name="
                    raise StreamExistsError(message)
                self._senders[stream] = sender
            try:
                # Not under `_lock`: a database that somebody has locked must not hold `close` up.
                if since == "now":
                    writer.flush(options.OPEN_SECONDS, patient=False)
                sender.claim(since)
                with self._lock:
                    if self._messenger is not None and not sender.stopped.is_set():
                        self._run(sender)
            except BaseException:
                with self._lock:
                    sender.stopped.set()
                    self._senders.pop(stream, None)
                    self._runners.pop(stream, None)
                raise

    def doUpdates(self, now: float, messenger: Messenger) -> float:
        """Send what is due at `now`, after everything stored before the call is committed.

        Messages are sent by the calling thread, with no lock held; a `send` that takes long delays this call and the
        streams after it, and nothing else (see `startUpdates`).

        Args:
            now: Seconds on any clock, the same in each call; it may stand still or go back.
            messenger: An object with ``send(message)``.

        Returns:
            The earliest time on that clock at which a stream is due, `math.inf` without streams. Not after `now` where
            more is waiting than one pass may send.

        Raises:
            TypeError: `now` is not a number or `messenger` cannot send.
            ValueError: `now` is not finite.
            TsStreamerError: `startUpdates` is running.
            StreamerClosedError: The streamer is closed or belongs to another process.
        """
        now = _number("now", now)
        _check_messenger(messenger)
        writer = self._open_writer()
        if self._messenger is not None:
            message = "startUpdates is running: it sends by itself, stop it with stopUpdates first"
            raise TsStreamerError(message)
        writer.flush(None, patient=False)
        busy = set()
        for sender in list(self._senders.values()):
            # A stream that another thread is sending, or this one further up, is in good hands.
            if not sender.lock.acquire(blocking=False):
                busy.add(sender)
                continue
            try:
                if sender.due(now):
                    sender.step(now, messenger, now)
            finally:
                sender.lock.release()
        senders = list(self._senders.values())
        times = (now + each.spec.period if each in busy else each.next_due(options.ACK_POLL) for each in senders)
        return max(now, min(times, default=math.inf))

    def stopStream(self, name: str) -> Any:  # noqa: ANN401  (the user's own object)
        """Stop a stream and forget its position; return its `userdata`.

        A message that is being sent is not waited for.

        Raises:
            UnknownStreamError: No such stream is running.
            StorageError: SQLite said no; the stream is stopped, its position may still be there.
            StreamerClosedError: The streamer is closed or belongs to another process.
        """
        self._open_writer()
        with self._lock:
            sender = self._senders.pop(name, None) if isinstance(name, str) else None
            if sender is None:
                message = f"no stream {name!r}; running: {', '.join(sorted(self._senders)) or 'none'}"
                raise UnknownStreamError(message)
            runner = self._runners.pop(sender.spec.name, None)
        sender.stopped.set()
        if runner is not None:
            runner.end(monotonic())
        sender.forget()
        return sender.spec.userdata

    def startUpdates(self, messenger: Messenger) -> None:
        """Send by itself from now on: one thread for each stream, so that a `send` that hangs delays its stream alone.

        `messenger.send` is called from these threads, for different streams at the same time.

        Raises:
            TypeError: `messenger` cannot send.
            TsStreamerError: Updates are running.
            StreamerClosedError: The streamer is closed or belongs to another process.
        """
        _check_messenger(messenger)
        self._open_writer()
        with self._lock:
            if self._messenger is not None:
                message = "startUpdates is running: stop it with stopUpdates first"
                raise TsStreamerError(message)
            self._messenger = messenger
            try:
                for sender in self._senders.values():
                    self._run(sender)
            except BaseException:
                self._stop_updates(monotonic())
                raise

    def stopUpdates(self, timeout: float | None = None) -> bool:
        """Stop what `startUpdates` started, after a last pass; does nothing if it is not running.

        Returns:
            False if a thread is still sending after `timeout` seconds (30 unless given); it ends when its `send`
            returns.

        Raises:
            TypeError, ValueError: `timeout` is not a number of seconds.
            StreamerClosedError: The streamer belongs to another process.
        """
        seconds = _timeout(timeout)
        self._check_process()
        return self._stop_updates(monotonic() + (options.EXIT_SECONDS if seconds is None else seconds))

    # --- ending ---

    def close(self, timeout: float | None = None) -> CloseReport:
        """Stop accepting, commit the rest, send what `startUpdates` has left, end the threads, close the file.

        Idempotent: a further call returns the same report. Called at the interpreter's exit, and by ``with``. From
        within a messenger, formatter or `onError` it does not wait for the thread that it is called from; the report
        is then not final where that thread has to end first.

        Args:
            timeout: Seconds for all of it; without, committing takes as long as it takes, and sending at most 30 s.

        Returns:
            What was stored, rejected, dropped, and left unsent.

        Raises:
            StorageError: Some accepted rows could not be committed in time; the text has their number. Everything is
                closed all the same.
            TypeError, ValueError: `timeout` is not a number of seconds.
            StreamerClosedError: The streamer belongs to another process.
        """
        seconds = _timeout(timeout)
        self._check_process()
        deadline = None if seconds is None else monotonic() + seconds
        self._closing = True
        if self._is_waited_for():
            return self._report
        if self._writer is not None and self._writer.is_current():
            # The writer must go on for this to end.
            threading.Thread(target=self.close, args=(seconds,), name="tsstreamer-close", daemon=True).start()
            return self._report
        if not self._gate.acquire(timeout=-1 if seconds is None else seconds):
            message = f"another thread is still closing after {seconds} s"
            raise StorageError(message)
        try:
            # An exception in here, such as KeyboardInterrupt, leaves the rest to the next call, at exit at the latest.
            self._closer = threading.current_thread()
            if not self._closed:
                self._close(deadline)
        finally:
            self._closer = None
            self._gate.release()
        return self._report

    def _is_waited_for(self) -> bool:
        """Say whether the caller is what a close waits for: the closing thread itself, further up, or a stream's."""
        closer, caller = self._closer, threading.current_thread()
        return closer is not None and (closer is caller or any(runner.is_current() for runner in self._ending))

    def _close(self, deadline: float | None) -> None:
        writer = self._writer
        if writer is None:
            return
        for backlog in list(self._backlogs.values()):
            backlog.refuse(self._refusal)
        writer.flush(_left(deadline), patient=deadline is None or _left(deadline) != 0)
        self._stop_updates(deadline if deadline is not None else monotonic() + options.EXIT_SECONDS)
        for sender in list(self._senders.values()):
            sender.stopped.set()
        ended = writer.finish(_left(deadline))
        unsent = {name: sender.unsent() for name, sender in list(self._senders.items())}
        ledgers = [backlog.stats() for backlog in self._backlogs.values()]
        dropped = sum((Counter(ledger.dropped) for ledger in ledgers), Counter())
        lost = sum(ledger.pending for ledger in ledgers) + dropped["close"]
        self._report = CloseReport(
            stored=sum(ledger.committed for ledger in ledgers),
            rejected=sum(ledger.rejected for ledger in ledgers),
            dropped=dict(dropped),
            unsent=unsent,
        )
        if ended:
            self._database.close(clean=not lost)
        else:
            # Closing a connection that another thread is using is a segmentation fault: let it be.
            _process.keep(self._database.leak())
        self._closed = True
        if lost:
            message = f"close: {lost} rows could not be committed: {writer.reason or 'the writer did not end in time'}"
            raise StorageError(message)

    def __enter__(self) -> Self:
        """Return the streamer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; in a forked child, where there is nothing to close, do nothing."""
        if os.getpid() == self._pid:
            self.close()

    def __del__(self) -> None:
        """Close a streamer that was forgotten, and say so; its rows are stored all the same."""
        if self._writer is None or self._closing or os.getpid() != self._pid:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self.close(options.EXIT_SECONDS)

    def __repr__(self) -> str:
        """Name the class and the file."""
        name = self._database.name if "_database" in vars(self) else "?"
        return f"<{type(self).__name__} {name!r}>"

    # --- watching ---

    def stats(self) -> Stats:
        """Return a snapshot: state, ledger of each storage, state of each stream (none once it is closed).

        Raises:
            StreamerClosedError: The streamer belongs to another process.
        """
        self._check_process()
        writer = self._writer
        assert writer is not None  # noqa: S101  (set by the constructor)
        streams = {}
        for name, sender in list(self._senders.items()):
            if self._closing:
                break
            streams[name] = sender.stats()
        log, size = self._database.sizes()
        return Stats(
            state=writer.state,
            reason=writer.reason,
            since=writer.since,
            storages={key: backlog.stats() for key, backlog in list(self._backlogs.items())},
            streams=streams,
            commits=writer.commits,
            walBytes=log,
            databaseBytes=size,
        )

    # --- inside ---

    def _bind(self, formatter: Any, userdata: object) -> tuple[Any, int]:  # noqa: ANN401  (checked here)
        """Decide once which form a formatter has; return what the packer calls, and its content type."""
        if formatter is None:
            formatter = YamlFormatter()
        if isinstance(formatter, SqlFormatter):
            return formatter, formatter.contenttype
        wanted = "f(data, userdata) or f(self, data, userdata)"
        # The call of an object decides as a function does; `type` keeps its attributes out of it.
        function = formatter if inspect.isroutine(formatter) else getattr(type(formatter), "__call__", None)  # noqa: B004
        later = inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function)
        if not callable(formatter) or inspect.isclass(formatter) or later:
            raise TypeError(_complaint("formatter", wanted, formatter))
        try:
            signature = inspect.signature(formatter)
        except (TypeError, ValueError) as error:
            raise TypeError(_complaint("formatter", wanted, formatter)) from error
        if _takes(signature, 3) and (not _takes(signature, 2) or next(iter(signature.parameters)) == "self"):
            return lambda data: formatter(self, data, userdata), CONTENTTYPE_YAML
        if not _takes(signature, 2):
            raise TypeError(_complaint("formatter", wanted, formatter))
        return lambda data: formatter(data, userdata), CONTENTTYPE_YAML

    def _run(self, sender: Sender) -> None:
        assert self._messenger is not None  # noqa: S101  (the callers hold the lock and looked)
        if sender.spec.name not in self._runners:
            writer = self._open_writer()
            runner = Runner(sender, self._messenger, lambda: writer.flush(options.SAVE_SECONDS, patient=False))
            self._runners[sender.spec.name] = runner

    def _stop_updates(self, deadline: float) -> bool:
        with self._lock:
            runners, self._runners, self._messenger = list(self._runners.values()), {}, None
        self._ending = runners
        for runner in runners:
            runner.end(deadline)
        ended = [runner.join(deadline) for runner in runners]
        return all(ended)

    def _unknown_storage(self, key: object) -> UnknownStorageError | StreamerClosedError:
        if self._closing or os.getpid() != self._pid:
            return self._refusal()
        known = ", ".join(map(repr, self._stores)) or "none"
        return UnknownStorageError(f"no storage {key!r}: call addStorage first; there are: {known}")

    def _open_writer(self) -> Writer:
        self._check_process()
        if self._closing or self._writer is None:
            raise self._refusal()
        return self._writer

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise self._refusal()

    def _refusal(self) -> StreamerClosedError:
        if os.getpid() != self._pid:
            return StreamerClosedError(f"{self!r} belongs to process {self._pid}: make another one after the fork")
        return StreamerClosedError(f"{self!r} is closed")

    def _forked(self) -> None:
        for backlog in self._backlogs.values():
            backlog.forked(self._refusal)

    def _exiting(self, *, last: bool) -> None:
        writer = self._writer
        if writer is None or self._closed:
            return
        if last:
            self.close(options.EXIT_SECONDS)
        elif not self._closing:
            writer.flush(options.EXIT_SECONDS, patient=False)


def _takes(signature: inspect.Signature, number: int) -> bool:
    try:
        signature.bind(*range(number))
    except TypeError:
        return False
    return True


def _complaint(what: str, wanted: str, got: object) -> str:
    return f"{what} must be {wanted}, got {got!r}"


def _node_name(nodename: str | None) -> str:
    if nodename is None:
        return os.uname().nodename
    if not isinstance(nodename, str):
        raise TypeError(_complaint("nodename", "a str", nodename))
    check_destinations(nodename, "-", None, None, None)
    return nodename


def _number(what: str, value: object, *, least: float = -math.inf, above: float = -math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(_complaint(what, "a number", value))
    if not -sys.float_info.max <= value <= sys.float_info.max:
        raise ValueError(_complaint(what, "finite", value))
    if value <= above:
        raise ValueError(_complaint(what, "positive" if above == 0 else f"above {above}", value))
    if value < least:
        raise ValueError(_complaint(what, f"at least {least}", value))
    return float(value)


def _whole(what: str, value: object, *, least: int = 1, most: int = 2**63 - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(_complaint(what, "an int", value))
    if not least <= value <= most:
        raise ValueError(_complaint(what, f"from {least} to {most}", value))
    return value


def _timeout(value: object) -> float | None:
    return None if value is None else min(_number("timeout", value, least=0.0), threading.TIMEOUT_MAX)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())


def _check_messenger(messenger: object) -> None:
    if not callable(getattr(messenger, "send", None)):
        raise TypeError(_complaint("messenger", "an object with send(message)", messenger))
