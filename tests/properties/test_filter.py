"""Filters made at random, well formed and not: what passes stays inside its condition and means the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from tsstreamer._filter import Filter, check, fence
from tsstreamer._sql import Table, quote
from tsstreamer.errors import FilterError
from tsstreamer.formatters import JsonFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(600)  # a soak makes 10 000 examples of each

NAMES = ["time", "name", "level", "a b"]
COLUMNS = [(name, "") for name in NAMES]
TABLE = Table.checked("log", NAMES[1:], ["", "", ""])
WRITER = JsonFormatter()
FIRST, LAST, LIMIT = 20, 40, 15
SECRET = 10**6


@pytest.fixture(scope="module")
def reader() -> Iterator[sqlite3.Connection]:
    """Open a fenced connection to a storage of 60 rows beside a table with a secret."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(TABLE.create)
        rows = [(n / 4, ["main", "worker", "it's", None][n % 4], n % 5, "" if n % 3 else "x" * n) for n in range(60)]
        connection.executemany(TABLE.insert(1), rows)
        connection.execute("CREATE TABLE secrets (id)")
        connection.execute("INSERT INTO secrets VALUES (?)", (SECRET,))
        fence(connection, lambda: {"log"})
        yield connection


def selected(reader: sqlite3.Connection, checked: Filter) -> list[int]:
    """Read the ids of one chunk that pass, with both statements of the library."""
    condition = f" AND ({checked.sql}\n)" if checked.sql else ""
    values = (FIRST, LAST, *checked.params, LIMIT)
    rows = reader.execute(TABLE.plain_rows(condition), values).fetchall()
    text = TABLE.text_rows(WRITER.sqlrow(TABLE.quoted), WRITER.sqlexact(TABLE.quoted), condition)
    ((_, number, last, _),) = reader.execute(text, ("\n", *values)).fetchall()
    ids = [row[0] for row in rows]
    assert (number, last) == (len(ids), max(ids, default=None))
    return ids


def expected(reader: sqlite3.Connection, checked: Filter) -> list[int]:
    """Ask the condition for each row as a value, and choose the rows here."""
    if not checked.sql:
        answers = [(n, 1) for n in range(1, 61)]
    else:
        query = f"SELECT id, CASE WHEN ({checked.sql}\n) THEN 1 END FROM log ORDER BY id"
        answers = reader.execute(query, checked.params).fetchall()
    return [n for n, answer in answers if answer and FIRST < n <= LAST][:LIMIT]


SPACES = st.sampled_from([" ", "\n", "\t", " /* ) */ ", " -- ) '\n", "\r\n"])
VALUES = st.one_of(
    st.integers(-9, 70).map(str),
    st.floats(0, 20).map(repr),
    st.sampled_from(
        ["name", "level", "time", "id", '"a b"', "[a b]", "`level`", '"LEVEL"', "rowid", "NULL", "x'00ff'"]
    ),
    st.text("ab%_'\"()?-;", max_size=5).map(lambda text: "'" + text.replace("'", "''") + "'"),
)


