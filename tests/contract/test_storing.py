"""Storing: everything accepted is stored once and in order, the books balance, nobody waits for the disk."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import rows_of, wait_until, write_lock
from tsstreamer import SqliteDataStreamer
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from tsstreamer import StorageStats


def balanced(ledger: StorageStats) -> bool:
    """Say whether what came in is what went out plus what is here."""
    return ledger.accepted == ledger.committed + ledger.pending + ledger.rejected + sum(ledger.dropped.values())


@pytest.mark.timeout(240)
def test_sixteen_threads_and_a_sender(tmp_path: Path) -> None:  # noqa: C901  (one ledger, kept by three parties)
    """16 threads store 50 000 rows each, a 17th sends: every row is stored and sent once, each thread's in order."""
    threads, each = 16, 50_000
    path = tmp_path / "many.db"
    streamer = SqliteDataStreamer(path)
    streamer.addStorage("k", ["thread", "number"], ["INTEGER", "INTEGER"])
    streamer.stream("k", ["n"], [], [], 0.05, lambda data, _: json.dumps(data), maxRows=50_000)
    messenger, done, unbalanced = RecordingMessenger(), threading.Event(), []

    def produce(thread: int) -> None:
        for number in range(each):
            streamer.storeData("k", 1.0, thread, number)

    def send() -> None:
        start = time.monotonic()
        while True:
            last = done.is_set()
            now = time.monotonic() - start
            due = streamer.doUpdates(now, messenger)
            ledger = streamer.stats().storages["k"]
            if not balanced(ledger):
                unbalanced.append(ledger)
            if last and not streamer.stats().streams["k"].lagRows:
                return
            # More is waiting when it is due at once; otherwise the period is slept out, as a user's loop would.
            done.wait(max(0.0, due - (time.monotonic() - start))) if not last else time.sleep(0.01)

    sender = threading.Thread(target=send)
    producers = [threading.Thread(target=produce, args=(thread,)) for thread in range(threads)]
    for thread in (sender, *producers):
        thread.start()
    for thread in producers:
        thread.join()
    done.set()
    sender.join()
    report = streamer.close()

    expected = [list(range(each)) for _ in range(threads)]
    stored: list[list[int]] = [[] for _ in range(threads)]
    for _, _, thread, number in rows_of(path, "k"):
        stored[thread].append(number)
    sent: list[list[int]] = [[] for _ in range(threads)]
    for message in messenger.messages:
        for _, thread, number in json.loads(message.data):
            sent[thread].append(number)
    assert stored == expected
    assert sent == expected
    assert unbalanced == []
    assert (report.stored, report.unsent) == (threads * each, {"k": 0})
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_ids_go_on_after_rows_were_deleted(tmp_path: Path) -> None:
    """An id is never used again, also when the newest rows are gone."""
    path = tmp_path / "ids.db"
    for expected in (1, 2):
        with SqliteDataStreamer(path) as streamer:
            streamer.addStorage("k", ["v"], ["INTEGER"])
            streamer.storeData("k", 1.0, 1)
        assert [row[0] for row in rows_of(path, "k")] == [expected]
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM k")


def test_flush_makes_rows_visible_to_others(tmp_path: Path) -> None:
    """When `flush` has returned True, another program sees every row stored before."""
    path = tmp_path / "flush.db"
    with SqliteDataStreamer(path, flushInterval=60) as streamer:
        streamer.addStorage("k", ["v"], ["INTEGER"])
        for number in range(100):
            streamer.storeData("k", 1.0, number)
            if number % 10 == 0:
                assert streamer.flush(10)
                assert [row[2] for row in rows_of(path, "k")] == list(range(number + 1))


def test_a_row_is_committed_without_being_asked_for(tmp_path: Path) -> None:
    """A lone row reaches the file by itself, after the flush interval."""
    path = tmp_path / "alone.db"
    with SqliteDataStreamer(path, flushInterval=0.01) as streamer:
        streamer.addStorage("k", ["v"], ["INTEGER"])
        streamer.storeData("k", 1.0, 5)
        assert wait_until(lambda: rows_of(path, "k")) == [(1, 1.0, 5)]


