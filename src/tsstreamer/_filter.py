"""Contains a user's ``sqlfilter``: a condition over the columns of one storage, and nothing else.

`check` looks at the text once, when a stream is made: it compiles it beside a scratch table and refuses what is not a
plain condition that depends on the row alone. `fence` binds the connection that later reads with it, in case a text
gets there that should not have: also without the check, it reads no other table and writes nothing. `deadline` bounds
the time.

What remains: one step of SQLite's machine cannot be interrupted. The worst that `check` lets through is ``LIKE`` or
``GLOB`` with a 200 byte pattern over long texts, both made for it: up to a second for each megabyte of text. Past
the check it would be what the library itself needs: ``printf``, ``replace``, ``instr``, ``rtrim``, ``||``.
"""

from __future__ import annotations

import math
import re
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tsstreamer.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["FILTER_FUNCTIONS", "LIBRARY_FUNCTIONS", "Filter", "check", "deadline", "fence", "normalise"]

FILTER_FUNCTIONS: Final = frozenset(
    "abs ceil coalesce date datetime floor glob ifnull iif julianday length like lower max min mod nullif round sign"  # noqa: SIM905  (a line each)
    " strftime substr substring time typeof unicode unixepoch upper".split()
)
"""What a filter may call: the answer depends on the row alone, time and memory grow with the row's length at most.

Left out on purpose: ``instr``, ``trim`` and ``replace`` (quadratic in one step), ``printf``, ``hex``, ``zeroblob`` and
``randomblob`` (memory), JSON (parsing takes ten times the text in memory, and one row that is not JSON would stop the
stream), and what looks at the clock, at chance or at the connection.
"""

LIBRARY_FUNCTIONS: Final = frozenset(
    "char count format group_concat hex instr json_array json_quote printf quote replace rtrim sum".split()  # noqa: SIM905  (likewise)
)
"""What the library's own statements call besides; never allowed in a filter."""

_MAX_BYTES: Final = 10_000  # of a filter with its parameters: an IN list of 1 500 ids
_MAX_DEPTH: Final = 100  # of the expression; the reader has SQLite's 1 000, so the statement around it fits
_MAX_JOINS: Final = 8  # of `||` in a filter: no text in it is longer than nine times the longest in the row
_MAX_PATTERN: Final = 200  # bytes for LIKE and GLOB, where a pattern may be a row's: the cost is pattern times text
_MAX_SHOWN: Final = 200  # characters of a filter in an error
_MAX_STATEMENT: Final = 1_000_000  # bytes of SQL on the reader: a thousand columns, each named and told apart
_NESTING: Final = 20  # parentheses around the checked text, so that the parser's stack has room for the statement
_STEPS: Final = 250_000  # between looks at the clock, 10 ms; each look costs 5 ms of waiting for every busy thread

