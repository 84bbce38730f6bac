"""The overflow policies, with a writer that another process's lock holds still: one row is in its hands."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import rows_of, wait_until, write_lock
from tsstreamer import BufferFullError, SqliteDataStreamer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOUND = 100


@contextmanager
def held(path: Path, **options: Any) -> Iterator[tuple[SqliteDataStreamer, Any]]:
    """Give a streamer whose writer has taken row 0 and cannot commit it."""
    with SqliteDataStreamer(path, maxPending=BOUND, flushInterval=0.0, **options) as streamer:
        streamer.addStorage("k", ["v"], ["INTEGER"])
        with write_lock(path) as locker:
            streamer.storeData("k", 1.0, 0)
            wait_until(lambda: streamer.stats().state == "degraded")
            yield streamer, locker


def numbers(path: Path) -> list[int]:
    """Return the values stored, in order."""
    return [row[2] for row in rows_of(path, "k")]


def test_drop_newest_keeps_the_oldest_and_counts(tmp_path: Path) -> None:
    """With dropNewest the first `maxPending` rows are kept and each later one is counted."""
    path = tmp_path / "o.db"
    with held(path, overflow="dropNewest") as (streamer, _):
        for number in range(1, BOUND + 51):
            streamer.storeData("k", 1.0, number)
        ledger = streamer.stats().storages["k"]
        assert (ledger.accepted, ledger.pending, ledger.dropped) == (BOUND + 51, BOUND + 1, {"dropNewest": 50})
    assert numbers(path) == list(range(BOUND + 1))


def test_drop_oldest_keeps_the_newest_and_counts(tmp_path: Path) -> None:
    """With dropOldest the rows in the writer's hands and the newest ones are kept, the ones between are counted."""
    path = tmp_path / "o.db"
    with held(path, overflow="dropOldest") as (streamer, _):
        for number in range(1, BOUND + 51):
            streamer.storeData("k", 1.0, number)
        ledger = streamer.stats().storages["k"]
        assert (ledger.accepted, ledger.pending, ledger.dropped) == (BOUND + 51, BOUND + 1, {"dropOldest": 50})
    assert numbers(path) == [0, *range(51, BOUND + 51)]


def test_raise_refuses_at_once(tmp_path: Path) -> None:
    """With raise the row that finds no room is an error at once, and was never accepted."""
    path = tmp_path / "o.db"
    with held(path, overflow="raise") as (streamer, _):
        for number in range(1, BOUND + 1):
            streamer.storeData("k", 1.0, number)
        start = time.monotonic()
        with pytest.raises(BufferFullError, match=f"'k': {BOUND} rows are pending"):
            streamer.storeData("k", 1.0, -1)
        assert time.monotonic() - start < 0.2
        ledger = streamer.stats().storages["k"]
        assert (ledger.accepted, ledger.pending, ledger.refused) == (BOUND + 1, BOUND + 1, 1)
    assert numbers(path) == list(range(BOUND + 1))


def test_block_waits_as_long_as_it_was_told(tmp_path: Path) -> None:
    """With block the row waits `blockTimeout` seconds for room, then it is an error."""
    path = tmp_path / "o.db"
    with held(path, overflow="block", blockTimeout=0.5) as (streamer, _):
        for number in range(1, BOUND + 1):
            streamer.storeData("k", 1.0, number)
        start = time.monotonic()
        with pytest.raises(BufferFullError, match=r"no room within 0\.5 s"):
            streamer.storeData("k", 1.0, -1)
        assert 0.5 <= time.monotonic() - start < 2
        assert streamer.stats().storages["k"].refused == 1
    assert numbers(path) == list(range(BOUND + 1))


def test_block_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """With block all producers that wait go on once the lock is gone, and nothing is lost or doubled."""
    path = tmp_path / "o.db"
    with held(path, overflow="block") as (streamer, locker):

        def produce(base: int) -> None:
            for number in range(base, base + 2 * BOUND):
                streamer.storeData("k", 1.0, number)

        producers = [threading.Thread(target=produce, args=(base,)) for base in (1000, 2000, 3000)]
        for producer in producers:
            producer.start()
        wait_until(lambda: streamer.stats().storages["k"].pending > BOUND)
        assert streamer.stats().storages["k"].pending <= 1 + BOUND + len(producers)
        assert all(producer.is_alive() for producer in producers)
        locker.kill()
        for producer in producers:
            producer.join(20)
    assert sorted(numbers(path)) == [0, *(base + n for base in (1000, 2000, 3000) for n in range(2 * BOUND))]


def test_a_blocked_producer_learns_of_the_close(tmp_path: Path) -> None:
    """A `storeData` that waits for room when the streamer closes raises, and its row is not in the file."""
    path = tmp_path / "o.db"
    outcome: list[BaseException | None] = []
    with held(path, overflow="block") as (streamer, locker):
        for number in range(1, BOUND + 1):
            streamer.storeData("k", 1.0, number)

        def late() -> None:
            try:
                streamer.storeData("k", 1.0, -1)
            except BaseException as error:  # noqa: BLE001  (it is the outcome)
                outcome.append(error)
            else:
                outcome.append(None)

        producer = threading.Thread(target=late)
        producer.start()
        wait_until(lambda: streamer._backlogs["k"]._gates)
        closer = threading.Thread(target=streamer.close)
        closer.start()
        producer.join(10)
        locker.kill()
        closer.join(20)
    assert [type(error).__name__ for error in outcome] == ["StreamerClosedError"]
    assert numbers(path) == list(range(BOUND + 1))


def test_flush_is_not_fooled_by_newer_rows_that_were_dropped(tmp_path: Path) -> None:
    """With dropOldest, `flush` waits for the very rows before it, however many newer ones are given up meanwhile."""
    path = tmp_path / "o.db"
    with held(path, overflow="dropOldest") as (streamer, _):
        results: list[bool] = []
        flusher = threading.Thread(target=lambda: results.append(streamer.flush(0.5)))
        flusher.start()
        for number in range(1, 3 * BOUND):
            streamer.storeData("k", 1.0, number)
        flusher.join(10)
        assert results == [False]
        assert streamer.stats().storages["k"].committed == 0


def test_a_row_stored_from_inside_the_backlog_does_not_wait(tmp_path: Path) -> None:
    """A signal handler that stores while its thread holds the backlog's lock exceeds the bound by its row."""
    path = tmp_path / "o.db"
    with held(path, overflow="block") as (streamer, _):
        for number in range(1, BOUND + 1):
            streamer.storeData("k", 1.0, number)
        start = time.monotonic()
        with streamer._backlogs["k"]._lock:
            streamer.storeData("k", 1.0, BOUND + 1)
        assert time.monotonic() - start < 5
    assert numbers(path) == list(range(BOUND + 2))
