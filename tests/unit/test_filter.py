"""What a filter may be, what it is refused for, and what the fenced connection lets through."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing, suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import pytest

from tsstreamer._filter import FILTER_FUNCTIONS, LIBRARY_FUNCTIONS, Filter, check, deadline, fence, normalise
from tsstreamer._sql import Table
from tsstreamer.errors import FilterError
from tsstreamer.formatters import JsonFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COLUMNS = [
    ("time", "REAL"),
    ("name", "VARCHAR"),
    ("level", "INTEGER"),
    ("a b", ""),
    ("select", ""),
    ('x"y', ""),
    ("null", ""),
]
TABLE = Table.checked("log", [name for name, _ in COLUMNS[1:]], [declared for _, declared in COLUMNS[1:]])
WRITER = JsonFormatter()
ROWS = [
    (10.0, "main", 10, 1, "s", None, 0),
    (20.5, "Main", 20, 2, "t", "q", 0),
    (30.0, "worker", 30, 3, None, "q", 0),
    (86400.0 * 3, "now", 40, 4, "50%", "it's", 0),
    (-1.0, None, None, None, None, None, None),
]
# Two million rows of nothing: some ten looks at the clock.
LONG = "SELECT count(*) FROM log a, log b, log c, log d, log e, log f, log g, log h, log i"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a database with a storage of five rows, and another table."""
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(TABLE.create)
        connection.executemany(TABLE.insert(1), ROWS)
        connection.execute("CREATE TABLE secrets (value)")
    return tmp_path / "log.db"