_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\n\f\r]++|--[^\n]*+|/\*.*?\*/)
      | (?P<string>'[^']*+')
      | (?P<name>"(?:[^"]|"")*+"|`(?:[^`]|``)*+`|\[[^]]*+])
      | (?P<number>(?:\d++\.?\d*+|\.\d++)\w*+)
      | (?P<variable>\?\d*+|[:@$\#][\w:$]++)
      | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*+)
      | (?P<other>\|\||.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_SPACE: Final = " \t\n\f\r"  # what SQLite skips; str.strip() would take more

# A call that asks for the time, in tokens put side by side with strings emptied but for 'now'.
_NOW: Final = re.compile(
    r"(?<!\S)(?:(?P<name>date|datetime|julianday|strftime|time|unixepoch) \( (?:\)|.*'now')|strftime \( '' \))",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Filter:
    r"""A checked condition and its values.

    It goes into a statement as ``AND ({sql}\n)``: the line break ends a comment that the user left open. The values of
    the statement stand before and after `params` in the order of the text. Its ``FROM`` must hold the storage's table
    alone.

    Attributes:
        sql: The bare condition; empty means that there is no filter.
        params: None, int, float, str or bytes for each ``?`` in `sql`.
    """

    sql: str
    params: tuple[object, ...]


def normalise(sqlfilter: str) -> str:
    """Turn ``x``, ``AND x`` and ``WHERE x`` (in any case, after white space and comments) into ``x``.

    Returns:
        The bare condition, or an empty string if the text is blank or only comments.

    Raises:
        TypeError: It is not a str.
        FilterError: ``AND`` or ``WHERE`` stands alone.
    """
    if not isinstance(sqlfilter, str):
        message = f"sqlfilter must be a str, got {type(sqlfilter).__name__}"
        raise TypeError(message)
    keyword = ""
    for token in _TOKEN.finditer(sqlfilter):
        if token.lastgroup == "space":
            continue
        if keyword or token[0].upper() not in {"AND", "WHERE"}:
            return sqlfilter[token.start() :].rstrip(_SPACE)
        keyword = token[0]
    if keyword:
        _refuse(f"there is no condition after {keyword}", sqlfilter)
    return ""


def check(sqlfilter: str, sqlparams: Sequence[object], columns: Sequence[tuple[str, str]]) -> Filter:
    """Make sure that a filter is one condition over the columns of a storage, and that it compiles.

    ``id`` can be used like a column, also as ``rowid``; names may be quoted, but not qualified by a table. The same row
    must always get the same answer, or a message sent again would differ: ``'now'``, ``CURRENT_TIMESTAMP`` and
    ``random()`` are refused (a ``now`` that is put together from parts is not recognised). Touches no file; any thread
    may call it.

    Args:
        sqlfilter: The condition in one of the forms of `normalise`, with `sqlparams` at most 10 000 bytes.
        sqlparams: A value for each ``?``: None, bool, int, float, str, bytes or a numpy scalar.
        columns: Name and declared type of each column without ``id``. Which conditions compile depends on no type.

    Raises:
        TypeError: An argument, or a value in `sqlparams`, is of a type that SQLite cannot hold.
        FilterError: The text is refused, or a value is: an int beyond 64 bits, NaN, lone surrogates.
    """
    sql = normalise(sqlfilter)
    if isinstance(sqlparams, (str, bytes)) or not isinstance(sqlparams, Sequence):
        message = f"sqlparams must be a list or tuple of values, got {type(sqlparams).__name__}"
        raise TypeError(message)
    params = tuple(_plain(number, value, sql) for number, value in enumerate(sqlparams, 1))
    try:
        texts = [value.encode() if isinstance(value, str) else value for value in (sql, *params)]
    except UnicodeEncodeError as error:
        _refuse("a sqlfilter and its parameters must not hold lone surrogates", sql, error)
    size = sum(len(text) for text in texts if isinstance(text, bytes))
    if size > _MAX_BYTES:
        _refuse(f"a sqlfilter with its parameters may take {_MAX_BYTES} bytes, got {size}", sql)
    if "\0" in sql:
        _refuse(f"a sqlfilter must not hold NUL: it does at character {sql.index(chr(0)) + 1}", sql)
    if params and not sql:
        _refuse(f"there are {len(params)} sqlparams but no sqlfilter", sql)
    if sql:
        names = [name for name, _ in columns]
        _inspect(sql, {_fold(name) for name in (*names, "id", "rowid", "oid", "_rowid_")})
        _compile(sql, params, names)
    return Filter(sql, params)


def fence(
    connection: sqlite3.Connection,
    tables: Callable[[], Collection[str]],
    *,
    functions: Collection[str] = LIBRARY_FUNCTIONS,
    maxBytes: int = 100_000_000,
) -> None:
    """Bind a reading connection: whatever text it is given, it reads only some tables and writes nothing.

    Call it once, after the connection's own pragmas: from then on all pragmas are refused. The opener sets ``mode=ro``.
    The authorizer counts nothing, so SQLite may compile a statement again when the schema has changed.

    Args:
        connection: The connection.
        tables: Gives the names, exactly as created, of the tables that may be read now. Called in the thread that
            compiles a statement; must not use `connection`.
        functions: What the library's own statements call beyond `FILTER_FUNCTIONS`, in lower case.
        maxBytes: The longest string or row that passes; reading a longer one raises `sqlite3.DataError`.
    """
    allowed = FILTER_FUNCTIONS.union(functions)

    def authorize(action: int, first: str | None, second: str | None, schema: str | None, _: str | None) -> int:
        if action == sqlite3.SQLITE_READ:  # a table of which no column is read comes without a schema
            fine = schema in {None, "main"} and first in tables()
        elif action == sqlite3.SQLITE_FUNCTION:
            fine = second in allowed
        else:
            fine = action in {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_TRANSACTION}
        return sqlite3.SQLITE_OK if fine else sqlite3.SQLITE_DENY

    connection.execute("PRAGMA query_only = 1").close()
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MAX_STATEMENT)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, maxBytes)
    _limit(connection)
    if sys.version_info >= (3, 12):
        # The name of a column that is gone must fail; in double quotes it would become a string.
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DQS_DML, False)  # noqa: FBT003  (it has no keywords)
    connection.set_authorizer(authorize)


