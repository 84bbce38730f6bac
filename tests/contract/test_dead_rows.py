"""Formatters that fail: bad rows go to the dead letters, the rest goes on, and nothing is given up at once."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.streaming import Collector, as_json, drain, numbers, opened, state, store
from tsstreamer import YamlFormatter
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class PicksOut:
    """A formatter that cannot format some numbers, and counts its calls."""

    def __init__(self, *bad: int, error: type[BaseException] = ValueError) -> None:
        self.bad = set(bad)
        self.error = error
        self.calls = 0

    def __call__(self, data: list[list[Any]], userdata: object) -> str:
        self.calls += 1
        for row in data:
            if row[1] in self.bad:
                raise self.error(row[1])
        return as_json(data, userdata)


def letters(path: Path) -> list[tuple[Any, ...]]:
    """Return ``(storage, stream, id, reason, row)`` of the dead letters."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT storage, stream, rowid_, reason, row FROM tsstreamer_dead").fetchall()


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit])
def test_a_row_that_cannot_be_formatted_costs_itself_only(tmp_path: Path, error: type[BaseException]) -> None:
    """The bad rows are dead letters with stream, id, reason and values; all others are sent, in the same message."""
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", name="s", formatter=PicksOut(2, 5, error=error))
    store(streamer, range(6))
    streamer.doUpdates(100.0, receiver)
    assert [[0, 1, 3, 4]] == [numbers(message) for message in receiver.messages]
    assert [(0, 6, 4)] == [(message.after, message.upto, message.rows) for message in receiver.messages]
    assert (6, 4, 2, "waiting") == (
        state(streamer, "s").position,
        state(streamer, "s").sentRows,
        state(streamer, "s").deadRows,
        state(streamer, "s").state,
    )
    streamer.close()
    name = error.__name__
    assert [("log", "s", 3, f"{name}: 2", "[2]"), ("log", "s", 6, f"{name}: 5", "[5]")] == letters(tmp_path / "db")


@pytest.mark.parametrize("nonsense", [None, 3, ["text"], bytearray(b"text")])
def test_nonsense_counts_as_a_failure(nonsense: object) -> None:
    """A formatter must return str or bytes; anything else is a failure that names the type."""
    formatter: Any = lambda *_: nonsense  # noqa: E731  (of no type that `stream` would take)
    streamer = opened()
    streamer.stream("log", formatter=formatter)
    store(streamer, [1])
    streamer.doUpdates(100.0, Collector())
    assert f"got {type(nonsense).__name__}" in state(streamer).lastError
    streamer.close()


def test_a_formatter_that_fails_for_all_rows_is_tried_again_first(tmp_path: Path) -> None:
    """Nothing is lost by a formatter that is mended in time."""
    streamer, receiver, formatter = opened(tmp_path / "db"), Collector(), PicksOut(*range(6))
    streamer.stream("log", formatter=formatter)
    store(streamer, range(6))
    for now in (100.0, 200.0, 300.0):
        streamer.doUpdates(now, receiver)
        assert ("backing off", "ValueError: 5") == (state(streamer).state, state(streamer).lastError)
    formatter.bad.clear()
    streamer.doUpdates(400.0, receiver)
    streamer.close()
    assert list(range(6)) == receiver.values
    assert [] == letters(tmp_path / "db")


def test_a_formatter_that_stays_broken_does_not_stop_the_stream_for_ever(tmp_path: Path) -> None:
    """After a few tries the rows are dead letters, and what comes later is tried anew."""
    streamer, receiver, formatter = opened(tmp_path / "db"), Collector(), PicksOut(*range(6))
    streamer.stream("log", formatter=formatter)
    store(streamer, range(6))
    for now in (100.0, 200.0, 300.0, 400.0):
        streamer.doUpdates(now, receiver)
    assert (6, 0) == (state(streamer).deadRows, state(streamer).lagRows)
    assert 6 == len(letters(tmp_path / "db"))
    store(streamer, [6])
    streamer.doUpdates(500.0, receiver)
    streamer.close()
    assert [6] == receiver.values
    assert [] == receiver.gaps


def test_a_single_bad_row_alone(tmp_path: Path) -> None:
    """One row that comes alone gets its tries like many, and then does not hold up the next."""
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=PicksOut(0))
    store(streamer, [0])
    for now in (100.0, 200.0, 300.0, 400.0):
        streamer.doUpdates(now, receiver)
    store(streamer, [1])
    streamer.doUpdates(500.0, receiver)
    streamer.close()
    assert [1] == receiver.values
    assert [1] == [letter[2] for letter in letters(tmp_path / "db")]


