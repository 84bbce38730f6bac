"""Random values, names and types: kept as SQLite keeps them, or refused in the caller's thread; never other SQL."""

from __future__ import annotations

import sqlite3
import string
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import SOAK
from tsstreamer import SqliteDataStreamer, TsStreamerError
from tsstreamer._sql import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES = ["INTEGER", "REAL", "VARCHAR", "BLOB", "NUMERIC", ""]
VALUES = 20
"""Values in one example: 10 000 examples of a soak are 100 000 values and more."""

_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.integers(),
    st.sampled_from([2**63, 2**63 - 1, -(2**63), -(2**63) - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**62 + 1]),
    st.floats(),
    st.text(st.characters(codec=None)),
    st.text(st.characters(categories=["Cs", "Ll"]), max_size=3),
    st.from_regex(r"\s*[-+]?[0-9]{0,25}(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?\s*", fullmatch=True),
    st.binary(),
    st.binary().map(bytearray),
    st.binary().map(lambda data: memoryview(data)),  # noqa: PLW0108  (its type has a parameter that mypy cannot guess)
    st.decimals(),
    st.complex_numbers(),
    st.lists(st.integers(), max_size=2),
    st.datetimes(),
)
_names = st.one_of(
    st.text(min_size=1, max_size=12),
    st.text("\"'`[]();-,. \t\nabAB\0", max_size=12),
    st.sampled_from(["select", "table", 'a"b', "a'b", "rowid", "oid", "id", "ID", "time", "x); DROP TABLE keep; --"]),
)


@pytest.fixture(scope="module")
def streamer() -> Iterator[SqliteDataStreamer]:
    """Give one streamer for all examples, with a storage for each type."""
    with SqliteDataStreamer(":memory:", flushInterval=0) as made:
        for number, declared in enumerate(TYPES):
            made.addStorage(f"log{number}", ["v"], [declared])
        yield made


