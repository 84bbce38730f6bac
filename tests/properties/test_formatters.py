"""Whatever SQLite can hold comes back from a document with value and type, be the text Python's or SQLite's."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tsstreamer.formatters import JsonFormatter, SqlFormatter, YamlFormatter

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(900)  # for the 10 000 examples of a soak; a quick run takes a second each

BOTH = pytest.mark.parametrize("formatter", [YamlFormatter(), JsonFormatter()], ids=["yaml", "json"])
LOADERS: list[Any] = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]
DECLARED = {
    "VARCHAR": "TEXT",
    "INTEGER": "INTEGER",
    "REAL": "REAL",
    "DECIMAL(10, 2)": "NUMERIC",
    "BLOB": "BLOB",
    "": "BLOB",
}
"""Declared types, and the affinity that SQLite gives them."""

SPECIAL = [
    "null", "NULL", "~", "true", "Yes", "off", "y", "1", "0x1F", "0o7", "010", "1_000", "1e3", "1.0", ".5", "1:30",
    ".nan", "-.inf", "2001-01-01", "2001-12-14t21:59:43.10-05:00", "<<", "=", "*a", "&a", "!!binary", '!!binary "QQ=="',
    "- a", "a: b", "a #b", "? a", "%YAML", "---", "...", "@", "`", "[", "]", "]]", "{}", ",", "'", "''", '"', "\\",
    "\\u0041", "\r", "\n", "\r\n", "\t", " ", "  a  ", "a\n\n b\n", "\x00", "a\x00b", "\x01FF\x01", "\x1c\x1d\x1e",
    "\x7f", "\x80", "\x85", "\x9f", "\xa0", "\u2028", "\u2029", "\ufeff", "\ufffd", "\ufffe", "\uffff", "\ud7ff",
    "\ue000", "\U00010000", "\U0001fffe", "\U0010ffff", '{"hex":"00"}', "%s%d",
]  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(SPECIAL),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(max_codepoint=0x2FF)),
    st.lists(st.sampled_from(SPECIAL)).map("".join),
)
REALS = st.one_of(
    st.floats(allow_nan=False),
    st.floats(min_value=0, max_value=1),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 1e9, 2.0**32, 1e22, 1e-4]),
    st.integers(0, 2**33 * 10**9).map(lambda nanoseconds: nanoseconds / 1e9),
    st.integers(-(10**16), 10**16).map(lambda millionths: millionths / 1e6),
    st.integers(-(2**64), 2**64).map(float),
)
VALUES = st.one_of(st.none(), TEXTS, REALS, st.integers(-(2**63), 2**63 - 1), st.binary())
TYPES = st.lists(st.sampled_from(list(DECLARED)), min_size=1, max_size=6)
NAMES = TEXTS.filter(lambda name: name and "\0" not in name and name.lower() != "id")


class Stored(NamedTuple):
    """Rows as SQLite holds them, the texts that it writes for them, and which of these it calls exact."""

    rows: list[tuple[Any, ...]]
    texts: list[str]
    exact: list[int]


def store(formatter: SqlFormatter, types: list[str], names: list[str], rows: list[list[Any]], *, told: bool) -> Stored:
    """Put rows into a table and ask for their texts, one by one and all in one, as a stream does.

    Args:
        formatter: The formatter.
        types: The declared types.
        names: The names of the columns.
        rows: The rows.
        told: Whether the formatter gets to know the affinities.
    """
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    affinities = [DECLARED[declared] for declared in types] if told else None
    row, exact = formatter.sqlrow(quoted, affinities), formatter.sqlexact(quoted, affinities)
    with closing(sqlite3.connect(":memory:")) as connection:
        columns = ", ".join(f"{name} {declared}" for name, declared in zip(quoted, types, strict=True))
        connection.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, {columns})")
        connection.executemany(f"INSERT INTO t VALUES (NULL, {', '.join('?' * len(types))})", rows)
        held = connection.execute(f"SELECT {', '.join(quoted)} FROM t ORDER BY id").fetchall()
        singly = connection.execute(f"SELECT {row}, {exact} FROM t ORDER BY id").fetchall()
        inner = f"SELECT id, {row} AS r, {exact} AS e FROM t WHERE id > 0 ORDER BY id LIMIT 10000"
        together = f"SELECT group_concat(r, ?), min(e) FROM ({inner})"
        chunk, all_exact = connection.execute(together, [formatter.separator]).fetchone()
    texts, flags = [formatter.finish(text) for text, _ in singly], [flag for _, flag in singly]
    assert (formatter.separator.join(texts), min(flags)) == (formatter.finish(chunk), all_exact)
    return Stored(held, texts, flags)


def read(formatter: SqlFormatter, document: str) -> list[tuple[object, object, object]]:
    """Read a document with every reader there is: node, columns, rows."""
    if isinstance(formatter, YamlFormatter):
        found = [yaml.load(document, loader) for loader in LOADERS]  # noqa: S506  (they are safe)
        assert all(["index", "data"] == list(content) for each in found for content in each.values())
        return [(node, content["index"], content["data"]) for each in found for node, content in each.items()]
    head, *rows = map(json.loads, document.splitlines())
    assert ["node", "index"] == list(head)
    return [(head["node"], head["index"], [[_from_json(value) for value in row] for row in rows])]


def _from_json(value: Any) -> object:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) and ["hex"] == list(value) else value


def told_apart(value: object) -> object:
    """Make values of different types, and zeros of different signs, differ."""
    if isinstance(value, (list, tuple)):
        return [told_apart(each) for each in value]
    return (type(value), struct.pack("d", value) if isinstance(value, float) else value)


def is_short(value: object) -> bool:
    """Whether SQLite promises Python's own digits: for all but reals of more than six decimals that are no times."""
    if not isinstance(value, float) or value == 0 or math.isinf(value) or 1e9 <= value <= 2**32 - 1:
        return True
    return abs(value) <= 1e9 and round(value * 1e6) / 1e6 == value


