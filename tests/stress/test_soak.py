"""Everything at once for ten minutes (ten seconds in the quick tier): nothing lost, nothing twice, nothing grows."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SEED, SOAK
from tests.faults.programs import assert_intact, query, running
from tests.support import wait_until
from tsstreamer import Message, MessengerError, Receiver, SqliteDataStreamer, StreamerClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 600.0 if SOAK else 8.0
PRODUCERS = 8
# Rows for each producer and second; eight at full speed would measure the machine, not the library.
RATE = 500
GROWTH_BYTES = 50 << 20
"""What the process may grow after its first fifth: less than a leak of a tenth of the rows of ten minutes."""

_LOCKER = """
import random, sqlite3, sys, time
rng = random.Random(int(sys.argv[2]))
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
print("ready", flush=True)
while True:
    time.sleep(rng.uniform(0.05, 0.6))
    try:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(rng.choice([0.01, 0.1, 0.5]))
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        pass
"""


class _Messenger:
    """Fails at random, before or after it took the message over; checks what a receiver would have stored."""

    def __init__(self, step: int) -> None:
        self.next = [0] * PRODUCERS  # the number that must come next from each producer
        self.wrong: list[tuple[int, int]] = []
        self._step = step
        self._random = random.Random(f"{SEED} {step}")
        self._receiver = Receiver()

    def send(self, message: Message) -> None:
        lot = self._random.random()
        if lot < 0.1:
            raise MessengerError("not taken")  # noqa: EM101, TRY003  (a test's own)
        verdict = self._receiver.take(message)
        for pair in str(message.data).split()[verdict.skip :]:
            thread, number = map(int, pair.split(":"))
            if number != self.next[thread]:
                self.wrong.append((thread, number))
            self.next[thread] = number + self._step
        if lot > 0.9:
            raise MessengerError("taken, but nobody knows")  # noqa: EM101, TRY003  (likewise)


class _Both:
    """Gives each stream its own messenger: their messages come at the same time."""

    def __init__(self) -> None:
        self.streams = {"all": _Messenger(1), "even": _Messenger(2)}

    def send(self, message: Message) -> None:
        self.streams[message.stream].send(message)


def _format(data: list[list[int]], _: object) -> str:
    return " ".join(f"{row[1]}:{row[2]}" for row in data)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _fork_once(streamer: SqliteDataStreamer) -> None:
    """Fork; the child tries to store, must be refused, and end at once."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            streamer.storeData("log", 1.0, 0, 0)
        except StreamerClosedError:
            status = 0
        finally:
            os._exit(status)

    def reap() -> list[int]:
        found, status = os.waitpid(pid, os.WNOHANG)
        return [os.waitstatus_to_exitcode(status)] if found else []

    assert [0] == wait_until(reap)


@contextmanager
def _producers(streamer: SqliteDataStreamer, counts: list[int]) -> Iterator[None]:
    stop = threading.Event()

    def produce(thread: int) -> None:
        while not stop.wait(0.02):
            for _ in range(RATE // 50):
                streamer.storeData("log", time.time(), thread, counts[thread])
                counts[thread] += 1

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.timeout(SECONDS + 120)
def test_everything_at_once(tmp_path: Path, rng: random.Random) -> None:
    """Producers, streams, a failing messenger, a stranger's lock, forks, retention: each row arrives exactly once."""
    path = tmp_path / "log.db"
    counts = [0] * PRODUCERS
    messenger = _Both()
    changes: list[object] = []
    with SqliteDataStreamer(path, onError=changes.append) as streamer:
        streamer.addStorage("log", ["thread", "n"], ["INTEGER"] * 2, maxRows=2_000)
        streamer.stream("log", name="all", period=0.05, formatter=_format)
        streamer.stream("log", name="even", period=0.1, formatter=_format, sqlfilter="n % 2 = 0")
        streamer.startUpdates(messenger)
        end = time.monotonic() + SECONDS
        settled: tuple[int, int, int] | None = None
        with running(_LOCKER, path, rng.randrange(1 << 30)), _producers(streamer, counts):
            while time.monotonic() < end:
                time.sleep(rng.uniform(0.05, 0.3))
                _fork_once(streamer)
                ledger = streamer.stats().storages["log"]
                assert ledger.accepted == ledger.committed + ledger.pending
                if settled is None and time.monotonic() > end - 0.8 * SECONDS:
                    settled = (threading.active_count(), len(os.listdir("/proc/self/fd")), _resident())  # noqa: PTH208
            gc.collect()
            assert settled is not None
            assert settled[0] == threading.active_count()
            assert len(os.listdir("/proc/self/fd")) <= settled[1] + 2  # noqa: PTH208  (one may come and go)
            assert _resident() < settled[2] + GROWTH_BYTES
        assert streamer.flush(30.0)
        wait_until(lambda: all(stream.lagRows == 0 for stream in streamer.stats().streams.values()), 60.0)
        # Retention goes on behind the streams, and stops at its bound.
        wait_until(lambda: streamer.stats().storages["log"].deleted == sum(counts) - 2_000, 30.0)
        ledger = streamer.stats().storages["log"]
        assert (sum(counts), 0, 0) == (ledger.committed, ledger.rejected, ledger.deletedUnsent)
    assert counts == messenger.streams["all"].next
    assert [count + count % 2 for count in counts] == messenger.streams["even"].next
    assert [] == messenger.streams["all"].wrong + messenger.streams["even"].wrong
    # Each trouble was told once, each recovery once, in turn.
    assert [number % 2 == 1 for number in range(len(changes))] == [change is None for change in changes]
    assert_intact(path)
    assert [(2_000,)] == query(path, "SELECT count(*) FROM log")
    print(f"{sum(counts)} rows, {len(changes)} changes of state", file=sys.stderr)  # noqa: T201  (what a soak is worth)
