"""What one message, and one pass, may hold: rows, bytes, and a share of the work."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from tests.streaming import Collector, as_json, drain, numbers, opened, state, store
from tsstreamer import JsonFormatter, SqliteDataStreamer, YamlFormatter
from tsstreamer import _options as options
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from tsstreamer.protocols import FormatFunction


def texts(texts: list[str]) -> SqliteDataStreamer:
    """Open a streamer with a storage ``log`` of texts."""
    streamer = SqliteDataStreamer(":memory:", nodename="here")
    streamer.addStorage("log", ["text"], ["VARCHAR"])
    for number, text in enumerate(texts):
        streamer.storeData("log", float(number), text)
    assert streamer.flush(10.0)
    return streamer


def test_rows_of_a_message() -> None:
    """No message has more rows than `maxRows`, and only the last has fewer."""
    streamer, receiver = opened(), Collector()
    streamer.stream("log", formatter=as_json, maxRows=30)
    store(streamer, range(100))
    streamer.doUpdates(100.0, receiver)
    assert [30, 30, 30, 10] == [message.rows for message in receiver.messages]
    assert list(range(100)) == receiver.values
    streamer.close()


@pytest.mark.parametrize("formatter", [YamlFormatter(), JsonFormatter(), as_json], ids=["yaml", "json", "function"])
@pytest.mark.parametrize("letter", ["a", "\xfc", "\U0001f600"])
def test_bytes_of_a_message(formatter: FormatFunction, letter: str) -> None:
    """No message of several rows takes more than `maxBytes` in UTF-8, and few take much less."""
    streamer, messenger = texts([letter * 100] * 1000), RecordingMessenger()
    streamer.stream("log", formatter=formatter, maxBytes=10_000)
    drain(streamer, messenger)
    sizes = [len(message.data.encode()) for message in messenger.messages if isinstance(message.data, str)]
    assert max(sizes) <= 10_000
    assert min(sizes[:-1]) > 7_000
    assert 1000 == sum(message.rows for message in messenger.messages)
    streamer.close()


def swelling(data: list[list[Any]], _: object) -> str:
    """Make much out of some short rows."""
    return json.dumps([row[1] * (400_000 if row[1] == "h" else 1) for row in data])


@pytest.mark.parametrize(
    ("formatter", "huge"),
    [(YamlFormatter(), "h" * 100_000), (as_json, "h" * 100_000), (swelling, "h")],
    ids=["yaml", "function", "swelling"],
)
def test_a_row_larger_than_the_budget_goes_alone(formatter: FormatFunction, huge: str) -> None:
    """A huge row among small ones is a message of its own, the small ones stay together, and the order holds."""
    small = "small"
    streamer, messenger = texts([small] * 50 + [huge, huge] + [small] * 50), RecordingMessenger()
    streamer.stream("log", formatter=formatter, maxBytes=3000)
    streamer.doUpdates(100.0, messenger)
    rows = [message.rows for message in messenger.messages]
    large = [number for number, message in enumerate(messenger.messages) if len(message.data) > 3000]
    assert [1, 1] == [rows[number] for number in large]
    assert (50, 50) == (sum(rows[: large[0]]), sum(rows[large[1] + 1 :]))
    assert len(rows) < 12
    streamer.close()


def test_long_rows_are_not_read_by_the_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one read brings into memory is bounded, also where `maxRows` would allow much more."""
    streamer, messenger = texts(["x" * 20_000] * 500), RecordingMessenger()
    read, longest = streamer._database.read, []

    def watched(*arguments: Any, **options: Any) -> Any:
        result = read(*arguments, **options)
        longest.append(max((len(value) for row in result for value in row if isinstance(value, str)), default=0))
        return result

    monkeypatch.setattr(streamer._database, "read", watched)
    streamer.stream("log", maxBytes=100_000)
    drain(streamer, messenger)
    assert 500 == sum(message.rows for message in messenger.messages)
    assert {4} == {message.rows for message in messenger.messages}
    assert max(longest) <= options.PROBE_ROWS * 20_100
    assert sum(length > 8 * 20_000 for length in longest) <= 4, "after the first look, hardly more than what is sent"
    streamer.close()


