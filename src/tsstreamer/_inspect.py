"""Looks at a database from outside: its last rows and its dead letters, made fit for a terminal.

Contract: the file is opened read-only, is never created and never changed; the process that writes it goes on
meanwhile. What goes to a terminal is one line for each row, without control characters.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

from tsstreamer import _filter, _sql
from tsstreamer._database import storage_error
from tsstreamer.errors import StorageError, UnknownStorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUSY_SECONDS = 5.0
_POLL_SECONDS = 0.25
_CHUNK_ROWS = 1_000


class Database:
    """A database of this package, opened to read; used by one thread."""

    def __init__(self, path: str) -> None:
        """Open the database.

        Raises:
            StorageError: There is no such file, it cannot be read, or it is no database of this package.
        """
        self.path = path
        try:
            found = Path(path).is_file()
        except ValueError as error:  # a NUL character
            raise storage_error(error, "cannot read", path) from error
        if not found:
            hint = "that is not a file" if Path(path).exists() else "there is no such file"
            message = f"cannot read {path!r}: {hint}"
            raise StorageError(message)
        uri = Path(path).resolve().as_uri() + "?mode=ro"
        try:
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)
        except sqlite3.Error as error:
            raise storage_error(error, "cannot read", path) from error
        try:
            # Another program may have written text that is not UTF-8.
            self._connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        if not self.query("SELECT count(*) FROM sqlite_master WHERE name = 'tsstreamer_storages'")[0][0]:
            message = f"cannot read {self.path!r}: a SQLite database, but not one that tsstreamer made"
            raise StorageError(message)
        self.meta = dict(self.query("SELECT name, value FROM tsstreamer_meta"))
        if self.meta.get("schema") != _sql.SCHEMA_VERSION:
            message = (
                f"cannot read {self.path!r}: its schema version is {self.meta.get('schema')!r}, "
                f"this release knows {_sql.SCHEMA_VERSION}: use the release that wrote it"
            )
            raise StorageError(message)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def query(self, statement: str, values: tuple[object, ...] | list[object] = ()) -> list[Any]:
        """Return all rows of a query.

        Raises:
            StorageError: SQLite said no.
        """
        try:
            return self._connection.execute(statement, values).fetchall()
        except (sqlite3.Error, MemoryError) as error:
            raise storage_error(error, "cannot read", self.path) from error

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Hold one read transaction."""
        self.query("BEGIN")
        try:
            yield
        finally:
            self._connection.rollback()

    def storages(self) -> list[str]:
        """Return the keys of the storages."""
        return [key for (key,) in self.query("SELECT key FROM tsstreamer_storages ORDER BY key")]

    def columns(self, key: str) -> list[tuple[str, str]]:
        """Return name and type of each column, ``id`` and ``time`` first.

        Raises:
            UnknownStorageError: There is no such storage; the text names those that are there.
        """
        known = self.storages()
        if key not in known:
            message = f"{self.path!r} holds no storage {key!r}, only: {', '.join(map(repr, known)) or 'none yet'}"
            raise UnknownStorageError(message)
        return [(row[1], row[2]) for row in self.query(f"PRAGMA table_info({_sql.quote(key)})")]

    def last_id(self, key: str) -> int:
        """Return the greatest id that a row of the storage ever had, 0 without rows."""
        rows = self.query("SELECT seq FROM sqlite_sequence WHERE name = ?", (key,))
        return int(rows[0][0]) if rows else 0


def tail(database: Database, key: str, count: int, sqlfilter: str, *, follow: bool) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the last `count` rows that pass the filter; with `follow`, then the new ones as they are committed.

    Raises:
        UnknownStorageError: There is no such storage.
        FilterError: The filter is not a plain condition over the storage's columns.
        StorageError: The file was deleted or replaced while it was followed, or cannot be read.
    """
    columns = database.columns(key)
    checked = _filter.check(sqlfilter, (), columns[1:])
    condition = f"AND ({checked.sql}\n)" if checked.sql else ""
    names = ", ".join(_sql.quote(name) for name, _ in columns)
    rows = f"SELECT {names} FROM {_sql.quote(key)} WHERE "  # noqa: S608  (names quoted, filter checked)
    opened = _identity(database.path)
    with database.snapshot():
        seen = database.last_id(key)
        last = database.query(f"{rows} id <= ? {condition} ORDER BY id DESC LIMIT ?", (seen, count))
    yield last[::-1]
    while follow:
        with database.snapshot():
            end = database.last_id(key)
            new = database.query(f"{rows} id > ? AND id <= ? {condition} ORDER BY id LIMIT ?", (seen, end, _CHUNK_ROWS))
        seen = new[-1][0] if len(new) == _CHUNK_ROWS else end
        yield new
        if len(new) < _CHUNK_ROWS:
            if _identity(database.path) != opened:
                message = (
                    f"{database.path!r} was deleted or replaced while it was followed; start again to see the new one"
                )
                raise StorageError(message)
            sleep(_POLL_SECONDS)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def dead(database: Database) -> Iterator[tuple[Any, ...]]:
    """Yield the dead letters: id, time of the row, storage, stream, id of the row, reason, the row's values."""
    yield from database.query("SELECT id, time, storage, stream, rowid_, reason, row FROM tsstreamer_dead ORDER BY id")


def show(value: object) -> str:
    """Return a value as text of one line: control characters are escaped, bytes are hexadecimal, NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def show_time(value: object) -> str:
    """Return a timestamp in local time with milliseconds; what is no time of this calendar stays as it is."""
    try:
        return datetime.fromtimestamp(value, UTC).astimezone().isoformat(" ", "milliseconds")  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return show(value)
