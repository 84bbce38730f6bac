"""One SQLite file with its two connections: the writer's, and a read-only one for everybody else.

Contract:

* `lock` is held for each write transaction, `read_lock` for each read, and neither ever while user code runs. So a fork
  finds SQLite at rest, and a shared-cache memory database (where both are the same lock) never meets its table locks.
* Only the writer's connection writes and checkpoints: the defect of SQLite 3.7.0 to 3.51.2 in which a checkpoint races
  with a write of another connection (https://sqlite.org/wal.html, "the WAL-reset bug") needs two that do.
* A connection is closed under its lock or not at all: closing one that another thread uses is a segmentation fault.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
import uuid
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain, repeat
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from tsstreamer import _filter, _sql
from tsstreamer import _options as options
from tsstreamer._rows import NULL
from tsstreamer.errors import FilterError, SchemaMismatchError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tsstreamer._rows import Row
    from tsstreamer._sql import Table

__all__ = ["Database", "TooLargeError", "storage_error"]

_ROW_FAULTS = ("SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG", "SQLITE_RANGE")
_IGNORED = "a trigger of the table left the row out"
_HINTS = {
    "SQLITE_FULL": "the disk is full: free some room",
    "SQLITE_IOERR": "the disk or the file system failed: look at its free space, quota and health",
    "SQLITE_READONLY": "the file or its folder is read-only: writing needs both",
    "SQLITE_BUSY": "another process holds the lock: end its transaction",
    "SQLITE_LOCKED": "another connection holds the lock: end its transaction",
    "SQLITE_NOTADB": "this is not an SQLite database: choose another name",
    "SQLITE_CORRUPT": "the file is damaged: move it away, then look at it with `tsstreamer verify`",
    "SQLITE_CANTOPEN": "the folder must exist and be writable, and the name must be a file's",
    "SQLITE_PERM": "the permissions of the file do not allow it",
}


class TooLargeError(StorageError):
    """A read was longer than SQLite or the memory can take."""


def storage_error(cause: BaseException, doing: str, name: str) -> StorageError:
    """Make a StorageError that says what was being done, to which file, why it failed, and what may help."""
    code = getattr(cause, "sqlite_errorname", "")
    hint = next((hint for prefix, hint in _HINTS.items() if code.startswith(prefix)), "")
    text = (
        f"{doing} {name!r}: {cause or type(cause).__name__}"
        + (f" [{code}]" if code else "")
        + (f" ({hint})" if hint else "")
    )
    error = StorageError(text)
    error.__cause__ = cause
    return error


class Database:
    """The file, opened; made and opened in the user's thread, so that what can be known at open fails there."""

    def __init__(self, name: str, synchronous: str) -> None:
        """Open or create the database.

        Raises:
            StorageError: The path is bad, not a database, damaged, read-only, locked, of another schema version, or
                cannot do WAL.
        """
        # Absolute: a program that changes its folder must not go on in another file.
        self.name = name if name == ":memory:" else os.path.abspath(name)  # noqa: PTH100  (resolve() would follow links)
        self.memory = name == ":memory:"
        self.lock = threading.Lock()
        self.read_lock = self.lock if self.memory else threading.Lock()
        self.dbid = ""
        self.epoch = 0
        self.synced = synchronous in ("FULL", "EXTRA")
        """Whether each commit waits for the disk."""
        self._synchronous = synchronous
        self._owner = uuid.uuid4().hex
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._identity: tuple[int, ...] | None = None
        self._cut = False
        self._ended = False
        self._patience = options.OPEN_SECONDS
        self._variables = 0
        self._inserts: dict[tuple[str, int], str] = {}
        self._special: set[str] = set()  # keys of tables that had a trigger, or have a rule of their own for conflicts
        self._readable = {"tsstreamer_epochs"}
        self._uri = f"file:tsstreamer-{self._owner}?mode=memory&cache=shared"
        self._open()

    # --- opening and closing ---

    def _open(self) -> None:
        if not self.memory:
            self._check_path()
        try:
            self._writer = self._connect_writer()
            self._prepare()
            self._reader = self._connect_reader()
        except BaseException as error:
            self._disconnect()
            if isinstance(error, sqlite3.Error):
                raise storage_error(error, "cannot open", self.name) from error
            raise
        if not self.memory:
            self._identity, self._cut = self._look(), False

    def _check_path(self) -> None:
        path = Path(self.name)
        try:
            folder, mode = path.resolve().parent, path.stat().st_mode if path.exists() else None
            hint = "" if folder.is_dir() else f"there is no folder {str(folder)!r}"
        except (OSError, ValueError) as error:
            raise storage_error(error, "cannot open", self.name) from error
        if mode is not None and not stat.S_ISREG(mode):
            hint = "that is not a regular file"
        if hint:
            message = f"cannot open {self.name!r}: {hint}"
            raise StorageError(message)

    def _connect_writer(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._uri if self.memory else self.name,
            timeout=options.BUSY_SECONDS,
            isolation_level=None,  # every BEGIN and COMMIT is written out here
            check_same_thread=False,  # opened by the user's thread, used by the writer's
            cached_statements=1024,  # several sizes for each of many storages
            uri=self.memory,
        )
        self._writer = connection
        self._variables = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        _patiently(self._patience, lambda: connection.execute("SELECT count(*) FROM sqlite_master").fetchone())
        if self.memory:
            return connection
        (mode,) = _patiently(self._patience, lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
        if mode != "wal":
            message = f"cannot open {self.name!r}: write-ahead logging is not available here, SQLite answered {mode!r}"
            raise StorageError(message + " (WAL needs shared memory: no network file system)")
        connection.execute(f"PRAGMA journal_size_limit = {options.WAL_LIMIT_BYTES}")
        return connection

    def _prepare(self) -> None:
        """Create the library's tables, take the file's identity, and open a new epoch if it was not closed cleanly.

        With FULL: that the file is in use must survive a power loss that takes later commits back.
        """
        connection = self._connection()
        connection.execute("PRAGMA synchronous = FULL")
        _patiently(self._patience, lambda: connection.execute("BEGIN IMMEDIATE"))
        for statement in _sql.SCHEMA:
            connection.execute(statement)
        meta = dict(connection.execute("SELECT name, value FROM tsstreamer_meta").fetchall())
        version = meta.get("schema", _sql.SCHEMA_VERSION)
        if version != _sql.SCHEMA_VERSION:
            message = f"cannot open {self.name!r}: schema version {version!r}, this release knows {_sql.SCHEMA_VERSION}"
            raise StorageError(message)
        self.dbid = meta.get("dbid") or uuid.uuid4().hex
        self.epoch = int(meta.get("epoch", 1))
        if "epoch" in meta and not meta.get("clean"):
            self.epoch += 1
            connection.execute(_sql.OPEN_EPOCH, (self.epoch,))
        values = {
            "schema": _sql.SCHEMA_VERSION,
            "dbid": self.dbid,
            "epoch": self.epoch,
            "clean": 0,
            "owner": self._owner,
        }
        connection.executemany(_sql.SET_META, list(values.items()))
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _connect_reader(self) -> sqlite3.Connection:
        uri = self._uri if self.memory else Path(self.name).resolve().as_uri() + "?mode=ro"
        connection = sqlite3.connect(
            uri,
            timeout=options.BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            uri=True,
        )
        # Another program may have written text that is not UTF-8: one such row must not stop a stream.
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            if self.memory:
                connection.execute(_sql.GET_META, ("dbid",))  # no such table, where shared cache is left out of SQLite
            _filter.fence(connection, lambda: self._readable, maxBytes=1_000_000_000)
            # Room for a thousand columns, each named and told apart by type.
            connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 1_000_000)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self, *, clean: bool = False) -> None:
        """Close both connections; `clean` says that all accepted rows are committed. Call when no thread uses them."""
        with self._all_locks():
            self._ended = True
            if clean and self._writer is not None:
                # An unclean end costs the next opening an epoch and nothing else.
                with suppress(sqlite3.Error):
                    # FULL first syncs the log, so that a clean mark never outlives the rows before it.
                    self._writer.execute("PRAGMA synchronous = FULL")
                    self._writer.execute(_sql.MARK_CLEAN, (self._owner,))
            self._disconnect()

    def reopen(self) -> None:
        """Open the path anew, after the file or its log was deleted, moved or replaced under the open connections.

        Raises:
            StorageError: It cannot be opened, or closed; try again later.
        """
        with self._all_locks():
            if self._writer is not None:
                # What is in the log goes to the file that it belongs to, wherever that is now: a file that took its
                # place must not find a log that is not its own.
                (busy, _, _) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if busy:
                    message = f"cannot let go of {self.name!r}: another process still reads the old file"
                    raise StorageError(message)
            self._disconnect()
            if self._ended:
                self._connection()
            self._patience = 0.0  # the caller has its own, and the locks are held
            self._open()

    def _disconnect(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None

    def leak(self) -> tuple[object, ...]:
        """Give the open connections away, to be kept for ever: a child process must neither use nor close them."""
        connections = (self._writer, self._reader)
        self._writer = self._reader = None
        self._ended = True
        return connections

    @contextmanager
    def _all_locks(self) -> Iterator[None]:
        with self.lock, nullcontext() if self.memory else self.read_lock:
            yield

    def _connection(self) -> sqlite3.Connection:
        if self._writer is None:
            message = f"{self.name!r} is closed"
            raise StorageError(message)
        return self._writer

    # --- the file ---

    def _look(self) -> tuple[int, ...] | None:
        """Return what tells the file, its log and the log's index from others that take their names."""
        try:
            # For each batch. Never open() the file: closing it again would drop the locks that SQLite holds on it.
            found = [os.stat(self.name + suffix) for suffix in ("", "-wal", "-shm")]  # noqa: PTH116  (a Path is slower)
        except OSError:
            return None
        return (found[0].st_dev, *(each.st_ino for each in found)) if found[0].st_size else None

    def moved(self) -> bool:
        """Say whether the path no longer leads to the open files: SQLite would go on writing where nobody looks."""
        return not self.memory and (self._writer is None or self._cut or self._look() != self._identity)

    def truncated(self) -> bool:
        """Say whether the open file was cut to nothing, also if it was filled again: its log would not fit it."""
        try:
            found = os.stat(self.name)  # noqa: PTH116  (as above)
        except OSError:
            return False
        if self._identity is None or (found.st_dev, found.st_ino) != self._identity[:2]:
            return False
        self._cut = self._cut or not found.st_size
        return self._cut

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of the log and of the database file."""
        if self.memory:
            return 0, 0
        return tuple(
            path.stat().st_size if path.exists() else 0 for path in (Path(self.name + "-wal"), Path(self.name))
        )  # type: ignore[return-value]

    # --- writing: the writer's thread, inside `writing` ---

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[None]:
        """Hold one write transaction: committed at the end, rolled back by an exception.

        Args:
            alone: The block is one statement, which is a transaction by itself. BEGIN and COMMIT are statements too,
                and beside busy threads each costs what the rows cost: the time until the GIL comes back.
        """
        with self.lock:
            connection = self._connection()
            if alone:
                yield
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                # Full disks and I/O errors end the transaction by themselves: ask, do not assume.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def most_rows(self, table: Table) -> int:
        """Return how many rows one `insert` can take."""
        return max(1, min(options.STATEMENT_ROWS, self._variables // len(table.columns)))

    def insert(self, table: Table, rows: list[Row]) -> bool:
        """Insert rows in order, all in one statement; False if that is not possible, and then none of them is in."""
        if table.key in self._special:
            return False
        width, number = len(table.columns), len(rows)
        # Few sizes, as preparing a statement takes as long as it does twice; binding what fills up takes little.
        size = min(1 << (number - 1).bit_length(), self.most_rows(table))
        statement = self._inserts.get((table.key, size))
        if statement is None:
            statement = self._inserts[table.key, size] = table.insert_all(size)
        values = tuple(chain(chain.from_iterable(rows), repeat(NULL, width * (size - number))))
        try:
            stored = self._connection().execute(statement, values).rowcount
        except BaseException as error:  # a value's own conversion may raise anything, SystemExit included
            if _is_row_fault(error):
                return False
            raise
        if not stored:
            self._special.add(table.key)
        return bool(stored)

    def insert_apart(self, table: Table, rows: list[Row]) -> list[tuple[Row, str]]:
        """Insert rows in order, inside a transaction; return those that were refused for their own fault, and why."""
        refused: list[tuple[Row, str]] = []
        portions = [rows]
        while portions:
            portion = portions.pop()
            size = min(1 << (len(portion).bit_length() - 1), self.most_rows(table))
            if len(refused) >= options.HALVED_ROWS and size > 1:
                portions += [[row] for row in reversed(portion)]
                continue
            if size < len(portion):
                portions.append(portion[size:])
                portion = portion[:size]
            reason = self._refusal(table, portion)
            if reason and size > 1:
                portions += [portion[size // 2 :], portion[: size // 2]]
            elif reason:
                refused.append((portion[0], reason))
        return refused

    def _refusal(self, table: Table, rows: list[Row]) -> str:
        """Insert rows inside a transaction; return why not, and then none of them is in, or an empty string."""
        connection = self._connection()
        undo = table.key in self._special  # otherwise a statement that fails undoes itself
        if undo:
            connection.execute("SAVEPOINT portion")
        try:
            if connection.execute(table.insert(len(rows)), tuple(chain.from_iterable(rows))).rowcount != len(rows):
                raise ValueError(_IGNORED)  # noqa: TRY301  (one way for all refusals)
        except BaseException as error:  # as above
            if not connection.in_transaction or not _is_row_fault(error):
                raise
            if undo:
                connection.execute("ROLLBACK TO portion")
            return f"{type(error).__name__}: {error}"
        return ""

    def execute(self, statement: str, values: Sequence[object] | dict[str, object] = ()) -> int:
        """Execute a statement; return the number of rows it changed."""
        return self._connection().execute(statement, values).rowcount

    def query(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Query on the writer's connection, inside its transaction."""
        return self._connection().execute(statement, values).fetchall()

    def bury(self, letters: Sequence[tuple[str, str | None, int | None, float, str, Sequence[object]]]) -> None:
        """Add dead letters ``(storage, stream, id, time, reason, values)``, and delete the oldest beyond the bound."""
        connection = self._connection()
        connection.executemany(
            _sql.ADD_DEAD,
            [(*letter[:-1], json.dumps(list(map(_brief, letter[-1])))[: options.DEAD_TEXT]) for letter in letters],
        )
        connection.execute(_sql.TRIM_DEAD, (options.DEAD_LETTERS,))

    def add_table(self, table: Table) -> None:
        """Create the table, or make sure that the one that exists is the same.

        Raises:
            SchemaMismatchError: It has other columns.
        """
        found = self.query("SELECT type, name, sql FROM sqlite_master WHERE name = ? COLLATE NOCASE", (table.key,))
        self._readable.add(table.key)
        if not found:
            try:
                self.execute(table.create)
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR":  # the words, not the world
                    raise storage_error(error, f"cannot create {table.key!r} in", self.name) from error
                raise
            if self.execute(_sql.DROP_EPOCHS, (table.key,)):
                # A table of that name was dropped, so its ids come again: with a new epoch, and streams from the start.
                self.execute(_sql.DROP_STREAMS, (table.key,))
                self.epoch += 1
                self.execute(_sql.SET_META, ("epoch", self.epoch))
            self.execute(_sql.ADD_EPOCH, (table.key,))
            return
        kind, name, text = found[0]
        columns = self.query(f"PRAGMA table_info({_sql.quote(name)})")
        wanted = [("id", "INTEGER"), *zip(table.columns, table.types, strict=True)]
        existing = [(column[1], column[2]) for column in columns]
        same = [(n, t.upper()) for n, t in existing] == [(n, t.upper()) for n, t in wanted]
        if kind != "table" or name != table.key or not same or "AUTOINCREMENT" not in text.upper():
            message = f"storage {table.key!r} exists with other columns: asked for {_show(wanted)}"
            message += f", found {kind} {name!r} with {_show(existing)}"
            raise SchemaMismatchError(message)
        if "CONFLICT" in text.upper():
            self._special.add(table.key)
        self.execute(_sql.ADD_EPOCH, (table.key,))

    # --- reading: any thread ---

    def read(self, statement: str, values: Sequence[object] = (), *, bounded: bool = False) -> list[Any]:
        """Query on the reader's connection, to the end: no read stays open that would keep the log from being reused.

        Args:
            statement: The query.
            values: Its parameters.
            bounded: The query holds a user's condition, so it is interrupted when it takes too long.

        Raises:
            TooLargeError: The text of the query, or of its result, is longer than SQLite or the memory can take.
            StorageError: SQLite said no.
            FilterError: It said no to the condition, or the query took longer than it may.
        """
        with self.read_lock:
            if self._reader is None:
                message = f"{self.name!r} is closed"
                raise StorageError(message)
            try:
                with _filter.deadline(self._reader, options.SEARCH_SECONDS) if bounded else nullcontext():
                    return self._reader.execute(statement, values).fetchall()
            except (sqlite3.DataError, MemoryError) as error:
                message = f"cannot read {self.name!r}: {error or type(error).__name__}"
                raise TooLargeError(message) from error
            except sqlite3.Error as error:
                code = getattr(error, "sqlite_errorname", "")
                if bounded and code.startswith(("SQLITE_ERROR", "SQLITE_INTERRUPT", "SQLITE_AUTH")):
                    message = f"the sqlfilter failed while reading: {error}"
                    raise FilterError(message) from error
                raise storage_error(error, "cannot read", self.name) from error


def _brief(value: object) -> object:
    """Shorten a value for a dead letter; what cannot be written as JSON is described."""
    if isinstance(value, (str, bytes)):
        value = value[: options.DEAD_TEXT]
    if value != value:  # noqa: PLR0124  (what is to be NULL)
        return None
    return value if value is None or isinstance(value, (str, int, float)) else repr(value)


def _is_row_fault(error: BaseException) -> bool:
    """Tell a row's own fault (a constraint, a trigger, a value) from the world's (disk, lock, memory, no table)."""
    code = getattr(error, "sqlite_errorname", None)
    return not isinstance(error, MemoryError) if code is None else code.startswith(_ROW_FAULTS)


def _show(columns: Sequence[tuple[str, str]]) -> str:
    return "(" + ", ".join(f"{name} {declared}".rstrip() for name, declared in columns) + ")"


def _patiently(seconds: float, call: Callable[[], Any]) -> Any:  # noqa: ANN401  (whatever the call returns)
    """Repeat a call while another process holds the lock, for as long as opening may take."""
    deadline = monotonic() + seconds
    while True:
        try:
            return call()
        except sqlite3.OperationalError as error:
            if not str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_BUSY") or monotonic() > deadline:
                raise
            sleep(options.RETRY_FIRST)