@pytest.fixture
def reader(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a reader as the library does, and fence it."""
    with closing(sqlite3.connect(path.as_uri() + "?mode=ro", uri=True, isolation_level=None)) as connection:
        fence(connection, lambda: {"log"})
        yield connection


def matching(reader: sqlite3.Connection, checked: Filter) -> list[int]:
    """Read the ids that pass, with the statement that the library reads whole chunks with."""
    condition = f" AND ({checked.sql}\n)"
    rows = reader.execute(TABLE.plain_rows(condition), (0, 99, *checked.params, 99)).fetchall()
    text = TABLE.text_rows(WRITER.sqlrow(TABLE.quoted), WRITER.sqlexact(TABLE.quoted), condition)
    ((_, number, _, _),) = reader.execute(text, ("\n", 0, 99, *checked.params, 99)).fetchall()
    assert number == len(rows)
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("level >= 20", "level >= 20"),
        ("AND level >= 20", "level >= 20"),
        ("WHERE level >= 20", "level >= 20"),
        ("and(level >= 20)", "(level >= 20)"),
        (" \t\r\n\fwHeRe\n level >= 20 \n", "level >= 20"),
        ("/* why */ -- how\n AND /* where */ level", "level"),
        ("level -- to the end", "level -- to the end"),
        ("android = 1", "android = 1"),
        ('"and" = 1', '"and" = 1'),
        ("AND WHERE level", "WHERE level"),
        ("\u00a0level \u00a0", "\u00a0level \u00a0"),
        ("/* open", "/* open"),
        ("", ""),
        (" \n", ""),
        ("-- level >= 20", ""),
        ("/* level */ ", ""),
    ],
)
def test_the_leading_keyword_goes(text: str, condition: str) -> None:
    """The three forms of a filter are one condition; one keyword goes, and only a keyword."""
    assert normalise(text) == condition


@pytest.mark.parametrize("text", ["WHERE", " and -- nothing\n"])
def test_a_keyword_alone_is_no_filter(text: str) -> None:
    """A filter that lost its condition is refused, not taken for "everything"."""
    with pytest.raises(FilterError, match=r"no condition after (WHERE|and)"):
        normalise(text)


@pytest.mark.parametrize("given", [None, 1, b"level", ["level"]])
def test_a_filter_is_a_str(given: Any) -> None:
    """Anything but a str is a TypeError that names what came."""
    with pytest.raises(TypeError, match=f"got {type(given).__name__}"):
        normalise(given)


def test_no_filter_is_an_empty_condition() -> None:
    """A blank filter is no filter."""
    assert check(" ", (), COLUMNS) == Filter("", ())


@pytest.mark.parametrize(
    ("text", "params", "ids"),
    [
        ("level >= 20", (), [2, 3, 4]),
        ("AND level >= 20 OR name IS NULL", (), [2, 3, 4, 5]),
        ("WHERE level >= ? AND name <> ?", (20, "Main"), [3, 4]),
        ("level >= 20 -- no line break", (), [2, 3, 4]),
        ("level /* in between */ >= 20", (), [2, 3, 4]),
        ("id > 3 AND time < 0", (), [5]),
        ("rowid = 1 OR oid = 2 OR _rowid_ = 3", (), [1, 2, 3]),
        ('"ID" = 1 OR "Level" = 20', (), [1, 2]),
        ('"a b" = 2 OR "select" = \'s\' OR "x""y" = \'it\'\'s\'', (), [1, 2, 4]),
        ("[a b] = 2 OR `select` = 's' OR [x\"y] = 'q'", (), [1, 2, 3]),
        ('"null" = 0', (), [1, 2, 3, 4]),
        ("level IS DISTINCT FROM 20 AND level IS NOT 10", (), [3, 4, 5]),
        ("level BETWEEN 20 AND 30", (), [2, 3]),
        ("level IN (10, ?, 30)", (40,), [1, 3, 4]),
        ("(level, name) = (10, 'main')", (), [1]),
        ("CASE WHEN level > 20 THEN name LIKE 'w%' ELSE level END", (), [1, 2, 3]),
        ("name COLLATE NOCASE = 'MAIN'", (), [1, 2]),
        ("name LIKE 'MAI_'", (), [1, 2]),
        (r"[select] LIKE '50\%' ESCAPE '\'", (), [4]),
        ("name GLOB 'M*'", (), [2]),
        ("max(level, 25) = 25 AND min(level, 1, 2) = 1", (), [1, 2]),
        ("coalesce(level, 99) = 99 AND typeof(name) = 'null'", (), [5]),
        ("length(name) = 6 OR upper(substr(name, 1, 1)) = 'N'", (), [3, 4]),
        ("abs(time) = 1 OR round(time) = 21.0", (), [2, 5]),
        ("CAST(time AS INTEGER) = 20", (), [2]),
        ("name || '?' = 'main?'", (), [1]),
        ("strftime('%d', time, 'unixepoch') = '04'", (), [4]),
        ("date(time, 'unixepoch') > date('1970-01-01')", (), [4]),
        ("name = 'now'", (), [4]),
        ("name = X'6e6f77' OR level = 0x14 OR level = 3e1 OR level = 10.", (), [1, 2, 3]),
        ("level IS ?", (None,), [5]),
        ("TRUE", (), [1, 2, 3, 4, 5]),
        ("NULL", (), []),
    ],
)
def test_conditions_pass_and_select(
    text: str, params: tuple[object, ...], ids: list[int], reader: sqlite3.Connection
) -> None:
    """What passes the check runs on the real table, in every statement of the library, and selects what it says."""
    assert matching(reader, check(text, params, COLUMNS)) == ids


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("level > 1) OR (1", 'near ")": syntax error'),
        ("level > 1 ORDER BY id", 'near "ORDER": syntax error'),
        ("level >", "incomplete input"),
        ("level = 1 /* open", "incomplete input"),
        ("level = 'open", "unrecognized token: \"'open"),
        ("id IN (Select 1)", "a sqlfilter may not use a sub-select: Select at character 8"),
        ("hex(name) = ''", "function 'hex' is not allowed in a sqlfilter"),
        ("id IN sqlite_master", "a sqlfilter may not read the table 'sqlite_master'"),
        ("id IN json_each('[]')", "a sqlfilter may only be a condition over the columns"),
        ("nosuch = 1", "no such column: nosuch"),
        ('level = "warning"', 'no such column: "warning" at character 9 (a string stands in single quotes)'),
        ('1 /* a */ OR "nosuch" = 1 /* b */', 'no such column: "nosuch" at character 14'),
        ("level = 1; DROP TABLE log", "a sqlfilter is one condition, without ';' at character 10"),
        ("name = 'a\0b'", "a sqlfilter must not hold NUL: it does at character 10"),
        ("name = '\udcff'", "a sqlfilter and its parameters must not hold lone surrogates"),
        ("level = :level", "placeholder :level at character 9 is not allowed in a sqlfilter, only ?"),
        ("level = ?", "Incorrect number of bindings supplied. The current statement uses 1, and there are 0 supplied."),
        ("unixepoch('now') > time", "a sqlfilter must not depend on the present time: unixepoch() of now"),
        ("[Date] ( /* of */ ) > name", "a sqlfilter must not depend on the present time: date() of now"),
        ("strftime('%H') > '08'", "a sqlfilter must not depend on the present time: strftime() of now"),
        ("name LIKE 'a' ESCAPE 'bc'", "ESCAPE expression must be a single character"),
        (f"name LIKE '{'a' * 201}'", "LIKE or GLOB pattern too complex"),
        ("name = ''" + " || name" * 9, "a sqlfilter may use || at most 8 times"),
        ("abs(-9223372036854775807 - 1) > level", "integer overflow"),
    ],
)
def test_a_refusal_says_what_and_where(text: str, refusal: str) -> None:
    """A refusal says what is wrong in the terms of the filter, and quotes the filter."""
    with pytest.raises(FilterError) as caught:
        check(text, (), COLUMNS)
    assert str(caught.value).startswith(refusal)
    assert str(caught.value).endswith(f"(in sqlfilter {text[:200] + '…' * (len(text) > 200)!r})")


def test_a_filter_has_a_greatest_length() -> None:
    """10 000 bytes pass, 10 001 do not; parameters count like the text."""
    text = "level IN (" + ",".join(["1"] * 4990) + ") OR 1=1  "
    long = "name = ? OR name = ? OR 1" + " " * 100
    size = len(normalise(long))
    rest = 10_000 - size - 4
    assert len(text) < 10_000
    assert check(text, (), COLUMNS).sql == text.rstrip()
    assert check(long, ("é" * 2, "x" * rest), COLUMNS).params == ("éé", "x" * rest)
    with pytest.raises(FilterError, match="may take 10000 bytes, got 10001"):
        check(long, ("é" * 2, b"x" * (rest + 1)), COLUMNS)


class _Level(IntEnum):
    """A number whose class says something else of itself."""

    HIGH = 40

    def __str__(self) -> str:
        return "high"


class _Scalar:
    """What numpy's scalars look like from here."""

    __module__ = "numpy"

    def __init__(self, value: object) -> None:
        self.value = value

    def item(self) -> object:
        return self.value


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        (True, 1),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (math.inf, math.inf),
        ("é\0", "é\0"),
        (b"\xff", b"\xff"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (_Level.HIGH, 40),
        (_Scalar(5), 5),
        (_Scalar(1.5), 1.5),
    ],
)
def test_parameters_become_plain(value: object, plain: object) -> None:
    """Values are taken as what SQLite holds for them, exactly None, int, float, str or bytes."""
    (taken,) = check("level = ?", [value], COLUMNS).params
    assert (taken, type(taken)) == (plain, type(plain))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (2**63, "value 1 of sqlparams does not fit into 64 bits"),
        pytest.param(-(10**5000), "value 1 of sqlparams does not fit into 64 bits", id="too long to print"),
        (math.nan, "value 1 of sqlparams is NaN"),
        (_Scalar(math.nan), "value 1 of sqlparams is NaN"),
        ("\ud800", "lone surrogates"),
    ],
)
def test_values_that_sqlite_cannot_hold_are_refused(value: object, complaint: str) -> None:
    """A value out of SQLite's range is a FilterError, which also quotes the filter."""
    with pytest.raises(FilterError, match=complaint + ".* \\(in sqlfilter 'level = \\?'\\)"):
        check("level = ?", (value,), COLUMNS)


