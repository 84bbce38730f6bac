"""The texts of every SQL statement, and the names and types that may go into one. Knows no connection.

Names come from users: each goes through `quote`, and a declared type through `Table`, which lets only plain type names
pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA_VERSION = 1

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS tsstreamer_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS tsstreamer_storages (
        key TEXT PRIMARY KEY, maxage REAL, maxrows INTEGER, keepunsent INTEGER)""",
    """CREATE TABLE IF NOT EXISTS tsstreamer_streams (
        name TEXT PRIMARY KEY, storage TEXT, position INTEGER, scanned INTEGER, sequence INTEGER, owner TEXT,
        inflight TEXT)""",
    """CREATE TABLE IF NOT EXISTS tsstreamer_epochs (
        storage TEXT, epoch INTEGER, start INTEGER, PRIMARY KEY (storage, epoch))""",
    """CREATE TABLE IF NOT EXISTS tsstreamer_dead (
        id INTEGER PRIMARY KEY AUTOINCREMENT, storage TEXT, stream TEXT, rowid_ INTEGER, time REAL, reason TEXT,
        row TEXT)""",
    """CREATE TABLE IF NOT EXISTS tsstreamer_ledger (
        storage TEXT, reason TEXT, rows INTEGER, PRIMARY KEY (storage, reason))""",
)
GET_META = "SELECT value FROM tsstreamer_meta WHERE name = ?"
SET_META = "INSERT INTO tsstreamer_meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
MARK_CLEAN = """UPDATE tsstreamer_meta SET value = 1
    WHERE name = 'clean' AND EXISTS (SELECT * FROM tsstreamer_meta WHERE name = 'owner' AND value = ?)"""
ADD_LEDGER = "INSERT INTO tsstreamer_ledger VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows"
ADD_DEAD = "INSERT INTO tsstreamer_dead (storage, stream, rowid_, time, reason, row) VALUES (?, ?, ?, ?, ?, ?)"
TRIM_DEAD = "DELETE FROM tsstreamer_dead WHERE id <= (SELECT max(id) FROM tsstreamer_dead) - ?"
OPEN_EPOCH = """INSERT OR IGNORE INTO tsstreamer_epochs
    SELECT DISTINCT storage, ?, coalesce((SELECT seq FROM sqlite_sequence WHERE name = storage), 0) + 1
    FROM tsstreamer_epochs"""
ADD_EPOCH = "INSERT OR IGNORE INTO tsstreamer_epochs SELECT ?, value, 1 FROM tsstreamer_meta WHERE name = 'epoch'"
SET_STORAGE = """INSERT INTO tsstreamer_storages VALUES (?, ?, ?, ?) ON CONFLICT (key)
    DO UPDATE SET maxage = excluded.maxage, maxrows = excluded.maxrows, keepunsent = excluded.keepunsent"""
EPOCHS = "SELECT epoch, start FROM tsstreamer_epochs WHERE storage = ? ORDER BY epoch"
GET_STREAM = "SELECT storage, position, scanned, sequence, inflight, owner FROM tsstreamer_streams WHERE name = ?"
NEW_STREAM = "INSERT INTO tsstreamer_streams VALUES (?, ?, ?, ?, 0, ?, '[]')"
CLAIM_STREAM = "UPDATE tsstreamer_streams SET owner = ? WHERE name = ?"
MOVE_STREAM = """UPDATE tsstreamer_streams SET position = ?, scanned = ?, sequence = ?, inflight = ?
    WHERE name = ? AND owner = ? AND position = ?"""
DROP_STREAMS = "DELETE FROM tsstreamer_streams WHERE storage = ?"
DROP_EPOCHS = "DELETE FROM tsstreamer_epochs WHERE storage = ?"
DROP_STREAM = "DELETE FROM tsstreamer_streams WHERE name = ? AND owner = ?"
SKIP_STREAMS = """UPDATE tsstreamer_streams
    SET position = max(position, :upto), scanned = max(scanned, :upto)
    WHERE storage = :key AND position < :upto"""
KNOWN_DEAD = "SELECT rowid_, time FROM tsstreamer_dead WHERE storage = ? AND stream = ?"
UNSENT = "SELECT min(scanned) FROM tsstreamer_streams WHERE storage = ?"

