"""Another process holds the write lock: briefly, for long, or for ever because it was stopped."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING

import pytest

from tests.faults.programs import query
from tests.support import rows_of, wait_until, write_lock
from tsstreamer import SqliteDataStreamer, StorageError, TsStreamerError
from tsstreamer import _options as options
from tsstreamer._writer import Writer
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 2_000


def _store(streamer: SqliteDataStreamer, first: int) -> list[float]:
    """Store rows, and return the seconds that each call took."""
    seconds = []
    for number in range(first, first + ROWS):
        began = time.perf_counter()
        streamer.storeData("log", 1.0, number)
        seconds.append(time.perf_counter() - began)
    return seconds


def test_storing_does_not_feel_the_lock_and_nothing_is_lost(tmp_path: Path) -> None:
    """While the lock is held `storeData` is as fast as ever, the state says why; then all rows are stored once."""
    path = tmp_path / "log.db"
    changes: list[TsStreamerError | None] = []
    with SqliteDataStreamer(path, onError=changes.append) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        free = _store(streamer, 0)
        assert streamer.flush(10.0)
        with write_lock(path):
            held = _store(streamer, ROWS)
            wait_until(lambda: streamer.stats().state == "degraded")
            held += _store(streamer, 2 * ROWS)
            assert not streamer.flush(0.05)
            stats = streamer.stats()
            assert "SQLITE_BUSY" in stats.reason
            assert "another process holds the lock" in stats.reason
            assert stats.storages["log"].pending == 2 * ROWS
        assert streamer.flush(10.0)
        wait_until(lambda: len(changes) == 2)
        assert ("running", "") == (streamer.stats().state, streamer.stats().reason)
    # Generous: what is excluded is a wait for SQLite, which takes 250 000 times the median.
    assert median(held) < 20 * median(free) + 50e-6
    assert max(held) < options.BUSY_SECONDS
    assert ["StorageError", "NoneType"] == [type(change).__name__ for change in changes]
    assert list(range(3 * ROWS)) == [row[2] for row in rows_of(path, "log")]


def test_a_stopped_lock_holder_delays_and_its_death_frees(tmp_path: Path) -> None:
    """A holder that was stopped holds for ever; when it is killed, the rows are stored without any help."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        with write_lock(path) as process:
            process.send_signal(signal.SIGSTOP)
            streamer.storeData("log", 1.0, 0)
            wait_until(lambda: streamer.stats().state == "degraded")
            began = time.monotonic()
            assert not streamer.flush(0.2)
            assert time.monotonic() - began < 1.0
            process.send_signal(signal.SIGKILL)
            assert streamer.flush(10.0)
    assert [0] == [row[2] for row in rows_of(path, "log")]


def test_close_with_a_time_out_returns_in_time_and_counts_what_it_gives_up(tmp_path: Path) -> None:
    """The lock never comes: `close(timeout)` raises with the number of rows, the report has them, no thread is left."""
    path = tmp_path / "log.db"
    streamer = SqliteDataStreamer(path)
    streamer.addStorage("log", ["n"], ["INTEGER"])
    with write_lock(path):
        for number in range(3):
            streamer.storeData("log", 1.0, number)
        wait_until(lambda: streamer.stats().state == "degraded")
        flushed: list[bool] = []
        waiting = threading.Thread(target=lambda: flushed.append(streamer.flush()))
        waiting.start()
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"3 rows could not be committed.*SQLITE_BUSY"):
            streamer.close(0.5)
        assert 0.4 < time.monotonic() - began < 0.5 + 2.0
        waiting.join(5)
        assert [False] == flushed  # what was given up was not flushed
    report = streamer.close()
    assert (0, {"close": 3}) == (report.stored, dict(report.dropped))
    ledger = streamer.stats().storages["log"]
    assert (3, 0, 0, {"close": 3}) == (ledger.accepted, ledger.committed, ledger.pending, dict(ledger.dropped))
    assert [] == rows_of(path, "log")


def test_close_waits_for_the_lock_as_long_as_its_time_out_allows(tmp_path: Path) -> None:
    """The lock goes away during the close: everything is stored, and the close says so."""
    path = tmp_path / "log.db"
    streamer = SqliteDataStreamer(path)
    streamer.addStorage("log", ["n"], ["INTEGER"])
    with write_lock(path) as process:
        streamer.storeData("log", 1.0, 0)
        wait_until(lambda: streamer.stats().state == "degraded")
        killer = threading.Timer(0.5, process.kill)
        killer.start()
        assert 1 == streamer.close(10.0).stored
        killer.join()
    assert [0] == [row[2] for row in rows_of(path, "log")]


