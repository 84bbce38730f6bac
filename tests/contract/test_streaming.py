"""Positions, identity and the life of a stream, as the contract's section *Streaming* promises them."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.streaming import PATIENCE, Collector, as_json, numbers, opened, saved, state, store
from tests.support import wait_until, write_lock
from tsstreamer import (
    FilterError,
    SqliteDataStreamer,
    StreamExistsError,
    TsStreamerError,
    UnknownStorageError,
    UnknownStreamError,
)
from tsstreamer import _options as options
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["file", ":memory:"])
def streamer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteDataStreamer]:
    """A streamer with a storage of numbers, in a file and in memory."""
    with opened(tmp_path / "db" if request.param == "file" else ":memory:") as made:
        yield made


# --- when and what ---


def test_a_stream_is_due_at_once_and_then_every_period(streamer: SqliteDataStreamer) -> None:
    """`doUpdates` returns the earliest time at which a stream is due, infinity without streams."""
    receiver = Collector()
    assert math.inf == streamer.doUpdates(100.0, receiver)
    streamer.stream("log", period=10.0, formatter=as_json)
    assert 110.0 == streamer.doUpdates(100.0, receiver)
    streamer.stream("log", period=3.0, formatter=as_json, name="often")
    assert 104.0 == streamer.doUpdates(101.0, receiver)
    assert 104.0 == streamer.doUpdates(102.0, receiver)
    streamer.stopStream("often")
    assert 110.0 == streamer.doUpdates(103.0, receiver)


def test_store_then_update_sends(streamer: SqliteDataStreamer) -> None:
    """Rows stored before the call are sent by it, without a flush."""
    receiver = Collector()
    streamer.stream("log", formatter=as_json)
    for value in range(5):
        streamer.storeData("log", 1.0, value)
    streamer.doUpdates(100.0, receiver)
    assert list(range(5)) == receiver.values


def test_without_new_rows_nothing_is_sent_nor_written(tmp_path: Path) -> None:
    """An idle stream sends no message and commits nothing, however often it is due."""
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=as_json)
    store(streamer, range(3))
    streamer.doUpdates(100.0, receiver)
    commits = streamer.stats().commits
    for now in range(101, 151):
        streamer.doUpdates(float(now), receiver)
    assert (1, commits) == (len(receiver.messages), streamer.stats().commits)
    streamer.close()


def test_rows_of_another_process_are_sent(tmp_path: Path) -> None:
    """Whoever committed a row: it is sent once it is there."""
    streamer, other, receiver = opened(tmp_path / "db"), opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=as_json)
    store(other, range(4))
    other.close()
    streamer.doUpdates(100.0, receiver)
    streamer.close()
    assert list(range(4)) == receiver.values


# --- identity ---


def test_the_identity_of_messages(streamer: SqliteDataStreamer) -> None:
    """A message says who sends which rows of what, and the ranges of a stream follow on without a hole."""
    messenger = RecordingMessenger()
    streamer.stream("log", ["n1", "n2"], ["g"], ["data", "log"], formatter=as_json, name="s", maxRows=2, contenttype=7)
    store(streamer, range(5))
    streamer.doUpdates(123.0, messenger)
    first = messenger.messages[0]
    destinations = [set(names) for names in (first.dstnodes, first.dstgroups, first.dstdocks)]
    assert [{"n1", "n2"}, {"g"}, {"data", "log"}] == destinations
    assert ("here", "s", "log", 7, 123.0, 1) == (
        first.src, first.stream, first.storage, first.contenttype, first.timestamp, first.epoch,
    )  # fmt: skip
    assert 32 == len(first.dbid)
    assert [(1, 0, 2, 2), (2, 2, 4, 2), (3, 4, 5, 1)] == [
        (message.sequence, message.after, message.upto, message.rows) for message in messenger.messages
    ]
    assert "[[0.0, 0], [1.0, 1]]" == first.data


def test_filtered_rows_leave_no_gap(streamer: SqliteDataStreamer) -> None:
    """`after` and `upto` cover what the filter left out, so that a receiver sees no gap where there is none."""
    receiver = Collector()
    streamer.stream("log", formatter=as_json, sqlfilter="n % 10 = 0", maxRows=3)
    for block in range(5):
        store(streamer, range(20 * block, 20 * block + 20))
        streamer.doUpdates(100.0 + block, receiver)
    store(streamer, range(101, 110))
    streamer.doUpdates(200.0, receiver)
    assert list(range(0, 100, 10)) == receiver.values
    assert [] == receiver.gaps
    ends = [message.upto for message in receiver.messages]
    assert [0, *ends[:-1]] == [message.after for message in receiver.messages]
    assert 0 == state(streamer).lagRows


def test_epoch_and_database_id(tmp_path: Path) -> None:
    """The epoch grows after an unclean end only; the id is new when the file is new."""
    receiver = Collector()

    def run(value: int) -> tuple[int, str]:
        with opened(tmp_path / "db") as streamer:
            streamer.stream("log", formatter=as_json)
            store(streamer, [value])
            streamer.doUpdates(100.0, receiver)
        return receiver.messages[-1].epoch, receiver.messages[-1].dbid

    first, second = run(0), run(1)
    assert first == second
    with closing(sqlite3.connect(tmp_path / "db")) as connection, connection:
        connection.execute("UPDATE tsstreamer_meta SET value = 0 WHERE name = 'clean'")
    assert (first[0] + 1, first[1]) == run(2)
    (tmp_path / "db").unlink()
    assert first[1] != run(3)[1]
    assert [0, 1, 2, 3] == receiver.values


def test_a_message_never_mixes_epochs(tmp_path: Path) -> None:
    """Rows of before and after an unclean start are in different messages, each with its epoch."""
    with opened(tmp_path / "db") as streamer:
        store(streamer, range(3))
    with closing(sqlite3.connect(tmp_path / "db")) as connection, connection:
        connection.execute("UPDATE tsstreamer_meta SET value = 0 WHERE name = 'clean'")
    receiver = Collector()
    with opened(tmp_path / "db") as streamer:
        store(streamer, range(3, 5))
        streamer.stream("log", formatter=as_json)
        streamer.stream("log", formatter=as_json, name="filtered", sqlfilter="n > 3")
        streamer.doUpdates(100.0, receiver)
    found = [(m.stream, m.epoch, m.after, m.upto, numbers(m)) for m in receiver.messages]
    assert [("log", 1, 0, 3, [0, 1, 2]), ("log", 2, 3, 5, [3, 4]), ("filtered", 2, 0, 5, [4])] == found


# --- positions ---


def test_the_position_is_written_after_the_message_was_accepted(tmp_path: Path) -> None:
    """While `send` runs, the file has the old position and the boundaries of what is being sent."""
    streamer = opened(tmp_path / "db")
    seen: list[Any] = []

    class Looking(Collector):
        def send(self, message: Any, /) -> None:
            super().send(message)
            seen.append(saved(tmp_path / "db"))

    streamer.stream("log", formatter=as_json, maxRows=2, window=1)
    store(streamer, range(4))
    streamer.doUpdates(100.0, Looking())
    assert [(0, 0, 0, "[[1, 2, 100.0]]"), (2, 2, 1, "[[2, 4, 100.0]]")] == seen
    assert (4, 4, 2, "[]") == saved(tmp_path / "db")
    streamer.close()


def test_a_new_process_goes_on_where_the_old_one_stopped(tmp_path: Path) -> None:
    """`close` keeps the position and the number of the last message."""
    receiver = Collector()
    for run in range(3):
        with opened(tmp_path / "db") as streamer:
            streamer.stream("log", formatter=as_json, since="now")
            store(streamer, range(3 * run, 3 * run + 3))
            streamer.doUpdates(100.0, receiver)
    assert list(range(9)) == receiver.values
    assert [1, 2, 3] == [message.sequence for message in receiver.messages]


def test_a_message_that_was_not_accepted_comes_again_identical_after_a_restart(tmp_path: Path) -> None:
    """Boundaries, number, timestamp and data of a repeat are the same, although new rows and other limits came."""
    streamer, refusing = opened(tmp_path / "db"), RecordingMessenger()
    streamer.stream("log", formatter=as_json, maxRows=3)
    store(streamer, range(5))
    refusing.failNext()
    streamer.doUpdates(100.0, refusing)
    streamer.close()
    streamer, messenger = opened(tmp_path / "db"), RecordingMessenger()
    streamer.stream("log", formatter=as_json, maxRows=100)
    store(streamer, range(5, 9))
    streamer.doUpdates(200.0, messenger)
    streamer.close()
    assert refusing.refused == messenger.messages[:1]
    assert [[0, 1, 2], [3, 4], [5, 6, 7, 8]] == [numbers(message) for message in messenger.messages]
    assert [100.0, 100.0, 200.0] == [message.timestamp for message in messenger.messages]


def test_stop_stream_forgets_the_position_and_returns_the_users_object(streamer: SqliteDataStreamer) -> None:
    """After `stopStream` the same name begins with the first row again; the object is the one that was given."""
    messenger, token = RecordingMessenger(), object()
    for _ in range(2):
        streamer.stream("log", formatter=as_json, userdata=token)
        store(streamer, [7])
        streamer.doUpdates(100.0, messenger)
        assert token is streamer.stopStream("log")
    assert [[7], [7, 7]] == [numbers(message) for message in messenger.messages]
    assert [1, 1] == [message.sequence for message in messenger.messages]


@pytest.mark.parametrize(("since", "expected"), [("now", [4]), (2.0, [2, 3, 4]), (99.0, [4]), (-1.0, [0, 1, 2, 3, 4])])
def test_since(streamer: SqliteDataStreamer, since: float | str, expected: list[int]) -> None:
    """A new stream begins with the first row whose timestamp is not older, or with the next row of all."""
    receiver = Collector()
    for value in range(4):
        streamer.storeData("log", float(value), value)
    streamer.stream("log", formatter=as_json, since=since)
    store(streamer, [4])
    streamer.doUpdates(100.0, receiver)
    assert expected == receiver.values


def test_a_stream_resumed_with_another_filter(tmp_path: Path) -> None:
    """What the old filter passed over stays passed over; from there on the new one decides."""
    receiver = Collector()
    for values, condition in ((range(6), "n % 2 = 0"), (range(6, 12), "n % 3 = 0")):
        with opened(tmp_path / "db") as streamer:
            streamer.stream("log", formatter=as_json, sqlfilter=condition)
            store(streamer, values)
            streamer.doUpdates(100.0, receiver)
    assert [0, 2, 4, 6, 9] == receiver.values
    assert [] == receiver.gaps


def test_names(streamer: SqliteDataStreamer) -> None:
    """A storage has a stream under its key and more under other names; a name is used once."""
    receiver = Collector()
    streamer.addStorage("other", ["n"], ["INTEGER"])
    streamer.stream("log", formatter=as_json)
    streamer.stream("log", formatter=as_json, name="second")
    with pytest.raises(StreamExistsError, match="'log' is running"):
        streamer.stream("log")
    with pytest.raises(StreamExistsError, match="'second' is running"):
        streamer.stream("other", name="second")
    with pytest.raises(UnknownStorageError):
        streamer.stream("third")
    with pytest.raises(UnknownStreamError, match="running: log, second"):
        streamer.stopStream("third")
    store(streamer, [1])
    streamer.doUpdates(100.0, receiver)
    assert ["log", "second"] == [message.stream for message in receiver.messages]


def test_a_position_belongs_to_its_storage(tmp_path: Path) -> None:
    """The name of a stream that was closed, not stopped, cannot be used for another storage."""
    with opened(tmp_path / "db") as streamer:
        streamer.stream("log", name="s")
    with opened(tmp_path / "db") as streamer:
        streamer.addStorage("other", ["n"], ["INTEGER"])
        with pytest.raises(TsStreamerError, match="sends from storage 'log'"):
            streamer.stream("other", name="s")
        streamer.stream("log", name="s")


# --- before anything is sent ---


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"dstnodes": ["n" * 256]}, ValueError),
        ({"dstgroups": ["\xe4" * 128]}, ValueError),
        ({"dstdocks": [""]}, ValueError),
        ({"dstnodes": "node"}, TypeError),
        ({"name": "s" * 256}, ValueError),
        ({"dstnodes": [f"{number:0200}" for number in range(400)]}, ValueError),
        ({"sqlfilter": "level = 1"}, FilterError),
        ({"sqlfilter": "n = 1", "sqlfile": "n = 1"}, TypeError),
        ({"since": "yesterday"}, TypeError),
        ({"since": math.nan}, ValueError),
        ({"period": 0.0}, ValueError),
        ({"window": 0}, ValueError),
        ({"contenttype": 256}, ValueError),
        ({"maxRows": 0}, ValueError),
        ({"maxBytes": 0}, ValueError),
        ({"ackTimeout": 0.0}, ValueError),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    streamer: SqliteDataStreamer, arguments: dict[str, Any], error: type[Exception]
) -> None:
    """Names over 255 bytes, a header over 64 KiB, a bad filter: an error of `stream`, and no stream is left behind."""
    with pytest.raises(error):
        streamer.stream("log", **arguments)
    assert {} == streamer.stats().streams
    streamer.stream("log")


# --- the world ---


def test_a_failure_is_shown_and_backed_off_from(streamer: SqliteDataStreamer) -> None:
    """A stream that fails says so, since when, waits longer each time, and is as before after it worked."""
    messenger = RecordingMessenger()
    streamer.stream("log", formatter=as_json, period=1000.0)
    store(streamer, range(2))
    messenger.failNext(5, OSError("line is down"))
    now, since, pauses = 100.0, set(), []
    for _ in range(5):
        due = streamer.doUpdates(now, messenger)
        assert ("backing off", 0, 2) == (state(streamer).state, state(streamer).position, state(streamer).lagRows)
        assert "OSError: line is down" in state(streamer).lastError
        since.add(state(streamer).since)
        pauses.append(due - now)
        now = due
    assert 1 == len(since), "it has been backing off since the first failure"
    assert abs(since.pop() - time.time()) < PATIENCE
    for number, pause in enumerate(pauses):
        assert 0.5 <= pause / (0.1 * 2**number) <= 1.5
    streamer.doUpdates(now, messenger)
    assert ("waiting", 2, 2, 1, 0) == (
        state(streamer).state,
        state(streamer).position,
        state(streamer).sentRows,
        state(streamer).sentMessages,
        state(streamer).lagRows,
    )
    assert "OSError" in state(streamer).lastError, "the last failure stays to be read"
    store(streamer, [2])
    messenger.failNext()
    due = streamer.doUpdates(5000.0, messenger)
    assert due - 5000.0 <= 0.15, "the pauses begin anew"


def test_a_locked_database_makes_a_stream_back_off(tmp_path: Path) -> None:
    """While another program holds the lock nothing is sent, since boundaries cannot be written; then it goes on."""
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=as_json)
    store(streamer, range(3))
    with write_lock(tmp_path / "db"):
        streamer.storeData("log", 1.0, 3)
        wait_until(lambda: streamer.stats().state == "degraded")
        start = time.monotonic()
        streamer.doUpdates(100.0, receiver)
        assert time.monotonic() - start < 2.0, "it does not wait together with the writer"
        assert ("backing off", []) == (state(streamer).state, receiver.values)
        assert "locked" in state(streamer).lastError
    assert streamer.flush(PATIENCE)
    streamer.doUpdates(200.0, receiver)
    streamer.close()
    assert [0, 1, 2, 3] == receiver.values


@pytest.mark.parametrize("how", ["deleted", "backup"])
def test_a_stream_follows_a_file_that_is_replaced(tmp_path: Path, how: str) -> None:
    """When the file is deleted or put back under the streamer, the stream goes on in what is there now."""
    path, receiver = tmp_path / "db", Collector()
    streamer = opened(path)
    streamer.stream("log", formatter=as_json)
    store(streamer, range(2))
    streamer.doUpdates(100.0, receiver)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "backup")) as target:
        source.backup(target)
    store(streamer, range(2, 6))
    streamer.doUpdates(200.0, receiver)
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"db{suffix}").unlink()
    if how == "backup":
        os.replace(tmp_path / "backup", path)  # noqa: PTH105  (one word for it)
    store(streamer, [6])
    streamer.doUpdates(300.0, receiver)
    streamer.doUpdates(400.0, receiver)
    assert ("waiting", 0) == (state(streamer).state, state(streamer).lagRows)
    streamer.close()
    assert [0, 1, 2, 3, 4, 5, 6] == receiver.values
    last = receiver.messages[-1]
    assert (1, 1) == (last.upto, last.epoch) if how == "deleted" else (3, 2) == (last.upto, last.epoch)


def test_a_filter_that_fails_at_run_time_stops_its_stream_visibly(streamer: SqliteDataStreamer) -> None:
    """The stream is stopped with the reason; the others go on; it is never due again."""
    receiver = Collector()
    streamer.stream("log", formatter=as_json, name="bad", sqlfilter="abs(n) > 0")
    streamer.stream("log", formatter=as_json, name="good")
    store(streamer, [-(2**63)])
    assert 101.0 == streamer.doUpdates(100.0, receiver)
    assert ("stopped", "waiting") == (state(streamer, "bad").state, state(streamer, "good").state)
    assert "integer overflow" in state(streamer, "bad").lastError
    streamer.stopStream("good")
    assert math.inf == streamer.doUpdates(200.0, receiver)


def test_a_search_that_takes_too_long_is_tried_again_before_the_filter_counts_as_endless(
    streamer: SqliteDataStreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stalled in the middle of a read goes on; a filter that is always too slow stops its stream."""
    receiver = Collector()
    streamer.stream("log", formatter=as_json, sqlfilter="n % 40000 = 0 AND lower(n) <> upper('x')")
    store(streamer, range(80_001))
    monkeypatch.setattr(options, "SEARCH_SECONDS", -1.0)
    streamer.doUpdates(100.0, receiver)
    assert "interrupted" in state(streamer).lastError
    assert "backing off" == state(streamer).state
    monkeypatch.setattr(options, "SEARCH_SECONDS", 60.0)
    streamer.doUpdates(200.0, receiver)
    assert [0, 40_000, 80_000] == receiver.values
    store(streamer, range(80_001))
    monkeypatch.setattr(options, "SEARCH_SECONDS", -1.0)
    for now in range(300, 300 + options.SEARCH_TRIES):
        streamer.doUpdates(float(100 * now), receiver)
        assert "backing off" == state(streamer).state
    streamer.doUpdates(1e6, receiver)
    assert "stopped" == state(streamer).state