@contextmanager
def deadline(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Interrupt what runs on `connection` in this block past `seconds`: `sqlite3.OperationalError` ("interrupted").

    The clock is looked at every 250 000 steps of SQLite's machine, so that a read of a few thousand rows hardly waits
    for the GIL on its account. A statement is late by as long as these steps take: 10 ms, more if each is a long LIKE.
    """
    end = monotonic() + seconds
    connection.set_progress_handler(lambda: monotonic() >= end, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def _inspect(sql: str, known: Collection[bytes]) -> None:
    """Refuse by their tokens the things that SQLite would compile, or explain badly."""
    shape = []
    for token in _TOKEN.finditer(sql):
        kind, text, where = token.lastgroup, token[0], f"at character {token.start() + 1}"
        lower = text.lower()
        if kind == "space":
            continue
        if text == ";":
            _refuse(f"a sqlfilter is one condition, without {text!r} {where}", sql)
        if kind == "word" and lower in {"select", "values"}:
            _refuse(f"a sqlfilter may not use a sub-select: {text} {where}", sql)
        if kind == "variable" and text != "?":
            _refuse(f"placeholder {text} {where} is not allowed in a sqlfilter, only ?", sql)
        if kind == "name" and text[0] == '"' and _fold(_unquoted(text)) not in known:
            # SQLite would take it for a string: the filter would match nothing, and nobody would know.
            _refuse(f"no such column: {text} {where} (a string stands in single quotes)", sql)
        if kind == "string":
            lower = lower if lower == "'now'" else "''"
        shape.append(_unquoted(lower) if kind == "name" else lower)
    if shape.count("||") > _MAX_JOINS:
        _refuse(f"a sqlfilter may use || at most {_MAX_JOINS} times", sql)
    if found := _NOW.search(" ".join(shape)):
        _refuse(f"a sqlfilter must not depend on the present time: {found['name'] or 'strftime'}() of now", sql)


def _compile(sql: str, params: tuple[object, ...], names: Sequence[str]) -> None:
    """Compile the text bare and in parentheses, then run it over a row of NULLs; all of it must work.

    A text that closes a parenthesis it did not open fails bare; a clause after the condition fails in parentheses. The
    run shows the faults that depend on no data. The table's name is longer than the text, so the text cannot hold it.
    """
    table = "t" * (len(sql) + 1)
    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {columns})")
        connection.execute(f"INSERT INTO {table} (id) VALUES (1)")  # noqa: S608  (a row of t's)
        connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, _MAX_DEPTH)
        _limit(connection)
        for statement in (
            f"EXPLAIN SELECT 1 FROM {table} WHERE {sql}\n",  # noqa: S608  (compiled, not run)
            f"SELECT 1 FROM {table} WHERE {'(' * _NESTING}{sql}\n{')' * _NESTING}",  # noqa: S608  (checked by the first)
        ):
            reasons: list[str] = []
            connection.set_authorizer(_one_select(table, reasons))
            try:
                connection.execute(statement, params).close()
            except (sqlite3.Error, sqlite3.Warning) as error:  # 3.11 has a Warning for a second statement
                _refuse(reasons[0] if reasons else str(error), sql, error)


def _limit(connection: sqlite3.Connection) -> None:
    """Set the limits that a filter must meet alike when it is checked and when it runs."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 1)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _MAX_PATTERN)


def _one_select(table: str, reasons: list[str]) -> Callable[..., int]:
    """Make an authorizer for one compilation: a single SELECT, over `table`, with the filter's functions."""
    selects: list[int] = []

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_SELECT:
            selects.append(action)
            fine, reason = len(selects) == 1, "a sqlfilter may not use a sub-select"
        elif action == sqlite3.SQLITE_READ:
            fine, reason = first == table, f"a sqlfilter may not read the table {first!r}"
        elif action == sqlite3.SQLITE_FUNCTION:
            fine, reason = second in FILTER_FUNCTIONS, f"function {second!r} is not allowed in a sqlfilter"
        else:
            fine, reason = False, "a sqlfilter may only be a condition over the columns"
        if not fine:
            reasons.append(reason)
        return sqlite3.SQLITE_OK if fine else sqlite3.SQLITE_DENY

    return authorize


# Unbound, so that a subclass is taken at its plain value and no code of the user's runs while it is bound.
_PLAIN: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], object]], ...]] = (
    (int, int.__int__),
    (float, float.__float__),
    (str, str.__str__),
    ((bytes, bytearray, memoryview), bytes),
)


def _plain(number: int, value: Any, sql: str) -> object:  # noqa: ANN401  (whatever the user gave)
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()  # SQLite would take most numpy scalars for BLOBs, which equal no number
    if isinstance(value, float) and math.isnan(value):
        _refuse(f"value {number} of sqlparams is NaN, which SQLite takes for NULL: nothing would match", sql)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        _refuse(f"value {number} of sqlparams does not fit into 64 bits", sql)
    for kind, plain in _PLAIN:
        if isinstance(value, kind):
            return plain(value)
    if value is None:
        return None
    message = f"value {number} of sqlparams must be None, int, float, str or bytes, got {type(value).__name__}"
    raise TypeError(message)


def _fold(name: str) -> bytes:
    """Make names comparable as SQLite compares them: without case, in ASCII only."""
    return name.encode("utf-8", "surrogatepass").lower()


def _unquoted(text: str) -> str:
    return text[1:-1].replace(text[-1] * 2, text[-1]) if text[-1] != "]" else text[1:-1]


def _refuse(what: str, sql: str, cause: Exception | None = None) -> NoReturn:
    shown = sql if len(sql) <= _MAX_SHOWN else sql[:_MAX_SHOWN] + "…"
    message = f"{what} (in sqlfilter {shown!r})"
    raise FilterError(message) from cause