def test_an_idle_streamer_sleeps_and_writes_nothing(tmp_path: Path) -> None:
    """Over two seconds an idle streamer wakes at most twice a second, and writes nothing."""
    path = tmp_path / "idle.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("k", ["v"], ["INTEGER"])
        streamer.stream("k", ["n"], [], [], 1.0)
        streamer.startUpdates(RecordingMessenger())
        streamer.storeData("k", 1.0, 1)
        wait_until(lambda: streamer.stats().streams["k"].sentRows == 1)
        wait_until(lambda: streamer.stats().streams["k"].state == "waiting")
        before = _switches(), streamer.stats().commits, (path.stat().st_mtime_ns, _log(path).stat().st_mtime_ns)
        time.sleep(2)  # the time itself is what is tested here
        after = _switches(), streamer.stats().commits, (path.stat().st_mtime_ns, _log(path).stat().st_mtime_ns)
    assert after[1:] == before[1:]
    # Two wake-ups a second for two seconds; the others are this test's own sleep and look.
    assert after[0] - before[0] <= 2 * 2 + 4


def _switches() -> int:
    """Return how often the threads of this process went to sleep."""
    total = 0
    for line in (line for task in _tasks() for line in task.read_text().splitlines()):
        name, _, value = line.partition(":")
        total += int(value) if name == "voluntary_ctxt_switches" else 0
    return total


def _tasks() -> list[Path]:
    return [task / "status" for task in Path("/proc/self/task").iterdir()]


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def test_a_foreign_write_lock_delays_nobody(tmp_path: Path) -> None:
    """While another process holds the write lock for two seconds, storing is as fast as ever and nothing is lost."""
    path = tmp_path / "locked.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("k", ["v"], ["INTEGER"])

        def slowest(seconds: float) -> tuple[float, int]:
            worst, count, end = 0.0, 0, time.perf_counter() + seconds
            while (start := time.perf_counter()) < end:
                streamer.storeData("k", 1.0, count)
                worst = max(worst, time.perf_counter() - start)
                count += 1
                time.sleep(0.0005)
            return worst, count

        free, first = slowest(1.0)
        with write_lock(path):
            locked, second = slowest(2.0)
            assert streamer.stats().state == "degraded"
        assert streamer.flush(20)
        assert streamer.stats().state == "running"
    assert len(rows_of(path, "k")) == first + second
    # A wait for SQLite would be its whole busy time-out; a thread switch is some milliseconds on a busy machine.
    assert locked < max(0.1, 10 * free)


def test_a_burst_is_committed_within_the_flush_interval(tmp_path: Path) -> None:
    """A thousand rows at once are committed together after the flush interval, none waits for a second one."""
    path = tmp_path / "burst.db"
    with SqliteDataStreamer(path, flushInterval=0.5) as streamer:
        streamer.addStorage("k", ["v"], ["INTEGER"])
        for number in range(1000):
            streamer.storeData("k", 1.0, number)
        assert wait_until(lambda: len(rows_of(path, "k"))) == 1000


def test_a_program_that_changes_its_folder_goes_on_in_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means the folder in which the streamer was made."""
    monkeypatch.chdir(tmp_path)
    with SqliteDataStreamer("here.db") as streamer:
        streamer.addStorage("k", ["v"], ["INTEGER"])
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        streamer.storeData("k", 1.0, 1)
        assert streamer.flush(10)
        assert streamer.stats().state == "running"
    assert [row[2] for row in rows_of(tmp_path / "here.db", "k")] == [1]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_dropped_table_is_made_again(tmp_path: Path) -> None:
    """A table that somebody drops while the streamer runs is made again; the other storages go on, streams too."""
    path = tmp_path / "drop.db"
    with SqliteDataStreamer(path) as streamer:
        for key in ("a", "b"):
            streamer.addStorage(key, ["v"], ["INTEGER"])
            streamer.stream(key, ["n"], formatter=lambda data, _: json.dumps(data))
            streamer.storeData(key, 1.0, 1)
        messenger = RecordingMessenger()
        streamer.doUpdates(0.0, messenger)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TABLE a")
        for key in ("a", "b"):
            streamer.storeData(key, 1.0, 2)
        assert streamer.flush(20)
        clock = iter(range(1, 1000))
        wait_until(lambda: streamer.doUpdates(float(next(clock)), messenger) and len(messenger.messages) >= 4)
    assert [row[2] for row in rows_of(path, "a")] == [2]
    assert [row[2] for row in rows_of(path, "b")] == [1, 2]
    last = [message for message in messenger.messages if message.storage == "a"][-1]
    assert (last.epoch, last.data) == (2, "[[1.0, 2]]")


def test_adding_a_storage_again_keeps_its_rule(tmp_path: Path) -> None:
    """`addStorage` again with the same columns does nothing: retention stays as it was."""
    path = tmp_path / "again.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("k", ["v"], ["INTEGER"], maxRows=10)
        streamer.addStorage("k", ["v"], ["INTEGER"])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT maxrows FROM tsstreamer_storages").fetchall() == [(10,)]