@pytest.mark.parametrize("value", [1j, [1], object(), _Scalar(1j)])
def test_values_of_other_types_are_refused(value: object) -> None:
    """A value of a type that SQLite does not know is a TypeError that names the type."""
    name = "complex" if isinstance(value, _Scalar) else type(value).__name__
    with pytest.raises(TypeError, match=f"value 1 of sqlparams .* got {name}"):
        check("level = ?", (value,), COLUMNS)


@pytest.mark.parametrize("given", ["x", b"x", {"x": 1}, 1, None])
def test_parameters_are_a_sequence(given: Any) -> None:
    """A string is not taken for its characters, nor a dict for its keys."""
    with pytest.raises(TypeError, match=f"sqlparams must be a list or tuple of values, got {type(given).__name__}"):
        check("level = ?", given, COLUMNS)


@pytest.mark.parametrize("text", ["", "level = 1", "level = '?'", "level = 1 -- ?"])
def test_parameters_need_placeholders(text: str) -> None:
    """Parameters without their `?` are refused; a `?` in a string or comment is none."""
    with pytest.raises(FilterError, match=r"no sqlfilter|uses 0, and there (are|is) 1 supplied"):
        check(text, (1,), COLUMNS)


def test_names_fold_in_ascii_only() -> None:
    """Quoted names are compared as SQLite does it: É is not é, and would be a string."""
    columns = [("time", ""), ("é", "")]
    assert check('"é" = 1 OR "TIME" = 1', (), columns)
    with pytest.raises(FilterError, match='no such column: "É"'):
        check('"É" = 1', (), columns)


def _pass(text: str) -> Filter | None:
    with suppress(FilterError):
        return check(text, (), COLUMNS)
    return None


def test_a_check_leaves_room_for_the_statement(reader: sqlite3.Connection) -> None:
    """The deepest nesting that passes the check still compiles inside the library's longest statement."""
    for opening, closing_ in (
        ("(", ")"),
        ("NOT ", ""),
        ("1 OR ", ""),
        ("abs(", ")"),
        ("CASE WHEN 1 THEN ", " END"),
        ("1 + (", ")"),
    ):
        passed = [nested for depth in range(1, 120) if (nested := _pass(opening * depth + "level" + closing_ * depth))]
        assert 5 < len(passed) < 119
        matching(reader, passed[-1])