def _larger(smaller: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(
        ["=", "<", ">=", "<>", "+", "-", "*", "%", "AND", "OR", "IS", "LIKE", "IS DISTINCT FROM", "GLOB"]
    )
    functions = st.sampled_from(
        ["abs", "length", "lower", "typeof", "round", "min", "max", "coalesce", "nullif", "unicode"]
    )
    two = {"min", "max", "coalesce", "nullif"}
    return st.one_of(
        st.tuples(smaller, SPACES, operators, SPACES, smaller).map("".join),
        smaller.map("({}\n)".format),
        smaller.map("NOT {}".format),
        st.tuples(smaller, smaller, smaller).map(lambda parts: "{} IN ({}, {})".format(*parts)),
        st.tuples(smaller, smaller, smaller).map(lambda parts: "CASE WHEN {} THEN {} ELSE {} END".format(*parts)),
        st.tuples(functions, smaller, smaller).map(lambda f: f"{f[0]}({f[1]}{', ' + f[2] if f[0] in two else ''})"),
    )


CONDITIONS = st.recursive(VALUES, _larger, max_leaves=12)

TOKENS = (
    "( ) ) OR ( ' '' \" \"\" -- /* */ \n ; , . ? || [ ] ` = 1 0 level id 'x' \"level\" \"nosuch\" x'00' 1e :a \ufeff "
    "\uff09 UNION SELECT FROM secrets log WHERE LIMIT ORDER BY EXISTS IN VALUES WITH HAVING OVER hex( max( 'now' date( "
    "NOT CASE END"
)
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
NASTY = st.sampled_from(TOKENS.split(" "))
FRAGMENTS = st.one_of(
    st.lists(NASTY, max_size=12).map(" ".join),
    st.lists(NASTY, max_size=12).map("".join),
    st.tuples(CONDITIONS, st.lists(NASTY, max_size=4).map(" ".join), CONDITIONS).map(" ".join),
    st.tuples(CONDITIONS, st.lists(NASTY, max_size=3).map("".join)).map("".join),
)


@given(text=CONDITIONS)
def test_every_plain_condition_passes(text: str, reader: sqlite3.Connection) -> None:
    """A well-formed condition is never refused, and selects the rows of the chunk for which it is true."""
    checked = check(text, (), COLUMNS)
    assert selected(reader, checked) == expected(reader, checked)


@given(text=FRAGMENTS)
def test_what_passes_stays_inside(text: str, reader: sqlite3.Connection) -> None:
    """Any text is refused, or selects only rows of the chunk, those for which it is true as a value."""
    try:
        checked = check(text, (), COLUMNS)
    except FilterError:
        event("refused")
        return
    event("passed")
    assert selected(reader, checked) == expected(reader, checked)


@given(text=st.text())
def test_any_text_is_answered(text: str) -> None:
    """Whatever the text holds, the answer is a filter or a FilterError."""
    try:
        check(text, (), COLUMNS)
    except FilterError as error:
        event(type(error.__cause__).__name__)


@given(
    text=CONDITIONS,
    before=st.lists(SPACES, max_size=2).map("".join),
    keyword=st.sampled_from(["AND", "WHERE", "and", "Where"]),
    after=SPACES,
)
def test_the_three_forms_are_one(text: str, before: str, keyword: str, after: str) -> None:
    """`x`, `AND x` and `WHERE x` are the same filter, whatever white space and comments stand around the keyword."""
    assert check(before + keyword + after + text, (), COLUMNS) == check(text, (), COLUMNS)


@given(names=st.lists(NAME, min_size=1, max_size=4, unique_by=str.lower), other=NAME)
def test_odd_names_are_names(names: list[str], other: str) -> None:
    """A quoted column is a column whatever its name; another name in double quotes is refused, never a string."""
    try:
        table = Table.checked("log", names, [""] * len(names))
    except ValueError:
        assume(False)  # noqa: FBT003  (hypothesis has it so)
        return
    columns = list(zip(table.columns, table.types, strict=True))
    text = " AND ".join(f"{quote(name)} = {quote(name)}" for name in table.columns[:8])
    assert check(text, (), columns).sql == text
    if other.lower() not in {name.lower() for name in (*table.columns, "id", "rowid", "oid", "_rowid_")}:
        with pytest.raises(FilterError, match="no such column"):
            check(f"{quote(other)} = 'x'", (), columns)


@given(
    params=st.lists(
        st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(), max_size=5
    )
)
def test_parameters_arrive(params: list[object], reader: sqlite3.Connection) -> None:
    """Each parameter stands for itself, in its place between the library's own."""
    checked = check(
        " AND ".join(["id > 0", *["? IS ?"] * len(params)]), [value for value in params for _ in "xx"], COLUMNS
    )
    assert selected(reader, checked) == list(range(FIRST + 1, FIRST + 1 + LIMIT))
