"""The N-th system call of SQLite fails, for N = 1, 2, 3 … until it is not reached any more."""

from __future__ import annotations

import errno
import itertools
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.faults.syscalls import CALLS, calls_of, failing, is_file
from tests.support import rows_of, wait_until
from tsstreamer import SqliteDataStreamer, StorageError, TsStreamerError
from tsstreamer import _options as options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ERRORS = (errno.ENOSPC, errno.EIO)
BATCHES, ROWS = 2, 10
MODES: dict[str, Callable[[int, int], bool]] = {
    "once": lambda first, number: number == first,
    "sticky": lambda first, number: number >= first,
    # The retry meets a fault of its own.
    "twice": lambda first, number: number in (first, first + 3),
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry quickly: hundreds of faults are to be survived in seconds."""
    monkeypatch.setattr(options, "RETRY_FIRST", 0.001)
    monkeypatch.setattr(options, "RETRY_LAST", 0.01)
    monkeypatch.setattr(options, "FLUSH_INTERVAL", 0.0)


def _checkpoint_always(streamer: SqliteDataStreamer) -> None:
    """Bring the checkpoint, which comes each thousand pages, into each commit."""
    with streamer._database.lock:
        streamer._database._connection().execute("PRAGMA wal_autocheckpoint = 1")


def _assert_sound(path: Path, expected: list[int]) -> None:
    assert expected == [row[2] for row in rows_of(path, "log")]
    with closing(sqlite3.connect(path)) as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", CALLS)
def test_storing_survives_the_failure_of_any_call(tmp_path: Path, call: str, error: int, mode: str) -> None:
    """Whichever call fails, once the fault is gone every accepted row is in the file exactly once."""
    path = tmp_path / "log.db"
    changes: list[TsStreamerError | None] = []
    with SqliteDataStreamer(path, flushInterval=0.0, onError=changes.append) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        _checkpoint_always(streamer)
        number = itertools.count()
        points = 0
        for first in itertools.count(1):
            with failing(call, error, partial(MODES[mode], first)) as fault:
                for _ in range(BATCHES):
                    for _ in range(ROWS):
                        streamer.storeData("log", 1.0, next(number))
                    # A checkpoint that fails raises nothing, and a sticky fault of it lets rows pass: both are right.
                    streamer.flush(0.05 if mode == "sticky" else 10.0)
                failed = fault.failed
                fault.clear()
                assert streamer.flush(10.0), calls_of(fault)
            if not failed:
                break
            points += 1
        expected = list(range(next(number)))
        assert "running" == streamer.stats().state
        assert len(expected) == streamer.stats().storages["log"].committed
    # Each trouble was told once, and so was each recovery.
    assert [bool(n % 2 == 0) for n in range(len(changes))] == [isinstance(change, StorageError) for change in changes]
    assert len(changes) <= 2 * 2 * points + 2
    _assert_sound(path, expected)


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", CALLS)
def test_opening_survives_the_failure_of_any_call(tmp_path: Path, call: str, error: int) -> None:
    """Opening works, or raises StorageError and leaves nothing; the next opening finds the rows of those before."""
    path = tmp_path / "log.db"
    expected = []
    refused = 0
    for first in itertools.count(1):
        with failing(call, error, first.__eq__) as fault:
            try:
                with SqliteDataStreamer(path, flushInterval=0.0) as streamer:
                    streamer.addStorage("log", ["n"], ["INTEGER"])
                    streamer.storeData("log", 1.0, first)
                    assert streamer.flush(10.0)
                    expected.append(first)
            except StorageError:
                refused += 1
        if not fault.failed:
            break
    assert expected[-1] == first
    assert len(expected) == first - refused
    _assert_sound(path, expected)


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
def test_a_failing_checkpoint_loses_nothing_and_shows_in_the_size_of_the_log(tmp_path: Path, error: int) -> None:
    """Writes to the database file itself fail without any error: commits go on, and `walBytes` shows it."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path, flushInterval=0.0) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        _checkpoint_always(streamer)
        with failing("pwrite64", error, lambda _: True, is_file(path)) as fault:
            for number in range(40):
                streamer.storeData("log", 1.0, number)
                assert streamer.flush(10.0)
            assert fault.failed
            grown = streamer.stats().walBytes
        assert grown > 40 * 4096
        assert "running" == streamer.stats().state
        for number in range(40, 80):
            streamer.storeData("log", 1.0, number)
            assert streamer.flush(10.0)
        assert grown + 4 * 4096 > streamer.stats().walBytes  # it is written from its start again
    _assert_sound(path, list(range(80)))


def test_a_fault_for_ever_is_degraded_and_told_once(tmp_path: Path) -> None:
    """While nothing can be written the state says why, `flush` is False, `close(timeout)` counts what it gives up."""
    path = tmp_path / "log.db"
    changes: list[TsStreamerError | None] = []
    streamer = SqliteDataStreamer(path, flushInterval=0.0, onError=changes.append)
    streamer.addStorage("log", ["n"], ["INTEGER"])
    with failing("pwrite64", errno.ENOSPC, lambda _: True):
        for number in range(5):
            streamer.storeData("log", 1.0, number)
        wait_until(lambda: streamer.stats().state == "degraded")
        assert not streamer.flush(0.1)
        stats = streamer.stats()
        assert "SQLITE_FULL" in stats.reason
        ledger = stats.storages["log"]
        assert (5, 0, 5) == (ledger.accepted, ledger.committed, ledger.pending)
        with pytest.raises(StorageError, match="5 rows"):
            streamer.close(0.3)
    assert {"close": 5} == dict(streamer.close().dropped)
    assert ["StorageError"] == [type(change).__name__ for change in changes]
    _assert_sound(path, [])


def test_without_the_retry_rows_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a writer that gives a failed batch up fails this ledger."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path, flushInterval=0.0) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        writer = streamer._writer
        assert writer is not None
        transact = writer._transact

        def careless(batches, jobs, *, due):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            try:
                return transact(batches, jobs, due=due)
            except sqlite3.Error:
                return {}, []

        monkeypatch.setattr(writer, "_transact", careless)
        with failing("pwrite64", errno.EIO, lambda n: n == 1):
            streamer.storeData("log", 1.0, 0)
            assert streamer.flush(10.0)
        streamer.storeData("log", 1.0, 1)
    with pytest.raises(AssertionError):
        _assert_sound(path, [0, 1])
