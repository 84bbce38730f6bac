"""Every kind of value: stored as documented, or refused in the caller's thread by name, with nothing queued."""

from __future__ import annotations

import array
import enum
import fractions
import math
import sys
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import rows_of
from tsstreamer import BufferFullError, SqliteDataStreamer, UnknownStorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TYPES = ["INTEGER", "REAL", "VARCHAR", "BLOB", "DECIMAL(10, 2)"]


class _Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        """Lie."""
        return "a lie"


class _Whole(int):
    def __int__(self) -> int:
        """Lie."""
        return 13


class _Real(float):
    def __float__(self) -> float:
        """Lie."""
        return 13.0


class _Level(enum.IntEnum):
    HIGH = 40


class _Conforms:
    def __conform__(self, _: object) -> str:
        """Do what sqlite3 would ask for; the streamer does not."""
        return "conformed"


def _scalar(value: object) -> object:
    """Return what looks like a numpy scalar, where numpy is not there: the class's module and `item` decide."""
    kind = type("float32", (), {"__module__": "numpy", "ndim": 0, "item": lambda _: value})
    return kind()


# Value, and what each column of TYPES gives back.
_KEPT: list[tuple[Any, list[Any]]] = [
    (None, [None] * 5),
    (True, [1, 1.0, "1", 1, 1]),
    (7, [7, 7.0, "7", 7, 7]),
    (2**63 - 1, [2**63 - 1, None, str(2**63 - 1), 2**63 - 1, 2**63 - 1]),
    (-(2**63), [-(2**63), -(2.0**63), str(-(2**63)), -(2**63), -(2**63)]),
    (2**53, [2**53, 2.0**53, str(2**53), 2**53, 2**53]),
    (1.5, [1.5, 1.5, "1.5", 1.5, 1.5]),
    (math.inf, [math.inf, math.inf, "Inf", math.inf, math.inf]),
    (-math.inf, [-math.inf, -math.inf, "-Inf", -math.inf, -math.inf]),
    (math.nan, [None] * 5),
    (5e-324, [5e-324, 5e-324, None, 5e-324, 5e-324]),
    (sys.float_info.max, [sys.float_info.max, sys.float_info.max, None, sys.float_info.max, sys.float_info.max]),
    ("", [""] * 5),
    ("text", ["text"] * 5),
    ("Grüße \U0001f600", ["Grüße \U0001f600"] * 5),
    ("a\0b", ["a\0b"] * 5),
    ("1.5", [1.5, 1.5, "1.5", "1.5", 1.5]),
    (b"\x00\xff", [b"\x00\xff"] * 5),
    (bytearray(b"x"), [b"x"] * 5),
    (memoryview(b"xyz")[::2], [b"xz"] * 5),
    (_Text("true"), ["true"] * 5),
    (_Whole(7), [7, 7.0, "7", 7, 7]),
    (_Real(1.5), [1.5, 1.5, "1.5", 1.5, 1.5]),
    (_Level.HIGH, [40, 40.0, "40", 40, 40]),
    (_scalar(2.5), [2.5, 2.5, "2.5", 2.5, 2.5]),
    (_scalar(True), [1, 1.0, "1", 1, 1]),  # noqa: FBT003  (the value)
]


@pytest.fixture
def streamer(tmp_path: Path) -> Iterator[SqliteDataStreamer]:
    """Give a streamer with a storage of one column for each type."""
    with SqliteDataStreamer(tmp_path / "log.db") as made:
        for kind, declared in enumerate(TYPES):
            made.addStorage(f"log{kind}", ["v"], [declared])
        yield made


def _store(streamer: SqliteDataStreamer, key: str, value: object) -> None:
    streamer.storeData(key, 1.0, value)


@pytest.mark.parametrize("kind", range(len(TYPES)), ids=TYPES)
def test_values_are_kept_as_documented(streamer: SqliteDataStreamer, tmp_path: Path, kind: int) -> None:
    """Each value of the table comes back as SQLite's affinity makes it, and as no other type."""
    key, expected = f"log{kind}", []
    for value, columns in _KEPT:
        if columns[kind] is None and value is not None and value == value:  # noqa: PLR0124  (not NaN)
            continue  # refused, or a text of many digits
        _store(streamer, key, value)
        expected.append(columns[kind])
    assert streamer.flush(10.0)
    stored = [row[2] for row in rows_of(tmp_path / "log.db", key)]
    assert expected == stored
    assert [type(value) for value in expected] == [type(value) for value in stored]