@pytest.mark.parametrize("formatter", [YamlFormatter(), None], ids=["yaml", "function"])
def test_rows_whose_text_is_longer_than_sqlite_can_take(formatter: YamlFormatter | None) -> None:
    """Where the text of a chunk, or of one row, passes SQLite's limit, rows are read fewer at a time, then singly."""
    # Bytes double in a text: the row fits, its text does not.
    streamer = SqliteDataStreamer(":memory:")
    streamer.addStorage("log", ["data"], ["BLOB"])
    rows = [b"s" * 10, b"\0" * 700_000, b"m" * 300_000, b"m" * 300_000, b"e"]
    for row in rows:
        streamer.storeData("log", 1.0, row)
    assert streamer.flush(10.0)
    reader = streamer._database._reader
    assert reader is not None
    reader.setlimit(0, 1_000_000)  # SQLITE_LIMIT_LENGTH
    lengths: list[int] = []

    def function(data: list[list[Any]], _: object) -> str:
        lengths.extend(len(row[1]) for row in data)
        return "text"

    messenger = RecordingMessenger()
    streamer.stream("log", formatter=formatter or function)
    streamer.doUpdates(100.0, messenger)
    assert ("", 5, 0) == (state(streamer).lastError, state(streamer).position, state(streamer).deadRows)
    assert 5 == sum(message.rows for message in messenger.messages)
    if formatter is None:
        assert [len(row) for row in rows] == lengths
    streamer.close()


def test_a_pass_has_its_share_and_is_due_again_at_once() -> None:
    """One pass sends so many messages of a stream; doUpdates then says that it wants to go on now."""
    streamer, receiver = opened(), Collector()
    streamer.stream("log", formatter=as_json, maxRows=1, period=50.0)
    store(streamer, range(options.PASS_MESSAGES + 3))
    assert 100.0 == streamer.doUpdates(100.0, receiver)
    assert list(range(options.PASS_MESSAGES)) == receiver.values
    assert 150.0 == streamer.doUpdates(100.0, receiver)
    assert options.PASS_MESSAGES + 3 == len(receiver.values)
    streamer.close()


def test_a_backlog_of_one_stream_does_not_keep_another_waiting() -> None:
    """In each call every stream has its turn, whatever another has still to send."""
    streamer, receiver = opened(), Collector()
    streamer.addStorage("other", ["n"], ["INTEGER"])
    store(streamer, range(options.PASS_MESSAGES * 3))
    streamer.stream("log", formatter=as_json, maxRows=1)
    streamer.stream("other", formatter=as_json)
    store(streamer, [-1], "other")
    streamer.doUpdates(100.0, receiver)
    assert -1 == receiver.values[-1]
    streamer.close()


def test_rows_that_come_during_a_pass_wait_for_the_next_period() -> None:
    """A producer that is faster than the messenger does not keep the pass going with ever smaller messages."""
    streamer = opened()

    class Slow(Collector):
        def send(self, message: Any, /) -> None:
            super().send(message)
            store(streamer, [max(self.values) + 1])

    messenger = Slow()
    streamer.stream("log", formatter=as_json, period=5.0)
    store(streamer, [0])
    assert 105.0 == streamer.doUpdates(100.0, messenger)
    assert [[0]] == [numbers(message) for message in messenger.messages]
    streamer.doUpdates(105.0, messenger)
    assert [[0], [1]] == [numbers(message) for message in messenger.messages]
    streamer.close()


def test_a_filter_that_matches_nothing_yields(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search through many rows is cut into passes, ends, and shows neither as a lag nor as a gap."""
    monkeypatch.setattr(options, "SCAN_ROWS", 100)
    streamer, receiver = opened(), Collector()
    streamer.stream("log", formatter=as_json, sqlfilter="n >= 3000", maxRows=50, period=7.0)
    store(streamer, range(3002))
    assert 100.0 == streamer.doUpdates(100.0, receiver), "more could be done at once"
    assert [] == receiver.values
    assert 3002 - 100 * options.PASS_SCANS == state(streamer).lagRows
    assert 107.0 == streamer.doUpdates(100.0, receiver)
    assert [(0, 3002)] == [(message.after, message.upto) for message in receiver.messages]
    store(streamer, range(100))
    streamer.doUpdates(107.0, receiver)
    assert (0, 0.0, 3002) == (state(streamer).lagRows, state(streamer).lagSeconds, state(streamer).position)
    store(streamer, [3002])
    streamer.doUpdates(114.0, receiver)
    assert [(0, 3002), (3002, 3103)] == [(message.after, message.upto) for message in receiver.messages]
    assert [3000, 3001, 3002] == receiver.values
    assert [] == receiver.gaps
    assert not math.isinf(streamer.doUpdates(115.0, receiver))
    streamer.close()


def test_the_formatter_sees_no_more_than_a_message() -> None:
    """A plain function is called once for each message with just its rows, where they fit the budget."""
    calls: list[int] = []

    def counted(data: list[list[Any]], _: object) -> str:
        calls.append(len(data))
        return json.dumps(data)

    streamer, receiver = opened(), Collector()
    streamer.stream("log", formatter=counted, maxRows=1000)
    store(streamer, range(2500))
    streamer.doUpdates(100.0, receiver)
    assert [1000, 1000, 500] == calls
    streamer.close()