@pytest.fixture(scope="module")
def plain() -> Iterator[sqlite3.Connection]:
    """Give SQLite without the streamer, with a table for each type."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for number, declared in enumerate(TYPES):
            connection.execute(f"CREATE TABLE log{number} (v {declared})")
        yield connection


def _model(plain: sqlite3.Connection, number: int, value: object) -> tuple[Any, ...] | None:
    """Return what plain sqlite3 makes of a value, or None where the streamer promises to refuse it."""
    if TYPES[number] == "REAL" and isinstance(value, int) and abs(value) < 2**63 and int(float(value)) != value:
        return None
    try:
        plain.execute(f"INSERT INTO log{number} VALUES (?)", (value,))
    except (sqlite3.Error, OverflowError, UnicodeEncodeError):
        return None
    row: tuple[Any, ...] = plain.execute(f"SELECT v, typeof(v) FROM log{number}").fetchone()
    plain.execute(f"DELETE FROM log{number}")
    return row


def _is_adapted(value: object) -> bool:
    """Say whether sqlite3 would convert the value by an adapter that Python has deprecated."""
    return type(value).__module__ == "datetime"


@pytest.mark.timeout(1800 if SOAK else 60)
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(number=st.sampled_from(range(len(TYPES))), values=st.lists(_values, max_size=VALUES))
@example(number=1, values=[2**53 + 1, 2**53 + 2, -(2**63), 2**63 - 1])
@example(number=2, values=[0.1 + 0.2, 1e300, -0.0, float("nan"), float("inf")])
@example(number=0, values=["\ud800", "ok", "\udfff", 2**64, "1e400", "9223372036854775808"])
def test_values_are_kept_or_refused(
    streamer: SqliteDataStreamer, plain: sqlite3.Connection, number: int, values: list[Any]
) -> None:
    """What plain sqlite3 would store is stored as the same value and type; the rest raises, its neighbours stay."""
    key = f"log{number}"
    ((before,),) = streamer._database.read(f"SELECT coalesce(max(id), 0) FROM {key}")
    expected = []
    for value in values:
        row = None if _is_adapted(value) else _model(plain, number, value)
        if row is None:
            with pytest.raises((TypeError, ValueError), match="column 'v'"):
                streamer.storeData(key, 1.0, value)
        else:
            streamer.storeData(key, 1.0, value)
            expected.append(row)
    assert streamer.flush(10.0)
    stored = streamer._database.read(f"SELECT v, typeof(v) FROM {key} WHERE id > ? ORDER BY id", (before,))
    assert [(repr(value), kind) for value, kind in expected] == [(repr(value), kind) for value, kind in stored]
    assert 0 == streamer.stats().storages[key].rejected


def _schema(streamer: SqliteDataStreamer) -> set[tuple[Any, ...]]:
    with streamer._database.lock:
        return set(streamer._database.query("SELECT type, name, tbl_name, sql FROM sqlite_master"))


@pytest.mark.timeout(600 if SOAK else 60)
@settings(max_examples=2_000 if SOAK else 150, suppress_health_check=[HealthCheck.too_slow])
@given(_names, st.lists(_names, min_size=1, max_size=4), st.data())
def test_names_never_change_what_sql_runs(key: str, columns: list[str], data: st.DataObject) -> None:
    """A storage has exactly the names it was given, or is refused; no other table comes or goes."""
    types = [data.draw(st.sampled_from(TYPES)) for _ in columns]
    with SqliteDataStreamer(":memory:", flushInterval=0) as streamer:
        streamer.addStorage("keep", ["n"], ["INTEGER"])
        streamer.storeData("keep", 1.0, 42)
        streamer.flush(10.0)
        before = _schema(streamer)
        try:
            streamer.addStorage(key, columns, types)
        except (ValueError, TsStreamerError):
            assert before == _schema(streamer)
        else:
            (made,) = [found for found in _schema(streamer) - before if found[1] == key] or [("table", key, key)]
            assert ("table", key, key) == made[:3]
            assert {key} >= {found[1] for found in _schema(streamer) ^ before}
            streamer.storeData(key, 1.5, *[None] * len(columns))
            assert streamer.flush(10.0)
            with streamer._database.lock:
                cursor = streamer._database._connection().execute(f"SELECT * FROM {quote(key)}")
                assert ["id", "time", *columns] == [column[0] for column in cursor.description]
                assert (1.5, *[None] * len(columns)) == cursor.fetchall()[-1][1:]
        assert [(42,)] == streamer._database.read("SELECT n FROM keep WHERE n IS NOT NULL")
        assert "running" == streamer.stats().state


_words = st.lists(
    st.sampled_from(
        [
            *("INTEGER", "VARCHAR", "int", "DOUBLE PRECISION", "SELECT", "DEFAULT", "CHECK", "UNIQUE", "NOT NULL"),
            *("PRIMARY KEY", "REFERENCES keep", "COLLATE NOCASE", "GENERATED ALWAYS", "AS (1)", "x TEXT"),
            *("(", ")", "1", "10, 2", ",", ";", "--", "/*", "'", '"'),
        ]
    ),
    max_size=4,
).map(" ".join)


@pytest.mark.timeout(600 if SOAK else 60)
@settings(max_examples=2_000 if SOAK else 150, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(_words, st.text(string.printable, max_size=15)))
def test_types_are_types_and_nothing_else(declared: str) -> None:
    """A declared type becomes that type of one column, or is refused: it brings nothing else along."""
    with SqliteDataStreamer(":memory:", flushInterval=0) as streamer:
        streamer.addStorage("keep", ["n"], ["INTEGER"])
        before = _schema(streamer)
        try:
            streamer.addStorage("log", ["n"], [declared])
        except (ValueError, TsStreamerError):
            assert before == _schema(streamer)
            return
        with streamer._database.lock:
            _, _, (_, name, kind, *rest) = streamer._database.query("PRAGMA table_xinfo(log)")
        assert ("n", [0, None, 0, 0]) == (name, rest)
        assert " ".join(declared.split()).upper() == kind.upper()
        streamer.addStorage("log", ["n"], [declared])  # again the same: does nothing
        assert {"log"} == {found[1] for found in _schema(streamer) ^ before}
        for value in (None, 1, 1, "x"):
            streamer.storeData("log", 1.0, value)
        assert streamer.flush(10.0)
        assert 4 == streamer.stats().storages["log"].committed
