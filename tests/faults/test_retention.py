"""Retention deletes what is too old or too much, what is still to be sent only if told so; ids never come back."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.programs import assert_intact, query
from tests.support import rows_of, wait_until
from tsstreamer import Receiver, SqliteDataStreamer
from tsstreamer import _options as options
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for expired rows more often than once a second."""
    monkeypatch.setattr(options, "RETENTION_SECONDS", 0.02)


def _store(streamer: SqliteDataStreamer, numbers: range, timestamp: float = 1.0) -> None:
    for number in numbers:
        streamer.storeData("log", timestamp, number)
    assert streamer.flush(10.0)


def test_max_rows_keeps_the_newest(tmp_path: Path) -> None:
    """Only the newest rows are left, deleted ones are counted, here and in the file's ledger."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"], maxRows=100)
        _store(streamer, range(5_000))
        wait_until(lambda: streamer.stats().storages["log"].deleted == 4_900)
        assert 0 == streamer.stats().storages["log"].deletedUnsent
    assert list(range(4_900, 5_000)) == [row[2] for row in rows_of(path, "log")]
    assert [(4_900,)] == query(path, "SELECT rows FROM tsstreamer_ledger WHERE reason = 'deleted'")


def test_max_age_goes_by_the_timestamps(tmp_path: Path) -> None:
    """Rows older than `maxAge` go, newer ones stay, also one in the future; nothing is deleted twice."""
    path = tmp_path / "log.db"
    now = time.time()
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"], maxAge=60.0)
        _store(streamer, range(3_000), now - 61.0)
        _store(streamer, range(3_000, 3_010), now + 1e6)
        _store(streamer, range(3_010, 3_020), now)
        wait_until(lambda: streamer.stats().storages["log"].deleted == 3_000)
        _store(streamer, range(3_020, 3_021), now)
    assert list(range(3_000, 3_021)) == [row[2] for row in rows_of(path, "log")]


def test_ids_never_come_back(tmp_path: Path) -> None:
    """After everything was deleted, and after a restart, new rows have ids that were never used."""
    path = tmp_path / "log.db"
    for run in range(3):
        with SqliteDataStreamer(path) as streamer:
            streamer.addStorage("log", ["n"], ["INTEGER"], maxAge=0.001)
            _store(streamer, range(10))
            wait_until(lambda: streamer.stats().storages["log"].deleted == 10)
        assert [] == rows_of(path, "log")
        assert [(10 * (run + 1),)] == query(path, "SELECT seq FROM sqlite_sequence WHERE name = 'log'")


def test_what_a_stream_has_still_to_send_is_kept(tmp_path: Path) -> None:
    """With `keepUnsent` no row goes before every stream has sent it; afterwards it goes at once."""
    path = tmp_path / "log.db"
    messenger = RecordingMessenger()
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"], maxRows=10)
        for name in ("one", "two"):
            streamer.stream("log", name=name, formatter=lambda data, _: str(len(data)))
        _store(streamer, range(1_000))
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            assert 0 == streamer.stats().storages["log"].deleted
        streamer.stopStream("two")
        streamer.doUpdates(1.0, messenger)
        wait_until(lambda: streamer.stats().storages["log"].deleted == 990)
        assert 0 == streamer.stats().storages["log"].deletedUnsent
    assert 1_000 == sum(message.rows for message in messenger.messages)


def test_without_keep_unsent_rows_go_and_the_receiver_sees_the_gap(tmp_path: Path) -> None:
    """Rows deleted before they were sent are counted, and the next message tells which ids are missing."""
    path = tmp_path / "log.db"
    messenger, receiver = RecordingMessenger(), Receiver()
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"], maxRows=10, keepUnsent=False)
        streamer.stream("log", formatter=lambda data, _: str(len(data)))
        _store(streamer, range(5))
        streamer.doUpdates(1.0, messenger)
        _store(streamer, range(5, 1_000))
        wait_until(lambda: streamer.stats().storages["log"].deleted == 990)
        assert 985 == streamer.stats().storages["log"].deletedUnsent
        now = 10.0
        while len(messenger.messages) < 2:
            now = streamer.doUpdates(now, messenger)  # the first pass may find its position moved
            assert now < 100
    verdicts = [receiver.take(message) for message in messenger.messages]
    assert ["new", "gap"] == [verdict.kind for verdict in verdicts]
    assert [5, 10] == [message.rows for message in messenger.messages]
    assert (990, 1_000) == (messenger.messages[1].after, messenger.messages[1].upto)
    assert [(985,)] == query(path, "SELECT rows FROM tsstreamer_ledger WHERE reason = 'deletedUnsent'")


@pytest.mark.parametrize("options_", [{"maxRows": 2_000}, {"maxAge": 0.2}])
def test_it_keeps_up_under_constant_load_and_the_file_stops_growing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options_: dict[str, float]
) -> None:
    """While rows are stored without a pause, the number of rows and the sizes of the files stay within bounds."""
    monkeypatch.setattr(options, "RETENTION_SECONDS", 0.2)
    path = tmp_path / "log.db"
    stop = threading.Event()
    with SqliteDataStreamer(path, maxPending=5_000) as streamer:
        streamer.addStorage("log", ["text"], ["VARCHAR"], **options_)  # type: ignore[arg-type]

        def produce() -> None:
            while not stop.is_set():
                streamer.storeData("log", time.time(), "x" * 200)

        threads = [threading.Thread(target=produce) for _ in range(2)]
        for thread in threads:
            thread.start()
        most = 0

        def bounded() -> bool:
            """Say whether a third of what was stored is, and was, the most that there is at one time."""
            nonlocal most
            stats = streamer.stats()
            ledger = stats.storages["log"]
            most = max(most, ledger.committed - ledger.deleted)
            return ledger.committed > 3 * most and 200 * ledger.committed > 3 * stats.databaseBytes

        try:
            stop.wait(1.0)
            wait_until(bounded, 30.0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert streamer.flush(10.0)
        assert streamer.stats().walBytes < 2 * options.WAL_LIMIT_BYTES
    assert_intact(path)


def test_a_look_that_left_some_goes_on_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that was not enough is followed by the next, larger one, not by a pause."""
    monkeypatch.setattr(options, "RETENTION_SECONDS", 3600.0)
    with SqliteDataStreamer(tmp_path / "log.db") as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        _store(streamer, range(20_000))
        streamer.addStorage("log", ["n"], ["INTEGER"], maxRows=10)
        wait_until(lambda: streamer.stats().storages["log"].deleted == 19_990)