# --- by itself ---


def test_start_and_stop_updates(tmp_path: Path) -> None:
    """Streams made before and after `startUpdates` send by themselves; `stopUpdates` makes a last pass; again works."""
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.addStorage("other", ["n"], ["INTEGER"])
    streamer.stream("log", formatter=as_json, period=1000.0)
    streamer.startUpdates(receiver)
    wait_until(lambda: state(streamer).state == "waiting" and streamer._senders["log"]._due > 0)
    streamer.stream("other", formatter=as_json, period=0.01)
    store(streamer, [0], "other")
    wait_until(lambda: receiver.values == [0])
    store(streamer, [1])
    assert streamer.stopUpdates()
    assert [0, 1] == receiver.values
    streamer.startUpdates(receiver)
    store(streamer, [2])
    streamer.close()
    assert [0, 1, 2] == receiver.values


def test_start_updates_sends_at_once(streamer: SqliteDataStreamer) -> None:
    """Whatever clock and period `doUpdates` was called with, `startUpdates` begins with a pass."""
    receiver = Collector()
    streamer.stream("log", formatter=as_json, period=1000.0)
    streamer.doUpdates(4e9, receiver)
    store(streamer, [1])
    streamer.startUpdates(receiver)
    wait_until(lambda: receiver.values == [1])


