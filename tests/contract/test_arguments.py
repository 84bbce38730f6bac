"""Wrong arguments of every public method: the named error in the caller's thread, with the value in its text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from tsstreamer import (
    FilterError,
    SchemaMismatchError,
    SqliteDataStreamer,
    StorageError,
    StreamerClosedError,
    StreamExistsError,
    TsStreamerError,
    UnknownStorageError,
    UnknownStreamError,
)
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def streamer() -> Iterator[SqliteDataStreamer]:
    """A streamer with one storage and one stream."""
    with SqliteDataStreamer(":memory:") as streamer:
        streamer.addStorage("k", ["v", "w"], ["INTEGER", "REAL"])
        streamer.stream("k", name="running")
        yield streamer


CONSTRUCTION: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"sqlitename": 5}, TypeError, "5"),
    ({"sqlitename": ""}, TypeError, "''"),
    ({"sqlitename": b"x.db"}, TypeError, "b'x.db'"),
    ({"nodename": 5}, TypeError, "5"),
    ({"nodename": ""}, ValueError, "''"),
    ({"flushInterval": -1}, ValueError, "-1"),
    ({"flushInterval": math.nan}, ValueError, "nan"),
    ({"flushInterval": "1"}, TypeError, "'1'"),
    ({"maxPending": 0}, ValueError, "0"),
    ({"maxPending": 1.5}, TypeError, "1.5"),
    ({"overflow": "explode"}, ValueError, "'explode'"),
    ({"blockTimeout": -2}, ValueError, "-2"),
    ({"synchronous": "SOMETIMES"}, ValueError, "'SOMETIMES'"),
    ({"synchronous": 1}, ValueError, "1"),
    ({"onError": "print"}, TypeError, "'print'"),
]


@pytest.mark.parametrize(("options", "error", "text"), CONSTRUCTION, ids=repr)
def test_construction(options: dict[str, Any], error: type[Exception], text: str) -> None:
    """A wrong argument of the constructor is an error before any file or thread is made."""
    with pytest.raises(error) as caught:
        SqliteDataStreamer(**{"sqlitename": ":memory:", **options})
    assert text in str(caught.value)


def test_construction_refuses_bad_paths(tmp_path: Path) -> None:
    """A missing folder, a folder and a NUL in the name are StorageErrors that name the path."""
    for path, hint in ((tmp_path / "no" / "x.db", "no folder"), (tmp_path, "not a regular file"), ("a\0b", "a\\x00b")):
        with pytest.raises(StorageError) as caught:
            SqliteDataStreamer(path)
        assert hint in str(caught.value)


CALLS: list[tuple[str, Callable[[SqliteDataStreamer], object], type[Exception], str]] = [
    ("storeData unknown", lambda s: s.storeData("nope", 1.0, 1, 2), UnknownStorageError, "'nope'"),
    ("storeData list key", lambda s: s.storeData(["k"], 1.0, 1, 2), UnknownStorageError, "['k']"),  # type: ignore[arg-type]
    ("storeData too few", lambda s: s.storeData("k", 1.0, 77), TypeError, "77"),
    ("storeData too many", lambda s: s.storeData("k", 1.0, 1, 2, 78), TypeError, "78"),
    ("storeData time text", lambda s: s.storeData("k", "now", 1, 2), TypeError, "'now'"),  # type: ignore[arg-type]
    ("storeData time None", lambda s: s.storeData("k", None, 1, 2), TypeError, "None"),  # type: ignore[arg-type]
    ("storeData time nan", lambda s: s.storeData("k", math.nan, 1, 2), ValueError, "nan"),
    ("storeData time inf", lambda s: s.storeData("k", -math.inf, 1, 2), ValueError, "-inf"),
    ("storeData time huge", lambda s: s.storeData("k", 10**400, 1, 2), ValueError, "100000"),
    ("storeData value", lambda s: s.storeData("k", 1.0, {"a": 1}, 2), TypeError, "{'a': 1}"),
    ("storeData object", lambda s: s.storeData("k", 1.0, 1, 2 + 3j), TypeError, "(2+3j)"),
    ("storeData big", lambda s: s.storeData("k", 1.0, 2**63, 2), ValueError, str(2**63)),
    ("storeData inexact", lambda s: s.storeData("k", 1.0, 1, 2**53 + 1), ValueError, str(2**53 + 1)),
    ("storeData surrogate", lambda s: s.storeData("k", 1.0, "\ud800", 2), ValueError, "\\ud800"),
    ("addStorage key", lambda s: s.addStorage(5, ["v"], ["INT"]), TypeError, "5"),  # type: ignore[arg-type]
    ("addStorage empty", lambda s: s.addStorage("", ["v"], ["INT"]), ValueError, "''"),
    ("addStorage reserved", lambda s: s.addStorage("sqlite_x", ["v"], ["INT"]), ValueError, "'sqlite_x'"),
    ("addStorage internal", lambda s: s.addStorage("tsstreamer_x", ["v"], ["INT"]), ValueError, "'tsstreamer_x'"),
    ("addStorage keys", lambda s: s.addStorage("x", "v", ["INT"]), TypeError, "'v'"),
    ("addStorage no keys", lambda s: s.addStorage("x", [], []), ValueError, "got 0"),
    ("addStorage numbers", lambda s: s.addStorage("x", ["v"], []), ValueError, "0 types"),
    ("addStorage column", lambda s: s.addStorage("x", [7], ["INT"]), TypeError, "7"),  # type: ignore[list-item]
    ("addStorage twice", lambda s: s.addStorage("x", ["v", "V"], ["INT", "INT"]), ValueError, "'V'"),
    ("addStorage id", lambda s: s.addStorage("x", ["ID"], ["INT"]), ValueError, "'ID'"),
    ("addStorage type", lambda s: s.addStorage("x", ["v"], ["INT PRIMARY KEY"]), ValueError, "'INT PRIMARY KEY'"),
    ("addStorage break-out", lambda s: s.addStorage("x", ["v"], ["INT); DROP TABLE k; --"]), ValueError, "DROP TABLE"),
    ("addStorage other", lambda s: s.addStorage("k", ["v"], ["INTEGER"]), SchemaMismatchError, "w REAL"),
    ("addStorage case", lambda s: s.addStorage("K", ["v", "w"], ["INTEGER", "REAL"]), SchemaMismatchError, "'K'"),
    ("addStorage age", lambda s: s.addStorage("x", ["v"], ["INT"], maxAge=0), ValueError, "0"),
    ("addStorage rows", lambda s: s.addStorage("x", ["v"], ["INT"], maxRows=-3), ValueError, "-3"),
    ("stream unknown", lambda s: s.stream("nope"), UnknownStorageError, "'nope'"),
    ("stream exists", lambda s: s.stream("k", name="running"), StreamExistsError, "'running'"),
    ("stream nodes", lambda s: s.stream("k", "node"), TypeError, "'node'"),
    ("stream long name", lambda s: s.stream("k", ["n" * 256]), ValueError, "nnn"),
    ("stream many names", lambda s: s.stream("k", [f"{n:0250}" for n in range(300)]), ValueError, "65"),
    ("stream docks", lambda s: s.stream("k", [], [], [None]), TypeError, "None"),  # type: ignore[list-item]
    ("stream period", lambda s: s.stream("k", period=0), ValueError, "0"),
    ("stream period text", lambda s: s.stream("k", period="1"), TypeError, "'1'"),  # type: ignore[arg-type]
    ("stream formatter", lambda s: s.stream("k", formatter="yaml"), TypeError, "'yaml'"),  # type: ignore[arg-type]
    ("stream formatter one", lambda s: s.stream("k", formatter=lambda data: data), TypeError, "lambda"),
    ("stream formatter class", lambda s: s.stream("k", formatter=str), TypeError, "str"),
    ("stream both", lambda s: s.stream("k", sqlfilter="v=1", sqlfile="v=2"), TypeError, "v=2"),
    ("stream filter", lambda s: s.stream("k", sqlfilter="nosuch = 1"), FilterError, "nosuch"),
    ("stream filter type", lambda s: s.stream("k", sqlfilter=5), TypeError, "int"),  # type: ignore[arg-type]
    ("stream name", lambda s: s.stream("k", name=5), TypeError, "5"),  # type: ignore[arg-type]
    ("stream since", lambda s: s.stream("k", since="then"), TypeError, "'then'"),
    ("stream contenttype", lambda s: s.stream("k", contenttype=256), ValueError, "256"),
    ("stream maxRows", lambda s: s.stream("k", maxRows=0), ValueError, "0"),
    ("stream maxBytes", lambda s: s.stream("k", maxBytes=0), ValueError, "0"),
    ("stream window", lambda s: s.stream("k", window=0), ValueError, "0"),
    ("stream ackTimeout", lambda s: s.stream("k", ackTimeout=0), ValueError, "0"),
    ("doUpdates now", lambda s: s.doUpdates("now", RecordingMessenger()), TypeError, "'now'"),  # type: ignore[arg-type]
    ("doUpdates nan", lambda s: s.doUpdates(math.nan, RecordingMessenger()), ValueError, "nan"),
    ("doUpdates messenger", lambda s: s.doUpdates(1.0, print), TypeError, "print"),  # type: ignore[arg-type]
    ("startUpdates", lambda s: s.startUpdates(None), TypeError, "None"),  # type: ignore[arg-type]
    ("stopStream", lambda s: s.stopStream("nope"), UnknownStreamError, "'nope'"),
    ("stopStream type", lambda s: s.stopStream(5), UnknownStreamError, "5"),  # type: ignore[arg-type]
    ("flush", lambda s: s.flush(-1), ValueError, "-1"),
    ("flush type", lambda s: s.flush("1"), TypeError, "'1'"),  # type: ignore[arg-type]
    ("close", lambda s: s.close(-1), ValueError, "-1"),
    ("stopUpdates", lambda s: s.stopUpdates(math.inf), ValueError, "inf"),
]


@pytest.mark.parametrize(("call", "error", "text"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS])
def test_calls(
    streamer: SqliteDataStreamer, call: Callable[[SqliteDataStreamer], object], error: type[Exception], text: str
) -> None:
    """A wrong argument raises the named error with the value in its text, and nothing was queued."""
    with pytest.raises(error) as caught:
        call(streamer)
    assert type(caught.value) is error
    assert text in str(caught.value)
    assert streamer.stats().storages["k"].accepted == 0


AFTER_CLOSE: list[tuple[str, Callable[[SqliteDataStreamer], object]]] = [
    ("storeData", lambda s: s.storeData("k", 1.0, 1, 2)),
    ("storeData unknown", lambda s: s.storeData("nope", 1.0, 1, 2)),
    ("addStorage", lambda s: s.addStorage("x", ["v"], ["INT"])),
    ("stream", lambda s: s.stream("k")),
    ("doUpdates", lambda s: s.doUpdates(1.0, RecordingMessenger())),
    ("stopStream", lambda s: s.stopStream("running")),
    ("startUpdates", lambda s: s.startUpdates(RecordingMessenger())),
    ("flush", lambda s: s.flush()),
]


@pytest.mark.parametrize("call", [case[1] for case in AFTER_CLOSE], ids=[case[0] for case in AFTER_CLOSE])
def test_after_close(streamer: SqliteDataStreamer, call: Callable[[SqliteDataStreamer], object]) -> None:
    """Every call after `close` is a StreamerClosedError; `close` itself, `stats` and `stopUpdates` still answer."""
    report = streamer.close()
    with pytest.raises(StreamerClosedError, match="closed"):
        call(streamer)
    assert streamer.close() is report
    assert streamer.stats().state == "closed"
    assert streamer.stopUpdates()


def test_updates_run_once(streamer: SqliteDataStreamer) -> None:
    """While `startUpdates` runs, a second one and `doUpdates` are refused; after `stopUpdates` they work again."""
    streamer.startUpdates(RecordingMessenger())
    with pytest.raises(TsStreamerError, match="startUpdates is running"):
        streamer.startUpdates(RecordingMessenger())
    with pytest.raises(TsStreamerError, match="startUpdates is running"):
        streamer.doUpdates(1.0, RecordingMessenger())
    assert streamer.stopUpdates()
    assert streamer.doUpdates(1.0, RecordingMessenger()) == 2.0
