"""The documented example, line by line, with a stand-in for the testbed and for a log record."""

from __future__ import annotations

import math
import time
import types
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tsstreamer import SqliteDataStreamer
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from pathlib import Path

testbed = types.SimpleNamespace(nodename="node-1")
record = types.SimpleNamespace(
    name="agent", threadName="worker", levelno=30, filename="agent.py", lineno=7, getMessage=lambda: "it's: 100 %"
)


@pytest.fixture(params=["logging.db", ":memory:"])
def sqlitename(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A file and an in-memory database: everything works with both."""
    return request.param if request.param == ":memory:" else str(tmp_path / request.param)


def test_the_example_works_as_written(sqlitename: str) -> None:
    """Every line of the documented example works, and what it stored arrives as the YAML it describes."""
    logstream = SqliteDataStreamer(sqlitename=sqlitename, threadHack=True)
    keys = ["name", "thread", "level", "filename", "fileno", "msg", "exception"]
    types = ["VARCHAR", "VARCHAR", "INTEGER", "VARCHAR", "INTEGER", "VARCHAR", "VARCHAR"]
    logstream.addStorage("logkey", keys, types)
    msg, tb = record.getMessage(), None
    logstream.storeData(
        "logkey", time.time(), record.name, record.threadName, record.levelno, record.filename, record.lineno, msg, tb
    )

    def formatter(self: object, data: list[list[Any]], userdata: object) -> str:
        assert self is logstream
        assert userdata == {"level": 20}
        return yaml.safe_dump({testbed.nodename: {"index": ["time", *keys], "data": data}})

    dstnodes, dstgroups, period, sql, level = ["control"], ["watchers"], 5.0, "AND level >= 20", 20
    logstream.stream(
        "logkey", dstnodes, dstgroups, ["data", "log"], period, formatter, sqlfilter=sql, userdata={"level": level}
    )
    messenger, now = RecordingMessenger(), 1000.0
    nexttimestamp = logstream.doUpdates(now, messenger)
    userdata = logstream.stopStream("logkey")
    logstream.close()

    assert nexttimestamp == now + period
    assert userdata == {"level": 20}
    (message,) = messenger.messages
    document = yaml.safe_load(message.data)
    assert list(document) == ["node-1"]
    assert document["node-1"]["index"] == ["time", *keys]
    ((stamp, *values),) = document["node-1"]["data"]
    assert values == ["agent", "worker", 30, "agent.py", 7, "it's: 100 %", None]
    assert abs(stamp - time.time()) < 60
    assert message.dstnodes == {"control"}
    assert message.dstgroups == {"watchers"}
    assert message.dstdocks == {"data", "log"}
    assert message.contenttype == 5


def test_the_example_works_by_keyword(sqlitename: str) -> None:
    """Each documented argument can be given by its name."""
    with SqliteDataStreamer(sqlitename=sqlitename, threadHack=False, nodename="n") as streamer:
        streamer.addStorage(key="k", keys=["v"], types=["INTEGER"])
        streamer.storeData("k", 1.0, 2)
        streamer.stream(
            key="k",
            dstnodes=["a"],
            dstgroups=["b"],
            dstdocks=["c"],
            period=1.0,
            formatter=lambda data, userdata: repr((data, userdata)),
            sqlfile="WHERE v = 2",
            userdata=3,
        )
        messenger = RecordingMessenger()
        assert streamer.doUpdates(now=10.0, messenger=messenger) == 11.0
        assert [message.data for message in messenger.messages] == ["([[1.0, 2]], 3)"]
        assert streamer.stopStream(name="k") == 3


class _Formatters:
    """The three documented forms, each giving the same text."""

    def method(self, data: list[list[Any]], userdata: object) -> str:
        return f"{len(data)} {userdata}"


def _function(data: list[list[Any]], userdata: object) -> str:
    return f"{len(data)} {userdata}"


def _with_self(self: SqliteDataStreamer, data: list[list[Any]], userdata: object) -> str:
    assert isinstance(self, SqliteDataStreamer)
    return f"{len(data)} {userdata}"


@pytest.mark.parametrize("formatter", [_function, _Formatters().method, _with_self], ids=["function", "method", "self"])
def test_the_three_forms_of_a_formatter(sqlitename: str, formatter: Any) -> None:
    """A plain function, a bound method and a function with `self` first all get the rows and the user's data."""
    with SqliteDataStreamer(sqlitename) as streamer:
        streamer.addStorage("k", ["v"], ["INTEGER"])
        streamer.storeData("k", 1.0, 2)
        streamer.stream("k", [], [], [], 1.0, formatter, userdata="mine")
        messenger = RecordingMessenger()
        streamer.doUpdates(1.0, messenger)
        assert [message.data for message in messenger.messages] == ["1 mine"]


@pytest.mark.parametrize("text", ["level >= 20", "AND level >= 20", "WHERE level >= 20", "where level >= 20"])
@pytest.mark.parametrize("argument", ["sqlfilter", "sqlfile"])
def test_the_filter_has_two_names_and_three_forms(sqlitename: str, argument: str, text: str) -> None:
    """`sqlfilter` and `sqlfile` mean the same, with or without AND or WHERE in front."""
    with SqliteDataStreamer(sqlitename) as streamer:
        streamer.addStorage("k", ["level"], ["INTEGER"])
        for level in (10, 20, 30):
            streamer.storeData("k", 1.0, level)
        options: dict[str, Any] = {argument: text}
        streamer.stream("k", [], [], [], 1.0, lambda data, _: repr(data), **options)
        messenger = RecordingMessenger()
        streamer.doUpdates(1.0, messenger)
        assert [message.data for message in messenger.messages] == ["[[1.0, 20], [1.0, 30]]"]


def test_without_streams_nothing_is_ever_due(sqlitename: str) -> None:
    """`doUpdates` returns infinity when there is no stream."""
    with SqliteDataStreamer(sqlitename) as streamer:
        assert streamer.doUpdates(0.0, RecordingMessenger()) == math.inf
