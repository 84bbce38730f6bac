"""What SQLite can hold: checks one row in the caller's thread, before it is queued.

The common case is decided by a function that is compiled for the storage's columns, because `storeData` is the hot path
and a loop over the values costs three times as much. Whatever that function does not recognise at a glance goes to
`normalise`, which converts the value or says what is wrong with it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tsstreamer._sql import Table

Row = tuple[Any, ...]

NULL = math.nan
"""Stands for None in a row that waits: SQLite stores NaN as NULL, and `sqlite3` binds a float at once, but first looks
for an adapter of None, which on Python 3.11 takes as long as all other values of a log record together."""

_INT_LIMIT = 1 << 63
_EXACT_REAL = 1 << 53

# What is storable as it stands, at a glance; None becomes `null`, which is true. Anything else, also where it would be
# fine, is left to `normalise`. `str.isascii` and `int.bit_length` are called unbound: they raise TypeError for other
# types, which is the type check.
_GLANCE = {
    "TEXT": "(isascii({v}) if {v} is not None else ({v} := null))",
    "INTEGER": "(bit_length({v}) < 64 if {v} is not None else ({v} := null))",
    "REAL": "(type({v}) is float if {v} is not None else ({v} := null))",
    "NUMERIC": "(type({v}) is float if {v} is not None else ({v} := null))",
    "BLOB": "(type({v}) is bytes or type({v}) is float if {v} is not None else ({v} := null))",
}

_STORE = """
def make(table, null, normalise, isfinite, isascii, bit_length, put, qsize, backlog):
    def store(time, values):
        try:
            {names}, = values
            if type(time) is float and isfinite(time){tests}:
                row = (time, {names})
            else:
                row = normalise(table, (time, *values))
        except (TypeError, ValueError):
            row = normalise(table, (time, *values))
        if qsize() >= backlog.limit and not backlog.admit():
            return
        put(row)
        if backlog.attention:
            backlog.attend(row)
    return store
"""


def compile_store(table: Table, backlog: Any) -> Callable[[float, tuple[object, ...]], None]:  # noqa: ANN401  (it imports this module)
    """Build the function that checks a time and values, and puts them as one row on the backlog's queue.

    The text holds positions only, no name that a user chose.
    """
    affinities = table.affinities[1:]
    names = ", ".join(f"v{number}" for number in range(len(affinities)))
    tests = "".join(" and " + _GLANCE[affinity].format(v=f"v{n}") for n, affinity in enumerate(affinities))
    scope: dict[str, Any] = {}
    exec(_STORE.format(names=names, tests=tests), scope)  # noqa: S102  (as dataclasses do; see the docstring)
    store: Callable[[float, tuple[object, ...]], None] = scope["make"](
        table,
        NULL,
        normalise,
        math.isfinite,
        str.isascii,
        int.bit_length,
        backlog.queue.put,
        backlog.queue.qsize,
        backlog,
    )
    return store


def normalise(table: Table, row: Row) -> Row:
    """Convert each value to what SQLite stores for it.

    Raises:
        TypeError: A wrong number of values, or a value of a type that SQLite cannot hold.
        ValueError: A timestamp that is not finite, an integer beyond 64 bits (or beyond 2**53 in a REAL column, where
            it would change), text with a lone surrogate.
    """
    if len(row) != len(table.columns):
        wanted = ", ".join(table.columns[1:])
        message = f"storage {table.key!r} takes {len(table.columns) - 1} values ({wanted}), "
        message += f"got {len(row) - 1}: {_show(row[1:])}"
        raise TypeError(message)
    time = _plain(table, "time", row[0])
    if not isinstance(time, (int, float)):
        message = f"storage {table.key!r}: the timestamp must be a number of seconds, got {_show(row[0])}"
        raise TypeError(message)
    if isinstance(time, int):
        time = float(time) if abs(time) < _INT_LIMIT else math.inf
    if not math.isfinite(time):
        message = f"storage {table.key!r}: the timestamp must be finite, got {_show(row[0])}"
        raise ValueError(message)
    columns = zip(table.columns[1:], table.affinities[1:], row[1:], strict=True)
    return (time, *[_fit(table, column, affinity, value) for column, affinity, value in columns])


def _fit(table: Table, column: str, affinity: str, value: object) -> object:
    value = _plain(table, column, value)
    if isinstance(value, int):
        if not -_INT_LIMIT <= value < _INT_LIMIT:
            raise ValueError(_complaint(table, column, "takes integers of 64 bits", value))
        if affinity == "REAL" and abs(value) > _EXACT_REAL and int(float(value)) != value:
            raise ValueError(_complaint(table, column, "is REAL and would change this integer", value))
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(_complaint(table, column, "takes text without lone surrogates", value)) from None
    return NULL if value is None else value


def _plain(table: Table, column: str, value: object) -> object:
    """Return `value` as exactly None, int, float, str or bytes; subclasses and numpy scalars lose their class."""
    if value is None:
        return None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    for plain in (str, int, float):
        if isinstance(value, plain):
            # The base class's own conversion: a subclass may have a __str__ or __int__ that says something else.
            return value if type(value) is plain else _BASES[plain](value)
    item = getattr(value, "item", None)
    if callable(item) and type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        scalar = item()
        if type(scalar) in (int, float, str, bytes, bool):
            return int(scalar) if type(scalar) is bool else scalar
    raise TypeError(_complaint(table, column, "takes None, int, float, str or bytes", value))


_BASES: dict[type, Any] = {str: str.__str__, int: int.__int__, float: float.__float__}


def _complaint(table: Table, column: str, rule: str, value: object) -> str:
    return f"storage {table.key!r}: column {column!r} {rule}, got {type(value).__name__} {_show(value)}"


def _show(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  (an integer of 5000 digits has no repr, and a user's class may have a broken one)
        return "(cannot be shown)"
    return text if len(text) <= 200 else text[:200] + "…"  # noqa: PLR2004  (what fits a log line)