def test_close_makes_a_last_pass_over_everything(tmp_path: Path) -> None:
    """What was stored right before `close` is sent by it, also more than one pass holds; the report says so."""
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=as_json, maxRows=10, period=1000.0)
    streamer.startUpdates(receiver)
    wait_until(lambda: streamer._senders["log"]._due > 0)
    for value in range(1000):
        streamer.storeData("log", 1.0, value)
    report = streamer.close()
    assert (1000, {"log": 0}) == (report.stored, report.unsent)
    assert list(range(1000)) == receiver.values


def test_a_thread_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`startUpdates` and `stream` fail as a whole, nothing half-started stays behind, and a later call works."""
    streamer, receiver, start = opened(tmp_path / "db"), Collector(), threading.Thread.start
    lacking = ["tsstreamer-stream-second"]

    def limited(thread: threading.Thread) -> None:
        if thread.name in lacking:
            text = "can't start new thread"
            raise RuntimeError(text)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    streamer.stream("log", formatter=as_json)
    streamer.stream("log", formatter=as_json, name="second")
    with pytest.raises(RuntimeError):
        streamer.startUpdates(receiver)
    streamer.doUpdates(100.0, receiver)
    streamer.stopStream("second")
    streamer.startUpdates(receiver)
    with pytest.raises(RuntimeError):
        streamer.stream("log", formatter=as_json, name="second")
    assert ["log"] == list(streamer.stats().streams)
    lacking.clear()
    streamer.stream("log", formatter=as_json, name="second")
    store(streamer, [1])
    streamer.close()
    assert {"log", "second"} == {message.stream for message in receiver.messages}


def test_a_stream_that_waits_for_a_lock_does_not_hold_close_up(tmp_path: Path) -> None:
    """While `stream` waits for a database that is locked, `close` keeps its time, and `stream` fails."""
    streamer, outcome = opened(tmp_path / "db"), []

    def begin() -> None:
        try:
            streamer.stream("log")
        except TsStreamerError as error:
            outcome.append(error)

    thread = threading.Thread(target=begin)
    with write_lock(tmp_path / "db"):
        thread.start()
        wait_until(lambda: streamer.stats().state == "degraded")
        assert ["log"] == list(streamer.stats().streams)
        begin_closing = time.monotonic()
        streamer.close(0.5)
        assert time.monotonic() - begin_closing < 3.0
        thread.join(PATIENCE)
    assert 1 == len(outcome)


def test_rows_that_a_filter_passed_over_may_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a filter has looked at is written down after a while, and not again while nothing new comes."""
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=as_json, sqlfilter="n > 1000")
    store(streamer, range(10))
    streamer.doUpdates(100.0, receiver)
    assert (0, 0, 0, "[]") == saved(tmp_path / "db")
    monkeypatch.setattr(options, "SCANNED_SECONDS", 0.0)
    streamer.doUpdates(200.0, receiver)
    assert (0, 10, 0, "[]") == saved(tmp_path / "db")
    commits = streamer.stats().commits
    streamer.doUpdates(300.0, receiver)
    assert commits == streamer.stats().commits
    store(streamer, [1001])
    streamer.doUpdates(400.0, receiver)
    streamer.close()
    assert [(0, 11)] == [(message.after, message.upto) for message in receiver.messages]


def test_stop_updates_keeps_its_time(tmp_path: Path) -> None:
    """A backlog that takes longer than the time given is left, not sent to the end."""
    streamer = opened(tmp_path / "db")

    class Slow(Collector):
        def send(self, message: Any, /) -> None:
            super().send(message)
            threading.Event().wait(0.01)  # the messenger is slow

    messenger = Slow()
    streamer.stream("log", formatter=as_json, maxRows=1)
    store(streamer, range(1000))
    streamer.startUpdates(messenger)
    streamer.stopUpdates(0.2)
    wait_until(lambda: not any(thread.name == "tsstreamer-stream-log" for thread in threading.enumerate()))
    assert 0 < len(messenger.values) < 500
    streamer.close()


def test_the_report_of_close_counts_what_is_unsent(streamer: SqliteDataStreamer) -> None:
    """Without startUpdates `close` sends nothing; each stream's unsent rows are in the report."""
    receiver = Collector()
    streamer.stream("log", formatter=as_json)
    streamer.stream("log", formatter=as_json, name="filtered", sqlfilter="n < 3")
    store(streamer, range(5))
    streamer.doUpdates(100.0, receiver)
    store(streamer, range(2))
    assert {"log": 2, "filtered": 2} == streamer.close().unsent