def is_writable(row: tuple[Any, ...], types: list[str]) -> bool:
    """Whether SQLite can write the row: not a real zero in a column that keeps the sign, which SQLite cannot see."""
    zeros = [type(value) is float and value == 0 for value in row]
    return not any(zero and DECLARED[declared] == "BLOB" for zero, declared in zip(zeros, types, strict=True))


@BOTH
@given(node=TEXTS, names=st.lists(TEXTS, max_size=4), data=st.data())
def test_python_documents_read_back(formatter: SqlFormatter, node: str, names: list[str], data: st.DataObject) -> None:
    """A document made in Python has exactly the names and values that went in."""
    rows = data.draw(st.lists(st.lists(VALUES, min_size=len(names), max_size=len(names)), max_size=4))
    expected = told_apart((node, names, rows))
    for found in read(formatter, formatter.format(node, names, rows)):
        assert expected == told_apart(found)


@BOTH
@given(types=TYPES, told=st.booleans(), data=st.data())
def test_sqlite_documents_read_back(formatter: SqlFormatter, types: list[str], told: bool, data: st.DataObject) -> None:
    """What SQLite writes for stored rows has exactly the values that a SELECT gives, in columns of every type."""
    width = len(types)
    names = data.draw(st.lists(NAMES, min_size=width, max_size=width, unique_by=str.lower))
    rows = data.draw(st.lists(st.lists(VALUES, min_size=width, max_size=width), min_size=1, max_size=4))
    stored = store(formatter, types, names, rows, told=told)
    assert [int(is_writable(row, types)) for row in stored.rows] == stored.exact
    texts = [text if exact else formatter.row(row) for row, text, exact in zip(*stored, strict=True)]
    expected = told_apart(("node", names, stored.rows))
    for found in read(formatter, formatter.head("node", names) + formatter.separator.join(texts) + formatter.tail()):
        assert expected == told_apart(found)