def test_messages_before_a_chunk_that_fails_are_sent(tmp_path: Path) -> None:
    """A chunk of bad rows does not hold back the good messages built before it."""
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=PicksOut(4, 5), maxRows=2)
    store(streamer, range(8))
    streamer.doUpdates(100.0, receiver)
    assert [0, 1, 2, 3] == receiver.values
    assert ("backing off", 4) == (state(streamer).state, state(streamer).position)
    for now in (200.0, 300.0, 400.0, 500.0):
        streamer.doUpdates(now, receiver)
    streamer.close()
    assert [0, 1, 2, 3, 6, 7] == receiver.values


def test_a_repeated_message_with_a_bad_row_is_the_same_and_buries_it_once(tmp_path: Path) -> None:
    """After a restart the boundaries are those written down, the bad row is left out again, and has one letter."""
    streamer, lost = opened(tmp_path / "db"), RecordingMessenger(futures=True)
    streamer.stream("log", formatter=PicksOut(1), maxRows=3)
    store(streamer, range(5))
    streamer.doUpdates(100.0, lost)
    streamer.close()
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=PicksOut(1), maxRows=100)
    streamer.doUpdates(200.0, receiver)
    streamer.close()
    assert lost.messages == receiver.messages
    assert [0, 2, 3, 4] == receiver.values
    assert [2] == [letter[2] for letter in letters(tmp_path / "db")]


def test_a_repeated_message_in_which_nothing_is_left(tmp_path: Path) -> None:
    """Boundaries between which no row can be formatted any more are passed over; the next message says so."""
    streamer = opened(tmp_path / "db")
    streamer.stream("log", formatter=as_json, maxRows=2, window=2)
    store(streamer, range(6))
    streamer.doUpdates(100.0, RecordingMessenger(futures=True))
    streamer.close()
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=PicksOut(0, 1), maxRows=2)
    for now in (100.0, 200.0, 300.0, 400.0):
        streamer.doUpdates(now, receiver)
    streamer.close()
    assert [2, 3, 4, 5] == receiver.values
    assert [(0, 4), (4, 6)] == [(message.after, message.upto) for message in receiver.messages]
    assert [] == receiver.gaps


def test_a_formatter_that_fails_for_many_rows_at_once() -> None:
    """Rows that can be formatted singly but not together are sent in smaller messages, and none is given up."""
    streamer, receiver = opened(), Collector()

    def small_only(data: list[list[Any]], userdata: object) -> str:
        if len(data) > 10:
            raise MemoryError
        return as_json(data, userdata)

    streamer.stream("log", formatter=small_only)
    store(streamer, range(100))
    drain(streamer, receiver)
    assert list(range(100)) == receiver.values
    assert ("", 0) == (state(streamer).lastError, state(streamer).deadRows)
    assert 10 <= len(receiver.messages) <= 20
    streamer.close()


def test_a_formatter_may_change_what_it_gets() -> None:
    """Each call gets rows of its own: what one call did to them does not show in the next."""
    streamer, receiver = opened(), Collector()

    def greedy(data: list[list[Any]], _: object) -> str:
        text = json.dumps(data)
        bad = any(row[1] == 1 for row in data)
        for row in data:
            row.clear()
        data.clear()
        if bad:
            raise ValueError
        return text

    streamer.stream("log", formatter=greedy)
    store(streamer, range(3))
    streamer.doUpdates(100.0, receiver)
    assert [0, 2] == receiver.values
    streamer.close()


class _Unspeakable(Exception):  # noqa: N818  (a name for a test)
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("where", ["formatter", "messenger"])
def test_an_error_that_cannot_be_printed(where: str) -> None:
    """An exception whose text raises too is shown by its type."""
    streamer = opened()

    class Failing:
        def send(self, _: object, /) -> None:
            raise _Unspeakable

    fails: Callable[..., str] = PicksOut(0, error=_Unspeakable)
    streamer.stream("log", formatter=fails if where == "formatter" else as_json)
    store(streamer, [0])
    streamer.doUpdates(100.0, Failing())
    assert "_Unspeakable" in state(streamer).lastError
    streamer.close()


class _Picky(YamlFormatter):
    """Leaves every row to `row`, and cannot do one of them."""

    def sqlexact(self, columns: Sequence[str], affinities: Sequence[str] | None = None) -> str:  # noqa: ARG002  (likewise)
        return "0"

    def row(self, row: Sequence[object]) -> str:
        if row[1] == 1:
            raise ValueError(row[1])
        return super().row(row)


def test_a_formatter_of_sql_that_fails_in_python(tmp_path: Path) -> None:
    """The rows that an `SqlFormatter` makes in Python are tried singly too."""
    streamer, messenger = opened(tmp_path / "db"), RecordingMessenger()
    streamer.stream("log", formatter=_Picky())
    store(streamer, range(3))
    streamer.doUpdates(100.0, messenger)
    assert [2] == [message.rows for message in messenger.messages]
    assert 1 == state(streamer).deadRows
    streamer.close()
    assert [(2, "ValueError: 1")] == [letter[2:4] for letter in letters(tmp_path / "db")]