def test_calls_that_need_the_writer_give_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a lock `addStorage`, `stream` and `doUpdates` end: the first two with an error, sending goes on later."""
    monkeypatch.setattr(options, "OPEN_SECONDS", 0.5)
    path = tmp_path / "log.db"
    messenger = RecordingMessenger()
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        streamer.stream("log")
        monkeypatch.setattr(Writer.run, "__defaults__", (0.5,))
        with write_lock(path):
            streamer.storeData("log", 1.0, 0)
            began = time.monotonic()
            with pytest.raises(StorageError, match="not done within"):
                streamer.addStorage("other", ["n"], ["INTEGER"])
            with pytest.raises(StorageError, match="not done within"):
                streamer.stream("log", name="other")
            streamer.doUpdates(1.0, messenger)
            assert time.monotonic() - began < 5.0
        streamer.flush(10.0)
        streamer.doUpdates(100.0, messenger)
    assert 1 == sum(message.rows for message in messenger.messages)
    # What was given up was not done later behind the caller's back.
    assert [] == query(path, "SELECT name FROM sqlite_master WHERE name = 'other'")
    assert [("log",)] == query(path, "SELECT name FROM tsstreamer_streams")


def test_opening_under_a_lock_waits_and_then_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is held while the file is opened: the constructor waits, and raises with a hint."""
    monkeypatch.setattr(options, "OPEN_SECONDS", 0.3)
    path = tmp_path / "log.db"
    SqliteDataStreamer(path).close()
    with write_lock(path), pytest.raises(StorageError, match="another process holds the lock"):
        SqliteDataStreamer(path)
    SqliteDataStreamer(path).close()


def test_a_long_reader_lets_rows_be_stored_and_shows_in_the_size_of_the_log(tmp_path: Path) -> None:
    """Another program keeps a read transaction open: commits go on, `walBytes` grows; then it is bounded again."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path, flushInterval=0) as streamer:
        streamer.addStorage("log", ["text"], ["VARCHAR"])
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM log").fetchall()
            for _ in range(3):
                for _ in range(1_500):
                    streamer.storeData("log", 1.0, "x" * 4_000)
                assert streamer.flush(10.0)
            grown = streamer.stats().walBytes
            assert grown > 4_000 * 4_500
        for _ in range(3):
            streamer.storeData("log", 1.0, "x" * 4_000)
            assert streamer.flush(10.0)
        assert streamer.stats().walBytes < grown + 40_000  # written from its start again
        assert "running" == streamer.stats().state


def test_producers_that_outrun_a_held_lock_meet_their_bound(tmp_path: Path) -> None:
    """No more than `maxPending` rows wait; the oldest or newest are given up as asked, and counted."""
    path = tmp_path / "log.db"
    expected = {"dropNewest": range(1_000), "dropOldest": range(9_000, 10_000)}
    for overflow, kept in expected.items():
        with SqliteDataStreamer(path, maxPending=1_000, overflow=overflow) as streamer:
            streamer.addStorage(overflow, ["n"], ["INTEGER"])
            with write_lock(path):
                for number in range(10_000):
                    streamer.storeData(overflow, 1.0, number)
                ledger = streamer.stats().storages[overflow]
                assert ledger.pending <= 2_000  # as many again are in the running transaction
                assert 10_000 == ledger.accepted
            assert streamer.flush(10.0)
            ledger = streamer.stats().storages[overflow]
            assert 10_000 == ledger.accepted == ledger.committed + sum(ledger.dropped.values())
        numbers = [row[2] for row in rows_of(path, overflow)]
        assert sorted(numbers) == numbers
        assert 1_000 <= len(numbers) <= 2_000
        assert kept[-1] == numbers[-1] or overflow == "dropNewest"
        # What was dropped is in the file's ledger too, as far as it was closed in order.
        dropped = query(path, f"SELECT rows FROM tsstreamer_ledger WHERE reason = '{overflow}'")
        assert [(10_000 - len(numbers),)] == dropped