_REFUSED: list[tuple[Any, type[Exception], str]] = [
    (2**63, ValueError, "64 bits"),
    (-(2**63) - 1, ValueError, "64 bits"),
    (10**400, ValueError, "64 bits"),
    (10**5000, ValueError, "64 bits"),
    ("\ud800", ValueError, "lone surrogates"),
    ("x" * 50 + "\udfff", ValueError, "lone surrogates"),
    (Decimal("1.5"), TypeError, "takes None, int, float, str or bytes, got Decimal"),
    (fractions.Fraction(1, 3), TypeError, "Fraction"),
    (uuid.UUID(int=1), TypeError, "UUID"),
    (datetime(2026, 1, 1, tzinfo=UTC), TypeError, "datetime"),
    (1 + 2j, TypeError, "complex"),
    ([1], TypeError, "list"),
    ((1,), TypeError, "tuple"),
    ({"a": 1}, TypeError, "dict"),
    ({1}, TypeError, "set"),
    (object(), TypeError, "object"),
    (int, TypeError, "type"),
    (_Conforms(), TypeError, "_Conforms"),
    (array.array("i", [1]), TypeError, "array"),
    (SimpleNamespace(item=lambda: 1, ndim=0), TypeError, "SimpleNamespace"),
    (_scalar([1]), TypeError, "float32"),
]


@pytest.mark.parametrize(("value", "error", "words"), _REFUSED, ids=lambda value: type(value).__name__)
def test_values_that_sqlite_cannot_hold_are_refused_by_name(
    streamer: SqliteDataStreamer, tmp_path: Path, value: object, error: type[Exception], words: str
) -> None:
    """The caller gets the error, with storage, column and value; its neighbours are stored, and nothing else is."""
    keys = [f"log{kind}" for kind in range(len(TYPES))]
    for key in keys:
        _store(streamer, key, 1)
        with pytest.raises(error, match=words) as caught:
            _store(streamer, key, value)
        assert f"'{key}'" in str(caught.value)
        assert "'v'" in str(caught.value)
        assert len(str(caught.value)) < 500
        _store(streamer, key, 2)
    assert streamer.flush(10.0)
    for key in keys:
        assert [1, 2] == [int(row[2]) for row in rows_of(tmp_path / "log.db", key)]
        assert 2 == streamer.stats().storages[key].accepted


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63 - 1])
def test_an_integer_that_a_real_column_would_change_is_refused(streamer: SqliteDataStreamer, value: int) -> None:
    """Beyond 2**53 a float skips integers: where the value would become another, it is refused."""
    with pytest.raises(ValueError, match="REAL and would change"):
        _store(streamer, "log1", value)
    assert 0 == streamer.stats().storages["log1"].accepted


@pytest.mark.parametrize(
    ("timestamp", "error"),
    [
        (math.nan, ValueError),
        (math.inf, ValueError),
        (-math.inf, ValueError),
        (10**400, ValueError),
        (-(10**5000), ValueError),
        (None, TypeError),
        ("1.0", TypeError),
        (b"1", TypeError),
        (datetime(2026, 1, 1, tzinfo=UTC), TypeError),
        (Decimal(1), TypeError),
        (1j, TypeError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_timestamps_are_finite_numbers(streamer: SqliteDataStreamer, timestamp: Any, error: type[Exception]) -> None:
    """Anything else is refused, and nothing is queued."""
    with pytest.raises(error, match=r"timestamp|column 'time'"):
        streamer.storeData("log0", timestamp, 1)
    assert 0 == streamer.stats().storages["log0"].accepted


@pytest.mark.parametrize("timestamp", [0, 1, True, -1.0, -0.0, 2**53, 1e300, 5e-324, _Real(1.5), _scalar(2.5)])
def test_timestamps_are_stored_as_reals(streamer: SqliteDataStreamer, tmp_path: Path, timestamp: Any) -> None:
    """Integers, subclasses and scalars become the same number as a float."""
    streamer.storeData("log0", timestamp, 1)
    assert streamer.flush(10.0)
    ((_, stored, _),) = rows_of(tmp_path / "log.db", "log0")
    expected = timestamp.item() if hasattr(timestamp, "item") else float.__float__(timestamp + 0.0)
    assert (expected, float) == (stored, type(stored))


@pytest.mark.parametrize("values", [(), (1, 2), (1, 2, 3)])
def test_a_wrong_number_of_values_is_refused(streamer: SqliteDataStreamer, values: tuple[int, ...]) -> None:
    """Too few and too many values are a TypeError that says what the storage takes."""
    with pytest.raises(TypeError, match=rf"takes 1 values \(v\), got {len(values)}"):
        streamer.storeData("log0", 1.0, *values)
    assert 0 == streamer.stats().storages["log0"].accepted


@pytest.mark.parametrize("key", ["none", "LOG0", "", None, 1, ["log0"], b"log0"])
def test_a_key_that_is_no_storage_is_refused(streamer: SqliteDataStreamer, key: Any) -> None:
    """Keys are compared exactly; anything else names the storages that there are."""
    with pytest.raises(UnknownStorageError, match="'log0', 'log1'"):
        streamer.storeData(key, 1.0, 1)


def test_a_refused_row_does_not_take_room(tmp_path: Path) -> None:
    """Refused values do not count against `maxPending`."""
    with SqliteDataStreamer(tmp_path / "log.db", maxPending=2, overflow="raise", flushInterval=60) as streamer:
        streamer.addStorage("log", ["v"], ["INTEGER"])
        for _ in range(10):
            with pytest.raises(TypeError):
                _store(streamer, "log", [])
        try:
            _store(streamer, "log", 1)
        except BufferFullError:
            pytest.fail("there was room")
