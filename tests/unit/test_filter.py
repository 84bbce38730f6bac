"""What a filter may be, what it is refused for, and what the fenced connection lets through."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import pytest

from tsstreamer._filter import FILTER_FUNCTIONS, LIBRARY_FUNCTIONS, Filter, check, deadline, fence, normalise
from tsstreamer._sql import Table
from tsstreamer.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COLUMNS = [("time", "REAL"), ("name", "VARCHAR"), ("level", "INTEGER"), ("a b", ""), ("select", ""), ('x"y', ""), ("null", "")]
TABLE = Table.checked("log", [name for name, _ in COLUMNS[1:]], [declared for _, declared in COLUMNS[1:]])
ROWS = [
    (10.0, "main", 10, 1, "s", None, 0),
    (20.5, "Main", 20, 2, "t", "q", 0),
    (30.0, "worker", 30, 3, None, "q", 0),
    (86400.0 * 3, "now", 40, 4, "50%", "it's", 0),
    (-1.0, None, None, None, None, None, None),
]
# A plain loop without rows enough for a table: 32 ** 5 steps and more.
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
    text = TABLE.text_rows(TABLE.json_row, TABLE.json_exact, condition)
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
        ("\u00a0level", "\u00a0level"),
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
    with pytest.raises(FilterError, match="no condition after (WHERE|and)"):
        normalise(text)


@pytest.mark.parametrize("given", [None, 1, b"level", ["level"]])
def test_a_filter_is_a_str(given: Any) -> None:  # noqa: ANN401  (wrong on purpose)
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
        ("level = :é = 1" if False else "level IS ?", (None,), [5]),
        ("TRUE", (), [1, 2, 3, 4, 5]),
        ("NULL", (), []),
    ],
)
def test_conditions_pass_and_select(text: str, params: tuple[object, ...], ids: list[int], reader: sqlite3.Connection) -> None:
    """What passes the check runs on the real table, in every statement of the library, and selects what it says."""
    assert matching(reader, check(text, params, COLUMNS)) == ids