@BOTH
@given(types=TYPES, told=st.booleans(), data=st.data())
def test_both_texts_are_the_same(formatter: SqlFormatter, types: list[str], told: bool, data: st.DataObject) -> None:
    """Python and SQLite write the same text, letter by letter, but for the digits of long reals."""
    width = len(types)
    rows = data.draw(st.lists(st.lists(VALUES, min_size=width, max_size=width), min_size=1, max_size=4))
    stored = store(formatter, types, [f"c{number}" for number in range(width)], rows, told=told)
    compared = [
        (formatter.row(row), text)
        for row, text, exact in zip(*stored, strict=True)
        if exact and all(map(is_short, row))
    ]
    assert [expected for expected, _ in compared] == [text for _, text in compared]


@BOTH
@pytest.mark.parametrize("kind", ["now", "nanoseconds", "microseconds", "ties", "millionths", "whole"])
def test_common_reals_have_one_text(formatter: SqlFormatter, kind: str, rng: random.Random) -> None:
    """Times of this century and numbers with up to six decimals are written by SQLite with Python's digits."""
    kinds: dict[str, Callable[[], float]] = {
        "now": lambda: rng.uniform(1.6e9, 1.9e9),
        "nanoseconds": lambda: rng.randrange(10**18, (2**32 - 1) * 10**9) / 1e9,
        "microseconds": lambda: rng.randrange(10**15, (2**32 - 1) * 10**6) / 1e6,
        "ties": lambda: rng.randrange(10**9, 2**32 - 1) + rng.randrange(256) / 256,
        "millionths": lambda: rng.choice((-1, 1)) * rng.randrange(1, 10 ** rng.randint(1, 15)) / 1e6,
        "whole": lambda: float(rng.randrange(-(10**9), 10**9)),
    }
    rows = [[kinds[kind]()] for _ in range(3_000)]
    assert [formatter.row(row) for row in rows] == store(formatter, ["REAL"], ["a"], rows, told=True).texts


@pytest.mark.parametrize("kind", ["bits", "denormal", "probability", "large", "small"])
def test_any_real_reads_back(kind: str, rng: random.Random) -> None:
    """Every real reads back from SQLite's digits to the last bit."""
    kinds: dict[str, Callable[[], float]] = {
        "bits": lambda: float(struct.unpack("d", rng.randbytes(8))[0]),
        "denormal": lambda: rng.randrange(1, 2**52) * 5e-324,
        "probability": rng.random,
        "large": lambda: rng.uniform(-1, 1) * 10.0 ** rng.randint(0, 30),
        "small": lambda: rng.uniform(-1, 1) * 10.0 ** rng.randint(-30, 0),
    }
    rows = [[real] for real in (kinds[kind]() for _ in range(5_000)) if math.isfinite(real)]
    texts = store(JsonFormatter(), ["REAL"], ["a"], rows, told=True).texts
    assert rows == [json.loads(text) for text in texts]


@BOTH
@given(text=st.binary(min_size=1), told=st.booleans())
def test_text_that_is_not_utf8(formatter: SqlFormatter, text: bytes, told: bool) -> None:
    """Bytes that another program has stored as text are replaced alike in both texts."""
    columns, affinities = ["a", "b"], ["TEXT", "TEXT"] if told else None
    with closing(sqlite3.connect(":memory:")) as connection:
        # The stream's reader does the same: one such row must not stop it.
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.execute("CREATE TABLE t (a VARCHAR, b VARCHAR)")
        connection.execute("INSERT INTO t VALUES (CAST(? AS TEXT), 'b')", [text])
        row = connection.execute("SELECT a, b FROM t").fetchone()
        (found,) = connection.execute(f"SELECT {formatter.sqlrow(columns, affinities)} FROM t").fetchone()
    assert formatter.row(row) == formatter.finish(found)