def test_function_lists_are_apart() -> None:
    """No function that only the library needs is one that a filter may call."""
    assert not FILTER_FUNCTIONS & LIBRARY_FUNCTIONS


# --- the fence


def test_the_fence_reads_the_tables_of_the_moment(path: Path) -> None:
    """A table becomes readable when its name is given, without fencing again."""
    names: set[str] = set()
    with closing(sqlite3.connect(path)) as connection:
        fence(connection, lambda: names)
        with pytest.raises(sqlite3.DatabaseError, match=r"access to log\.id is prohibited"):
            connection.execute("SELECT id FROM log")
        names.add("log")
        assert len(connection.execute("SELECT id FROM log").fetchall()) == 5


def test_the_fence_survives_a_change_of_the_schema(reader: sqlite3.Connection, path: Path) -> None:
    """A statement that was compiled before another connection changed the schema runs after it."""
    before = matching(reader, check("level > 10", (), COLUMNS))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE further (x)")
        other.execute("CREATE INDEX by_level ON log (level)")
    assert matching(reader, check("level > 10", (), COLUMNS)) == before == [2, 3, 4]


def test_the_fence_lets_the_library_read(reader: sqlite3.Connection) -> None:
    """The library's own statements run, also inside a read transaction."""
    reader.execute("BEGIN")
    assert matching(reader, check("1", (), COLUMNS)) == [1, 2, 3, 4, 5]
    reader.execute("COMMIT")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT value FROM secrets",
        "SELECT count(*) FROM secrets",
        "SELECT sql FROM sqlite_master",
        "PRAGMA user_version",
    ],
)
def test_the_fence_reads_nothing_else(statement: str, reader: sqlite3.Connection) -> None:
    """Other tables, the schema and pragmas are closed."""
    with pytest.raises(sqlite3.DatabaseError, match=r"prohibited|not authorized"):
        reader.execute(statement)


def test_the_fence_makes_the_connection_read_only(path: Path) -> None:
    """Even without `mode=ro` and authorizer nothing can be written."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        fence(connection, lambda: {"log"})
        connection.set_authorizer(None)
        with pytest.raises(sqlite3.OperationalError, match="readonly database"):
            connection.execute("DELETE FROM log")
        with pytest.raises(sqlite3.OperationalError, match="too many attached databases"):
            connection.execute("ATTACH ':memory:' AS other")


def test_the_fence_bounds_what_passes(path: Path) -> None:
    """A value longer than `maxBytes` is an error, not an allocation."""
    with closing(sqlite3.connect(path)) as connection:
        fence(connection, lambda: {"log"}, maxBytes=1000)
        with pytest.raises(sqlite3.DataError, match="too big"):
            connection.execute("SELECT length(replace(?, 'a', 'bbbbbbbbbbb'))", ("a" * 100,)).fetchall()


def test_the_fence_takes_further_functions(path: Path) -> None:
    """The functions that the library calls are the caller's choice."""
    for functions, error in (({"total"}, None), (set[str](), "not authorized")):
        with closing(sqlite3.connect(path)) as connection:
            fence(connection, lambda: {"log"}, functions=functions)
            if error:
                with pytest.raises(sqlite3.DatabaseError, match=error):
                    connection.execute("SELECT total(level) FROM log")
            else:
                assert connection.execute("SELECT total(level) FROM log").fetchone() == (100.0,)


# --- the deadline


def test_a_statement_past_its_deadline_is_interrupted(reader: sqlite3.Connection) -> None:
    """A statement that runs past its deadline raises, and the connection goes on."""
    with deadline(reader, 0.0), pytest.raises(sqlite3.OperationalError, match="interrupted"):
        reader.execute(LONG).fetchall()
    assert reader.execute("SELECT count(*) FROM log").fetchone() == (5,)


def test_a_deadline_ends_with_its_block(reader: sqlite3.Connection) -> None:
    """After the block, also after an exception in it, nothing is interrupted any more."""
    with pytest.raises(ZeroDivisionError), deadline(reader, 0.0):
        raise ZeroDivisionError
    assert reader.execute(LONG).fetchone() == (5**9,)


def test_a_short_read_never_looks_at_the_clock(reader: sqlite3.Connection) -> None:
    """A read of some thousand steps passes even after its deadline, as it never waits for the GIL to ask."""
    with deadline(reader, 0.0):
        assert matching(reader, check("level > 10", (), COLUMNS)) == [2, 3, 4]
