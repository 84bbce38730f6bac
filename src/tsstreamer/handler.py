"""The logging agent: a `logging.Handler` that stores records as rows of a storage.

Emitting a record formats it, stores it with one `storeData`, and returns: threads that log do not wait for each other,
for a file, or for SQLite. What cannot be stored goes to `logging.Handler.handleError`, never into the program that
logs.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from tsstreamer._streamer import SqliteDataStreamer
from tsstreamer.errors import StreamerClosedError, TsStreamerError

if TYPE_CHECKING:
    import os

__all__ = ["SqliteLogHandler"]

_NESTING = 3
"""Records of one thread that may be in the making at once: a signal handler or a finalizer may log while a record is
being
formatted. More than this is a record whose own text logs, which would never end."""

_END_SECONDS = 30.0
"""Bound of `flush` and `close`, which `logging.shutdown` calls: a locked database must not keep it alive."""

_tracebacks = logging.Formatter()


class SqliteLogHandler(logging.Handler):
    """Stores log records in seven columns: name, thread, level, filename, fileno, msg, exception.

    ``msg`` is the message with its arguments filled in; ``exception`` is the text of the traceback, followed by that of
    the stack when the record was made with ``stack_info``, or NULL. A formatter set on the handler changes only how
    these two texts of ``exception`` look. The time of a row is the time of its record.

    With a path, the handler opens a streamer of its own and closes it in `close`. With ``streamer=``, it adds its
    storage to that one and leaves it open. Either way `streamer` is there to stream from::

        handler = SqliteLogHandler("app.db", "applog")
        logging.getLogger().addHandler(handler)
        handler.streamer.stream("applog", ["collector"], [], ["log"], 1.0, YamlFormatter(), sqlfilter="level >= 30")

    In `logging.config.dictConfig`, the keyword arguments are the keys of the handler's dictionary.

    Any thread may log through it, signal handlers and finalizers too; no lock is held meanwhile. Records of the logger
    ``tsstreamer`` and of those below it are not stored: the handler never logs into itself.

    Args:
        sqlitename: Path of the database, or ``":memory:"``.
        key: Key of the storage that gets the rows.
        streamer: An open streamer to share, instead of a path.
        level: Records below it are not stored.
        maxAge: Seconds after which rows are deleted, as in `SqliteDataStreamer.addStorage`.
        maxRows: Rows that are kept at most, likewise.
        keepUnsent: Whether rows that a stream has still to send are kept in any case, likewise.
        **options: Keyword arguments of `SqliteDataStreamer`, for a streamer of its own only.

    Raises:
        TypeError: Neither or both of `sqlitename` and `streamer`, or options with a streamer that is open already.
        StorageError: The database cannot be opened.
        SchemaMismatchError: The storage exists with other columns.
    """

    keys: ClassVar[tuple[str, ...]] = ("name", "thread", "level", "filename", "fileno", "msg", "exception")
    types: ClassVar[tuple[str, ...]] = ("VARCHAR", "VARCHAR", "INTEGER", "VARCHAR", "INTEGER", "VARCHAR", "VARCHAR")

    def __init__(
        self,
        sqlitename: str | os.PathLike[str] | None = None,
        key: str = "logkey",
        *,
        streamer: SqliteDataStreamer | None = None,
        level: int | str = logging.NOTSET,
        maxAge: float | None = None,
        maxRows: int | None = None,
        keepUnsent: bool = True,
        **options: Any,  # noqa: ANN401 - whatever SqliteDataStreamer takes; it checks them itself
    ) -> None:
        self._owned = streamer is None
        if streamer is None and sqlitename is not None:
            streamer = SqliteDataStreamer(sqlitename, **options)
        elif streamer is None or sqlitename is not None:
            msg = "SqliteLogHandler needs either sqlitename= (a path) or streamer= (an open streamer)"
            raise TypeError(msg)
        elif options:
            msg = f"these options belong to the call that made the streamer: {', '.join(options)}"
            raise TypeError(msg)
        self.streamer = streamer
        self.key = key
        try:
            self.streamer.addStorage(
                key, list(self.keys), list(self.types), maxAge=maxAge, maxRows=maxRows, keepUnsent=keepUnsent
            )
            # Last: it enters the handler into the list that logging.shutdown works through, half-made ones too.
            super().__init__(level)
        except BaseException:
            if self._owned:
                self.streamer.close()
            raise
        self._local = threading.local()

    def handle(self, record: logging.LogRecord) -> bool:
        """Store the record if the handler's filters let it pass; returns whether they did.

        Overridden for what it leaves out: the handler's lock, under which all threads that log would go one by one.
        """
        passed = self.filter(record)
        if isinstance(passed, logging.LogRecord):
            record = passed
        if passed:
            self.emit(record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Store the record; failures go to `handleError`, all but `RecursionError`, as the stdlib's handlers do."""
        if record.name == "tsstreamer" or str(record.name).startswith("tsstreamer."):
            return
        local = self._local
        depth = getattr(local, "depth", 0)
        if depth > _NESTING:
            return
        local.depth = depth + 1
        try:
            if depth == _NESTING:
                _refuse(record)
            self.streamer.storeData(
                self.key,
                record.created,
                _storable(record.name),
                _storable(record.threadName),
                record.levelno,
                _storable(record.filename),
                record.lineno,
                _storable(record.getMessage()),
                _storable(self._exception(record)),
            )
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001 - logging reports in handleError, whatever it was
            self.handleError(record)
        finally:
            local.depth = depth

    def _exception(self, record: logging.LogRecord) -> str | None:
        if not (record.exc_info or record.exc_text or record.stack_info):
            return None
        formatter = self.formatter or _tracebacks
        # exc_text is what another handler made of exc_info, or all that is left of it after a QueueHandler.
        text = record.exc_text or (formatter.formatException(record.exc_info) if record.exc_info else "")
        stack = formatter.formatStack(record.stack_info) if record.stack_info else ""
        return "\n".join(filter(None, (text, stack)))

    def flush(self) -> None:
        """Wait until every record emitted before is committed, at most 30 s; return at once if all is closed."""
        with contextlib.suppress(StreamerClosedError):
            self.streamer.flush(_END_SECONDS)

    def close(self) -> None:
        """Commit what was emitted, and close the streamer if it is the handler's own; may be called again.

        Raises:
            StorageError: The handler's own streamer could not commit all records within 30 s; the text has their
                number.
        """
        try:
            with contextlib.suppress(StreamerClosedError):
                if self._owned:
                    self.streamer.close(_END_SECONDS)
                else:
                    self.streamer.flush(_END_SECONDS)
        finally:
            super().close()


def _refuse(record: logging.LogRecord) -> None:
    msg = f"a record of logger {record.name!r} was made {_NESTING} records deep: formatting it seems to log itself"
    raise TsStreamerError(msg)


def _storable(text: str | None) -> str | None:
    r"""Return `text` with lone surrogates, which UTF-8 cannot hold, written as ``\udcff``: better odd than lost."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