def test_retention_and_ledger_survive_a_restart(tmp_path: Path) -> None:
    """Committed = in the table + deleted, over three runs; `stats` counts one run, the file all of them."""
    path = tmp_path / "log.db"
    for _ in range(3):
        with SqliteDataStreamer(path) as streamer:
            streamer.addStorage("log", ["n"], ["INTEGER"], maxRows=50)
            _store(streamer, range(300))
            wait_until(lambda: streamer.stats().storages["log"].deleted >= 250)
            assert 300 == streamer.stats().storages["log"].committed
    assert [("deleted", 850)] == query(path, "SELECT reason, rows FROM tsstreamer_ledger WHERE storage = 'log'")
    assert [(900,)] == query(path, "SELECT seq FROM sqlite_sequence WHERE name = 'log'")
    assert 50 == len(rows_of(path, "log"))


def test_a_lower_rule_takes_over(tmp_path: Path) -> None:
    """`addStorage` again with another rule changes it; without one it does nothing."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        _store(streamer, range(100))
        streamer.addStorage("log", ["n"], ["INTEGER"], maxRows=10)
        wait_until(lambda: streamer.stats().storages["log"].deleted == 90)
        streamer.addStorage("log", ["n"], ["INTEGER"])
        _store(streamer, range(100, 200))
        wait_until(lambda: streamer.stats().storages["log"].deleted == 190)
    assert list(range(190, 200)) == [row[2] for row in rows_of(path, "log")]
