"""What one statement can do is done by one, as a transaction of its own: beside busy threads each costs a wait."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.programs import query
from tests.streaming import Collector, as_json, opened, store
from tests.support import KEYS, rows_of, wait_until, write_lock
from tsstreamer import SqliteDataStreamer
from tsstreamer import _options as options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 10.0


@contextmanager
def statements(streamer: SqliteDataStreamer) -> Iterator[list[str]]:
    """Give the list of what the writer executes, two words of each statement."""
    seen: list[str] = []
    connection: Any = streamer._database._writer
    connection.set_trace_callback(lambda text: seen.append(" ".join(text.split()[:2])))
    try:
        yield seen
    finally:
        connection.set_trace_callback(None)


@contextmanager
def at_once(streamer: SqliteDataStreamer, *keys: str) -> Iterator[None]:
    """Keep the writer from taking rows while the block stores some: a wake-up of before could make it take a part."""
    with ExitStack() as stack:
        for key in keys:
            stack.enter_context(streamer._backlogs[key]._lock)
        yield


@contextmanager
def held(streamer: SqliteDataStreamer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Stop the writer at its next insert, and give the function that waits until it is there."""
    database = streamer._database
    insert, reached, go = database.insert, threading.Event(), threading.Event()

    def wait(*arguments: Any) -> bool:
        reached.set()
        assert go.wait(PATIENCE)
        return insert(*arguments)

    def arrived() -> None:
        assert reached.wait(PATIENCE)

    monkeypatch.setattr(database, "insert", wait)
    try:
        yield arrived
    finally:
        go.set()


@pytest.mark.parametrize("number", [1, 2, 3, 255, 256, 257, 511, 513, 1_000, 1_025])
def test_rows_of_any_number_go_in_by_one_statement(tmp_path: Path, number: int) -> None:
    """All rows are there, in order and no others, however the statement was filled up."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path, flushInterval=1000.0) as streamer:
        streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
        with statements(streamer) as seen:
            with at_once(streamer, "log"):
                for n in range(number):
                    streamer.storeData("log", -float(n), n, None)
            assert streamer.flush(PATIENCE)
        assert ["INSERT OR"] == seen
    assert [(n + 1, -float(n), n, None) for n in range(number)] == rows_of(path, "log")


def test_each_storage_and_each_position_is_a_transaction(tmp_path: Path) -> None:
    """A batch of each of two storages, the boundaries of a message and its position: four statements, no BEGIN."""
    with opened(tmp_path / "db", flushInterval=1000.0) as streamer:
        streamer.addStorage("other", ["n"], ["INTEGER"])
        streamer.stream("log", formatter=as_json)
        with statements(streamer) as seen:
            with at_once(streamer, "log", "other"):
                streamer.storeData("other", 1.0, 1)
                streamer.storeData("log", 1.0, 1)
            streamer.doUpdates(100.0, Collector())
        assert ["INSERT OR", "INSERT OR", "UPDATE tsstreamer_streams", "UPDATE tsstreamer_streams"] == seen


def test_where_a_commit_waits_for_the_disk_all_share_one(tmp_path: Path) -> None:
    """With synchronous=FULL the batches of all storages are committed together."""
    with opened(tmp_path / "db", flushInterval=1000.0, synchronous="FULL") as streamer:
        streamer.addStorage("other", ["n"], ["INTEGER"])
        with statements(streamer) as seen:
            with at_once(streamer, "log", "other"):
                streamer.storeData("other", 1.0, 1)
                streamer.storeData("log", 1.0, 1)
            assert streamer.flush(PATIENCE)
        assert ["BEGIN IMMEDIATE", "INSERT OR", "INSERT OR", "COMMIT"] == seen


def test_a_statement_holds_no_more_than_sqlite_takes(tmp_path: Path) -> None:
    """With SQLite's own limit of variables, a backlog is written in several transactions, in order."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path, flushInterval=1000.0) as streamer:
        streamer.addStorage("log", KEYS, ["VARCHAR"] * len(KEYS))
        streamer._database._variables = 800
        commits = streamer.stats().commits
        with at_once(streamer, "log"):
            for n in range(450):
                streamer.storeData("log", float(n), *KEYS)
        assert streamer.flush(PATIENCE)
        assert 5 == streamer.stats().commits - commits
    assert [float(n) for n in range(450)] == [row[1] for row in rows_of(path, "log")]


