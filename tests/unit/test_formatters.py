"""The texts that the formatters write, letter by letter, from Python and from SQLite."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tsstreamer.formatters import JsonFormatter, SqlFormatter, YamlFormatter

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ["time", "msg"]
BOTH = pytest.mark.parametrize("formatter", [YamlFormatter(), JsonFormatter()], ids=["yaml", "json"])
LOADERS: list[Any] = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]

# value, YAML, JSON
VALUES = [
    (None, "null", "null"),
    (0, "0", "0"),
    (-(2**63), "-9223372036854775808", "-9223372036854775808"),
    (0.1, "0.1", "0.1"),
    (-2.5, "-2.5", "-2.5"),
    (3.0, "3.0", "3.0"),
    (5e-05, "5.0e-05", "5.0e-05"),
    (1_700_000_000.25, "1700000000.25", "1700000000.25"),
    (1_700_000_000.1234567, "1700000000.1234567", "1700000000.1234567"),
    (math.inf, ".inf", "1e999"),
    (-math.inf, "-.inf", "-1e999"),
    ("", '""', '""'),
    ("null", '"null"', '"null"'),
    ("'\"\\\n\t/", r'''"'\"\\\n\t/"''', r'''"'\"\\\n\t/"'''),
    ("\x00\x01\x1f", r'"\u0000\u0001\u001f"', r'"\u0000\u0001\u001f"'),
    ("a\x7f", r'"a\u007f"', '"a\x7f"'),
    ("\x7f\x80", r'"\u007f\u0080"', '"\x7f\x80"'),
    ("\x85\u2028\u2029", r'"\u0085\u2028\u2029"', r'"\u0085\u2028\u2029"'),
    ("\ufeff\ufffe\uffff", r'"\ufeff\ufffe\uffff"', '"\ufeff\ufffe\uffff"'),
    ("é€😀\xa0\ufffd", '"é€😀\xa0\ufffd"', '"é€😀\xa0\ufffd"'),
    (b"", '!!binary ""', '{"hex":""}'),
    (b"\x00\xff'", '!!binary "AP8n"', '{"hex":"00FF27"}'),
]


def sql_texts(
    formatter: SqlFormatter,
    rows: Sequence[Sequence[object]],
    affinities: Sequence[str] | None = None,
    *,
    told: bool = True,
) -> list[tuple[str, int]]:
    """What SQLite writes for rows, and whether it calls that exact; `told` lets the formatter know the affinities."""
    names = [f'"%d {{0}} \'""{number}"' for number in range(len(rows[0]))]
    with closing(sqlite3.connect(":memory:")) as connection:
        types = affinities or [""] * len(names)
        columns = ", ".join(f"{name} {declared}" for name, declared in zip(names, types, strict=True))
        connection.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {columns})")
        connection.executemany(f"INSERT INTO t VALUES (NULL, {', '.join('?' * len(names))})", rows)
        known = affinities if told else None
        row, exact = formatter.sqlrow(names, known), formatter.sqlexact(names, known)
        found = connection.execute(f"SELECT {row}, {exact} FROM t ORDER BY id").fetchall()
    return [(formatter.finish(text), exact) for text, exact in found]


def value_of(formatter: SqlFormatter, text: str) -> object:
    """Read the text of a row."""
    if isinstance(formatter, YamlFormatter):
        return yaml.safe_load(text)
    return json.loads(text, object_hook=lambda found: bytes.fromhex(found["hex"]))


@pytest.mark.parametrize(("value", "text", "_"), VALUES)
def test_yaml_of_a_value(value: object, text: str, _: str) -> None:
    """YAML has one text for a value, whether Python or SQLite writes it."""
    formatter = YamlFormatter()
    assert f"[{text},{text}]" == formatter.row([value, value])
    assert [(f"[{text},{text}]", 1)] == sql_texts(formatter, [[value, value]])


@pytest.mark.parametrize(("value", "_", "text"), VALUES)
def test_json_of_a_value(value: object, _: str, text: str) -> None:
    """JSON has one text for a value, whether Python or SQLite writes it."""
    formatter = JsonFormatter()
    assert f"\n[{text},{text}]" == formatter.row([value, value])
    assert [(f"\n[{text},{text}]", 1)] == sql_texts(formatter, [[value, value]])


def test_yaml_document() -> None:
    """A YAML document is one mapping of node to columns and rows, with a line for each row."""
    rows: list[list[object]] = [[1_700_000_000.25, "text"], [1_700_000_001.5, None]]
    expected = '{"node": {"index": ["time", "msg"], "data": [\n[1700000000.25,"text"],\n[1700000001.5,null]\n]}}\n'
    assert expected == YamlFormatter().format("node", COLUMNS, rows)


def test_json_document() -> None:
    """JSON lines begin with node and columns, then comes a line for each row."""
    rows: list[list[object]] = [[1_700_000_000.25, "text"], [1_700_000_001.5, None]]
    expected = '{"node":"node","index":["time","msg"]}\n[1700000000.25,"text"]\n[1700000001.5,null]\n'
    assert expected == JsonFormatter().format("node", COLUMNS, rows)


@pytest.mark.parametrize("loader", LOADERS)
def test_yaml_document_without_rows(loader: Any) -> None:
    """A YAML document without rows has an empty list."""
    document = YamlFormatter().format("node", COLUMNS, [])
    assert {"node": {"index": COLUMNS, "data": []}} == yaml.load(document, loader)  # noqa: S506  (both are safe loaders)


def test_json_document_without_rows() -> None:
    """JSON lines without rows are the first line alone."""
    lines = JsonFormatter().format("node", COLUMNS, []).splitlines()
    assert [{"node": "node", "index": COLUMNS}] == [json.loads(line) for line in lines]


@pytest.mark.parametrize("length", [1_000, 1_023, 1_024, 5_000])
@pytest.mark.parametrize("loader", LOADERS)
def test_long_names(length: int, loader: Any) -> None:
    """Names longer than what YAML allows for a simple key are read back too."""
    node, column = "n" * length, "c" * length
    document = YamlFormatter().format(node, ["time", column], [[1.5, 1]])
    expected = {node: {"index": ["time", column], "data": [[1.5, 1]]}}
    assert expected == yaml.load(document, loader)  # noqa: S506  (as above)


def test_yaml_needs_a_point_in_reals() -> None:
    """Reals with an exponent have a point, without which YAML 1.1 takes them for text."""
    expected = ["[1.0e+22]", "[1.5e+300]", "[5.0e-324]", "[-0.0]", "[.nan]"]
    assert expected == [YamlFormatter().row([value]) for value in (1e22, 1.5e300, 5e-324, -0.0, math.nan)]


def test_json_has_no_nan() -> None:
    """NaN, which SQLite cannot hold, is null in JSON."""
    assert "\n[null]" == JsonFormatter().row([math.nan])


@BOTH
@pytest.mark.parametrize("value", [True, [], object(), type("Text", (str,), {})("text")])
def test_other_types_are_refused(formatter: SqlFormatter, value: object) -> None:
    """A value that SQLite never gives is a `TypeError` that names its type."""
    with pytest.raises(TypeError, match=f"got {type(value).__name__}$"):
        formatter.row([1.0, value])


@BOTH
def test_zeros_without_affinity_are_left_to_python(formatter: SqlFormatter) -> None:
    """SQLite cannot tell -0.0 from 0.0, so it does not claim to where a column keeps the difference."""
    zeros: list[list[object]] = [[0.0, 0], [-0.0, 0], [1.5, 0], [0, 0], ["", 0], [b"", 0], [None, 0]]
    assert [0, 0, 1, 1, 1, 1, 1] == [exact for _, exact in sql_texts(formatter, zeros)]
    for told in (True, False):
        assert [1] * 7 == [exact for _, exact in sql_texts(formatter, zeros, ["REAL", "NUMERIC"], told=told)]


@BOTH
@pytest.mark.parametrize("affinity", ["TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB"])
def test_odd_values_for_an_affinity(formatter: SqlFormatter, affinity: str) -> None:
    """What a column hardly ever holds is written all the same, wherever the column stands."""
    affinities = [affinity, "REAL", affinity, affinity]
    odd: list[object] = [b"\x00'", "text", 7, 2.5, 1e300, -(2.0**63), 2.0**63, None, -(2**63)]
    rows = [[value, 1.5, None, value] for value in odd]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a {}, b {}, c {}, d {})".format(*affinities))
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
        stored = connection.execute("SELECT * FROM t").fetchall()
    expected = [(repr(list(row)), 1) for row in stored]
    assert expected == [
        (repr(value_of(formatter, text)), exact) for text, exact in sql_texts(formatter, rows, affinities)
    ]


@BOTH
@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 900])
@pytest.mark.parametrize("kinds", [["TEXT"], ["REAL"], ["TEXT", "REAL"], ["REAL", "INTEGER", "TEXT", "BLOB"], None])
def test_any_number_of_columns(formatter: SqlFormatter, count: int, kinds: list[str] | None) -> None:
    """A row has all its columns in order, whatever their number and kinds."""
    affinities = kinds and [kinds[number % len(kinds)] for number in range(count)]
    value = {"TEXT": "[x]", "REAL": 2.5, "INTEGER": 7, "BLOB": b"b"}
    row = [value[kind] for kind in affinities] if affinities else [f"[{number}]" for number in range(count)]
    assert [(formatter.row(row), 1)] == sql_texts(formatter, [row], affinities)


def test_brackets_in_text_between_reals() -> None:
    """Text that ends in brackets keeps them where SQLite cuts an array to join it with reals."""
    row = ["]", 1.5, "[]", None, "]]", 2.5, "]"]
    affinities = ["TEXT", "REAL", "TEXT", "INTEGER", "TEXT", "REAL", "TEXT"]
    assert [('["]",1.5,"[]",null,"]]",2.5,"]"]', 1)] == sql_texts(YamlFormatter(), [row], affinities)


def test_a_sqlite_that_prints_badly_is_not_trusted() -> None:
    """The answer of `sqlexact` hangs on a trial of printf, which fails where SQLite lacks the digits."""
    names, formatter = ["a"], YamlFormatter()
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.create_function("printf", -1, lambda *_: "0.3 123.45600000000001", deterministic=True)
        assert [(0,)] == connection.execute(f"SELECT {formatter.sqlexact(names)} FROM (SELECT 1.5 AS a)").fetchall()


def test_content_types() -> None:
    """YAML is 5 and JSON, for which the testbed has no number, plain text; another number may be given."""
    assert (5, 2) == (YamlFormatter().contenttype, JsonFormatter().contenttype)
    assert (9, 5) == (YamlFormatter(contenttype=9).contenttype, YamlFormatter.contenttype)


def test_a_formatter_of_ones_own() -> None:
    """A derived class needs four methods; it is taken to be exact and finished."""

    class Csv(SqlFormatter):
        separator = "\n"

        def head(self, nodename: str, columns: Sequence[str]) -> str:
            return ",".join([nodename, *columns]) + "\n"

        def tail(self) -> str:
            return "\n"

        def row(self, row: Sequence[object]) -> str:
            return ",".join(map(str, row))

        def sqlrow(self, columns: Sequence[str], affinities: Sequence[str] | None = None) -> str:  # noqa: ARG002
            return "||','||".join(columns)

    assert "node,a,b\n1,x\n2,y\n" == Csv().format("node", ["a", "b"], [(1, "x"), (2, "y")])
    assert [("1,x", 1), ("2,y", 1)] == sql_texts(Csv(), [(1, "x"), (2, "y")])
