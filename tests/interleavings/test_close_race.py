"""`close` against `storeData`: a call that returned is in the file, one that raised is not, nothing else happens."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import rows_of, wait_until
from tsstreamer import SqliteDataStreamer, StreamerClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.timeout(120)
def test_close_races_with_eight_producers(tmp_path: Path) -> None:
    """200 times: what each of 8 producers was told is what the file holds."""
    for attempt in range(200):
        path = tmp_path / f"{attempt}.db"
        streamer = SqliteDataStreamer(path, synchronous="OFF", maxPending=100, flushInterval=0.001)
        streamer.addStorage("k", ["thread", "number"], ["INTEGER", "INTEGER"])
        accepted = [0] * 8
        running = threading.Barrier(9)

        def produce(thread: int, streamer: SqliteDataStreamer = streamer, accepted: list[int] = accepted) -> None:
            running.wait(10)  # noqa: B023  (each attempt joins its threads)
            while True:
                try:
                    streamer.storeData("k", 1.0, thread, accepted[thread])
                except StreamerClosedError:
                    return
                accepted[thread] += 1

        producers = [threading.Thread(target=produce, args=(thread,)) for thread in range(8)]
        for producer in producers:
            producer.start()
        running.wait(10)
        wait_until(lambda: sum(accepted) > attempt)  # noqa: B023  (called at once)
        report = streamer.close()
        for producer in producers:
            producer.join(10)
        stored: list[list[int]] = [[] for _ in range(8)]
        for _, _, thread, number in rows_of(path, "k"):
            stored[thread].append(number)
        assert stored == [list(range(count)) for count in accepted], attempt
        assert report.stored == sum(accepted)
        for file in tmp_path.glob(f"{attempt}.db*"):
            file.unlink()


class _Frozen:
    """Holds one thread at the moment before or after its put, until told to go on."""

    def __init__(self, streamer: SqliteDataStreamer, *, after: bool) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        backlog: Any = streamer._backlogs["k"]
        queue = backlog.queue
        frozen = self

        class Queue:
            get, get_nowait, qsize = queue.get, queue.get_nowait, queue.qsize

            @staticmethod
            def put(row: Any) -> None:
                if after:
                    queue.put(row)
                frozen.reached.set()
                assert frozen.go.wait(20)
                if not after:
                    queue.put(row)

        from tsstreamer._rows import compile_store  # noqa: PLC0415  (the private door, next to its use)

        backlog.queue = Queue
        streamer._stores["k"] = compile_store(backlog.table, backlog)


def _frozen_close(
    path: Path, *, after: bool, meanwhile: Callable[[SqliteDataStreamer], object]
) -> tuple[str, list[Any]]:
    """Hold a producer at its put while `meanwhile` closes; return what it was told, and the rows in the file."""
    streamer = SqliteDataStreamer(path)
    streamer.addStorage("k", ["v"], ["INTEGER"])
    frozen, outcome = _Frozen(streamer, after=after), []

    def produce() -> None:
        try:
            streamer.storeData("k", 1.0, 42)
        except StreamerClosedError:
            outcome.append("closed")
        else:
            outcome.append("stored")

    producer = threading.Thread(target=produce)
    producer.start()
    assert frozen.reached.wait(20)
    meanwhile(streamer)
    frozen.go.set()
    producer.join(20)
    streamer.close()
    return outcome[0], [row[2] for row in rows_of(path, "k")]


def test_a_producer_held_before_its_put_is_told_that_the_row_is_lost(tmp_path: Path) -> None:
    """A producer that was suspended between all checks and its put until `close` was over gets the error."""
    outcome = _frozen_close(tmp_path / "f.db", after=False, meanwhile=SqliteDataStreamer.close)
    assert outcome == ("closed", [])


def test_a_producer_held_after_its_put_is_told_the_truth(tmp_path: Path) -> None:
    """A producer that was suspended right after its put until `close` was over had its row drained: no error."""
    outcome = _frozen_close(tmp_path / "f.db", after=True, meanwhile=SqliteDataStreamer.close)
    assert outcome == ("stored", [42])


def test_a_producer_held_before_its_put_while_close_waits(tmp_path: Path) -> None:
    """A put that happens after `close` began, but before its last drain, is stored."""
    closers = []

    def begin_to_close(streamer: SqliteDataStreamer) -> None:
        # The writer is kept from its last drain by the lock of the database.
        streamer._database.lock.acquire()
        closers.append(threading.Thread(target=streamer.close))
        streamer._writer.submit(lambda _: None)  # type: ignore[union-attr]
        closers[0].start()
        wait_until(lambda: streamer._backlogs["k"]._refusal is not None)

    path = tmp_path / "f.db"
    streamer = SqliteDataStreamer(path)
    streamer.addStorage("k", ["v"], ["INTEGER"])
    frozen, outcome = _Frozen(streamer, after=False), []

    def produce() -> None:
        streamer.storeData("k", 1.0, 42)
        outcome.append("stored")

    producer = threading.Thread(target=produce)
    producer.start()
    assert frozen.reached.wait(20)
    begin_to_close(streamer)
    frozen.go.set()
    producer.join(20)
    streamer._database.lock.release()
    closers[0].join(20)
    assert outcome == ["stored"]
    assert [row[2] for row in rows_of(path, "k")] == [42]