_CONSTRAINTS = frozenset({
    "ALWAYS", "AS", "AUTOINCREMENT", "CHECK", "COLLATE", "CONSTRAINT", "DEFAULT", "GENERATED", "KEY", "NOT", "NULL",
    "ON", "PRIMARY", "REFERENCES", "STORED", "UNIQUE",
})  # fmt: skip
_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?: [A-Za-z_][A-Za-z0-9_]*)*(?: ?\( ?[0-9]+ ?(?:, ?[0-9]+ ?)?\))?", re.ASCII)
_MOST_COLUMNS = 1_000
_PART_ROWS = 256


def quote(name: str) -> str:
    """Quote an identifier: whatever it holds, it stays one name."""
    return '"' + name.replace('"', '""') + '"'


def check_name(what: str, name: object) -> str:
    """Return `name` if it can be the name of a table or column.

    Raises:
        TypeError: It is not a str.
        ValueError: It is empty, holds NUL or a lone surrogate, or is reserved.
    """
    if not isinstance(name, str):
        message = f"{what} must be a str, got {type(name).__name__} {name!r}"
        raise TypeError(message)
    if not name or "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
        message = f"{what} must not be empty nor hold NUL or lone surrogates, got {name!r}"
        raise ValueError(message)
    if name.lower().startswith(("sqlite_", "tsstreamer_")):
        message = f"{what} must not begin with 'sqlite_' or 'tsstreamer_', got {name!r}"
        raise ValueError(message)
    return str(name)