def test_under_load_the_file_is_looked_at_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one transaction follows the other nobody looks, but before the first, after the last, and for a flush."""
    monkeypatch.setattr(options, "STATEMENT_ROWS", 10)
    monkeypatch.setattr(options, "GATHER_ROWS", 10)
    path = tmp_path / "db"
    with opened(path, flushInterval=0.0) as streamer:
        looks: list[bool] = []
        moved = streamer._database.moved

        def counted() -> bool:
            looks.append(moved())
            return looks[-1]

        monkeypatch.setattr(streamer._database, "moved", counted)

        def burst(seconds: float, flusher: threading.Thread | None = None) -> int:
            """Let eleven transactions follow each other; return how often somebody looked."""
            monkeypatch.setattr(options, "LOOK_SECONDS", seconds)
            before = streamer.stats().storages["log"].committed
            looks.clear()
            with held(streamer, monkeypatch) as arrived:
                streamer.storeData("log", 1.0, 0)
                arrived()
                for n in range(100):
                    streamer.storeData("log", 1.0, n)
                if flusher is not None:
                    flusher.start()
                    wait_until(lambda: streamer._writer._flushing)  # type: ignore[union-attr]
            wait_until(lambda: streamer.stats().storages["log"].committed == before + 101)
            wait_until(lambda: not streamer._writer._unseen)  # type: ignore[union-attr]
            return len(looks)

        assert 2 == burst(1000.0)
        assert 11 == burst(0.0)
        flusher = threading.Thread(target=streamer.flush)
        assert 11 == burst(1000.0, flusher)
        flusher.join(PATIENCE)


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_a_file_deleted_under_load_is_missed_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: str
) -> None:
    """When the last of many transactions is done it is said, and flush waits for that; new rows have a new file."""
    monkeypatch.setattr(options, "STATEMENT_ROWS", 10)
    monkeypatch.setattr(options, "GATHER_ROWS", 10)
    monkeypatch.setattr(options, "LOOK_SECONDS", 1000.0)
    path = tmp_path / "db"
    changes: list[object] = []
    with opened(path, flushInterval=0.0, synchronous=synchronous, onError=changes.append) as streamer:
        with held(streamer, monkeypatch) as arrived:
            streamer.storeData("log", 1.0, 0)
            arrived()  # it has looked
            path.unlink()
            for n in range(100):
                streamer.storeData("log", 1.0, n)
        wait_until(lambda: streamer.stats().storages["log"].committed == 101)
        assert streamer.flush(PATIENCE)
        assert ["StorageError", "NoneType"] == [type(change).__name__ for change in changes]
        store(streamer, [7])
        assert [(1, 7.0, 7)] == rows_of(path, "log")


def test_none_waits_as_nan(tmp_path: Path) -> None:
    """Whether a row is taken at a glance or converted, None in it is what binds fast; SQLite makes it NULL."""
    with SqliteDataStreamer(tmp_path / "db", flushInterval=1000.0) as streamer:
        streamer.addStorage("log", ["a", "b"], ["VARCHAR", "INTEGER"])
        backlog = streamer._backlogs["log"]
        with backlog._lock:  # the writer cannot take them
            streamer.storeData("log", 1.0, None, 1)
            streamer.storeData("log", 1, None, 1)  # an int as the time is converted
            rows = [backlog.queue.get(), backlog.queue.get()]
            for row in rows:
                backlog.queue.put(row)
    assert [(1.0, "nan", 1)] * 2 == [(time, str(a), b) for time, a, b in rows]
    assert [(1, 1.0, None, 1), (2, 1.0, None, 1)] == rows_of(tmp_path / "db", "log")


def test_a_backlog_at_its_bound_is_not_gathered(tmp_path: Path) -> None:
    """Where fewer rows may wait than make a good batch, a full backlog is written at once."""
    with opened(tmp_path / "db", flushInterval=1000.0, maxPending=10, blockTimeout=PATIENCE) as streamer:
        for n in range(500):
            streamer.storeData("log", float(n), n)
        assert streamer.flush(PATIENCE)
    assert list(range(500)) == [row[2] for row in rows_of(tmp_path / "db", "log")]


def test_dropped_rows_reach_the_ledger_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They need no transaction of their own under load; an idle writer, or the close, enters them."""
    path = tmp_path / "db"
    entered = "SELECT rows FROM tsstreamer_ledger WHERE reason = 'dropNewest'"
    monkeypatch.setattr(options, "RECORD_SECONDS", 1000.0)
    with opened(path, flushInterval=0.0, maxPending=10, overflow="dropNewest") as streamer:

        def overflow(rows: int) -> None:
            with held(streamer, monkeypatch) as arrived:
                streamer.storeData("log", 1.0, 0)
                arrived()
                for n in range(10 + rows):
                    streamer.storeData("log", 1.0, n)
            assert streamer.flush(PATIENCE)

        overflow(5)
        assert [] == query(path, entered)
        monkeypatch.setattr(options, "RECORD_SECONDS", 0.01)
        overflow(6)
        wait_until(lambda: query(path, entered) == [(11,)])
        monkeypatch.setattr(options, "RECORD_SECONDS", 1000.0)
        overflow(7)
        assert [(11,)] == query(path, entered)
    assert [(18,)] == query(path, entered)


def test_a_lock_held_by_another_process_costs_nothing(tmp_path: Path) -> None:
    """A statement that finds the database locked is tried again until it is done, once."""
    path = tmp_path / "db"
    changes: list[object] = []
    with opened(path, flushInterval=0.0, onError=changes.append) as streamer:
        with write_lock(path):
            streamer.storeData("log", 1.0, 1)
            wait_until(lambda: streamer.stats().state == "degraded")
        store(streamer, [2])
    assert [1, 2] == [row[2] for row in rows_of(path, "log")]
    assert 2 == len(changes)