def affinity(declared: str) -> str:
    """Return the affinity that SQLite gives to a declared type (https://sqlite.org/datatype3.html section 3.1)."""
    upper = declared.upper()
    if "INT" in upper:
        return "INTEGER"
    if any(part in upper for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not upper or "BLOB" in upper:
        return "BLOB"
    return "REAL" if any(part in upper for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


@dataclass(frozen=True)
class Table:
    """The table behind one storage: its key, and its columns without ``id``, ``time`` first."""

    key: str
    columns: tuple[str, ...]
    types: tuple[str, ...]

    @classmethod
    def checked(cls, key: object, keys: Sequence[str], types: Sequence[str]) -> Table:
        """Build a table from what a user wrote.

        Raises:
            TypeError: Something is not a str, or a str stands where a sequence of them should.
            ValueError: A name or type cannot be used, a name comes twice, or the numbers of keys and types differ.
        """
        name = check_name("the key of a storage", key)
        for what, given in (("keys", keys), ("types", types)):
            if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
                message = f"{what} must be a sequence of str, got {type(given).__name__} {given!r}"
                raise TypeError(message)
        columns = ("time", *(check_name("a column name", column) for column in keys))
        declared = ("REAL", *map(_check_type, types))
        if len(columns) != len(declared):
            message = f"storage {name!r} has {len(columns) - 1} keys but {len(declared) - 1} types"
            raise ValueError(message)
        if not 1 < len(columns) <= _MOST_COLUMNS:
            message = f"storage {name!r} must have 1 to {_MOST_COLUMNS - 1} columns, got {len(columns) - 1}"
            raise ValueError(message)
        seen = {"id"}
        for column in columns:
            # SQLite folds ASCII case only; lower() folds more and so refuses a few names that would be allowed.
            if column.lower() in seen:
                message = f"storage {name!r}: column {column!r} comes twice ('id' and 'time' are the library's own)"
                raise ValueError(message)
            seen.add(column.lower())
        return cls(name, columns, declared)

    @cached_property
    def affinities(self) -> tuple[str, ...]:
        """Affinity of each column."""
        return tuple(map(affinity, self.types))

    @cached_property
    def name(self) -> str:
        """The quoted name."""
        return quote(self.key)

    @cached_property
    def quoted(self) -> tuple[str, ...]:
        """The quoted columns."""
        return tuple(map(quote, self.columns))

    @cached_property
    def create(self) -> str:
        """Statement that creates the table. AUTOINCREMENT: an id that is a position must never come back."""
        columns = ", ".join(
            f"{column} {declared}".rstrip() for column, declared in zip(self.quoted, self.types, strict=True)
        )
        return f"CREATE TABLE {self.name} (id INTEGER PRIMARY KEY AUTOINCREMENT, {columns})"

    @cached_property
    def parameters(self) -> str:
        """The parameters of one row."""
        return "(" + ", ".join("?" * len(self.columns)) + ")"

    def insert(self, rows: int) -> str:
        """Statement that inserts `rows` rows in one step."""
        return f"INSERT INTO {self.name} ({', '.join(self.quoted)}) VALUES {', '.join([self.parameters] * rows)}"

    def insert_all(self, rows: int) -> str:
        """Statement that inserts up to `rows` rows in one step: all of them or, if the table has a trigger, none.

        Rows whose time is NULL are left out: they fill the parameters up. A trigger could leave others out, and nobody
        would know which. ABORT overrides what a table's own constraints say of conflicts, for the same reason.
        """
        key = "'" + self.key.replace("'", "''") + "'"
        triggers = f"SELECT * FROM sqlite_master WHERE type = 'trigger' AND tbl_name = {key} COLLATE NOCASE"
        # In parts, because the time to prepare one list grows with its square.
        parts = [
            f"SELECT * FROM (VALUES {', '.join([self.parameters] * min(_PART_ROWS, rows - start))}) "
            f"WHERE column1 IS NOT NULL AND NOT EXISTS ({triggers})"
            for start in range(0, rows, _PART_ROWS)
        ]
        return f"INSERT OR ABORT INTO {self.name} ({', '.join(self.quoted)}) {' UNION ALL '.join(parts)}"

    def text_rows(self, row: str, exact: str, condition: str) -> str:
        """Query for a chunk as one text: parameters separator, after, upto, the condition's, limit.

        Gives the text, the number of rows, the last id, and 0 where some row's text must be made in Python.
        """
        return (
            "SELECT group_concat(row, ?), count(*), max(id), min(exact) "
            f"FROM (SELECT id, {row} AS row, {exact} AS exact "
            f"FROM {self.name} WHERE id > ? AND id <= ?{condition} ORDER BY id LIMIT ?)"
        )

    def plain_rows(self, condition: str) -> str:
        """Query for the rows of a chunk one by one, id first: parameters after, upto, the condition's, limit."""
        columns = ", ".join(self.quoted)
        return f"SELECT id, {columns} FROM {self.name} WHERE id > ? AND id <= ?{condition} ORDER BY id LIMIT ?"

    @cached_property
    def scan(self) -> str:
        """Query for the last id of the next rows: parameters after, upto, number of rows."""
        return f"SELECT max(id) FROM (SELECT id FROM {self.name} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)"

    @cached_property
    def last_id(self) -> str:
        """Query for the greatest id, 0 without rows."""
        return f"SELECT coalesce(max(id), 0) FROM {self.name}"

    @cached_property
    def first_id(self) -> str:
        """Query for the smallest id, None without rows."""
        return f"SELECT min(id) FROM {self.name}"

    @cached_property
    def delete_first(self) -> str:
        """Statement that deletes the oldest rows: parameters last id to delete, number of rows."""
        return f"DELETE FROM {self.name} WHERE id IN (SELECT id FROM {self.name} WHERE id <= ? ORDER BY id LIMIT ?)"

    @cached_property
    def delete_expired(self) -> str:
        """Statement that deletes rows among the oldest: parameters last id to delete, number of rows, timestamp."""
        oldest = f"SELECT id, time FROM {self.name} WHERE id <= ? ORDER BY id LIMIT ?"
        return f"DELETE FROM {self.name} WHERE id IN (SELECT id FROM ({oldest}) WHERE time < ?)"

    @cached_property
    def since(self) -> str:
        """Query for the first id whose timestamp is not before the parameter."""
        return f"SELECT min(id) FROM {self.name} WHERE time >= ?"

    @cached_property
    def oldest_time(self) -> str:
        """Query for the timestamp of the first row after the parameter."""
        return f"SELECT time FROM {self.name} WHERE id > ? ORDER BY id LIMIT 1"


def _check_type(declared: object) -> str:
    if not isinstance(declared, str):
        message = f"a column type must be a str, got {type(declared).__name__} {declared!r}"
        raise TypeError(message)
    text = " ".join(declared.split())
    words = set(re.findall(r"[A-Z_0-9]+", text.upper()))
    if text and (not _TYPE.fullmatch(text) or words & _CONSTRAINTS):
        message = f"a column type must be a plain type name such as VARCHAR or DECIMAL(10, 2), got {declared!r}"
        raise ValueError(message)
    return text
