"""A streamer belongs to the process that made it: forks under load, and a control without the guard."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SOAK
from tests.support import rows_of, run_python, wait_until
from tsstreamer import SqliteDataStreamer, StreamerClosedError
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORKS = 300 if SOAK else 40
CHILD_SECONDS = 5.0
"""A child is done in a few milliseconds, or hangs for ever; a loaded machine may take a second."""


def _in_child(body: Callable[[], object]) -> int:
    """Fork, run `body` in the child, and return the child's pid; it ends with 1 if `body` raises."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        body()
        status = 0
    except BaseException:  # noqa: BLE001  (the parent sees the status)
        traceback.print_exc()
    finally:
        os._exit(status)


def _end_of(pid: int) -> int:
    """Wait for a child and return its status; kill it, and fail, if it hangs."""
    deadline = time.monotonic() + CHILD_SECONDS
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    pytest.fail("the child hung")


def _assert_refused(streamer: SqliteDataStreamer) -> None:
    calls: list[Callable[[], object]] = [
        lambda: streamer.storeData("log", 1.0, 0, 0),
        lambda: streamer.storeData("none", 1.0),
        lambda: streamer.addStorage("other", ["n"], ["INTEGER"]),
        lambda: streamer.flush(1.0),
        lambda: streamer.stream("log", name="other"),
        lambda: streamer.stopStream("log"),
        lambda: streamer.doUpdates(1.0, RecordingMessenger()),
        lambda: streamer.startUpdates(RecordingMessenger()),
        streamer.stopUpdates,
        streamer.stats,
        streamer.close,
    ]
    for call in calls:
        with pytest.raises(StreamerClosedError, match="belongs to process"):
            call()
    with pytest.raises(ZeroDivisionError), streamer:  # leaving the block is allowed, and does nothing
        raise ZeroDivisionError


def test_every_call_in_the_child_says_whose_streamer_it_is(tmp_path: Path) -> None:
    """In the child each call raises a clear error at once; what the parent had waiting it stores, once."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path, flushInterval=60) as streamer:
        streamer.addStorage("log", ["thread", "n"], ["INTEGER"] * 2)
        streamer.stream("log")
        streamer.storeData("log", 1.0, 0, 1)
        assert 0 == _end_of(_in_child(lambda: _assert_refused(streamer)))
        streamer.storeData("log", 1.0, 0, 2)
    assert [1, 2] == [row[3] for row in rows_of(path, "log")]


def test_a_child_that_ends_as_a_program_does_leaves_the_file_alone(tmp_path: Path) -> None:
    """A child that runs its exit functions neither stores, closes, hangs nor complains."""
    source = """
import os, sys
from tsstreamer import SqliteDataStreamer
streamer = SqliteDataStreamer("log.db", flushInterval=60)
streamer.addStorage("log", ["n"], ["INTEGER"])
streamer.storeData("log", 1.0, 1)
pid = os.fork()
if pid:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    streamer.storeData("log", 1.0, 2)
    streamer.flush()
    sys.exit(status)
"""
    quiet = "import warnings; warnings.filterwarnings('ignore', 'This process')\n"
    done = run_python(quiet + source, cwd=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    assert [1, 2] == [row[2] for row in rows_of(tmp_path / "log.db", "log")]


@pytest.mark.timeout(300)
def test_forks_under_load(tmp_path: Path) -> None:  # noqa: C901  (one story)
    """While four threads store and a stream is sent, no child hangs, no row is lost or doubled; its own file works."""
    path, memory = tmp_path / "log.db", SqliteDataStreamer(":memory:", flushInterval=0.001)
    stop = threading.Event()
    counts = [0] * 4
    with memory, SqliteDataStreamer(path, flushInterval=0.001, maxPending=20_000) as streamer:
        for each in (memory, streamer):
            each.addStorage("log", ["thread", "n"], ["INTEGER"] * 2)
        streamer.stream("log", period=0.001, formatter=lambda data, _: str(len(data)))
        messenger = RecordingMessenger()
        streamer.startUpdates(messenger)

        def produce(thread: int) -> None:
            while not stop.is_set():
                for _ in range(20):
                    streamer.storeData("log", 1.0, thread, counts[thread])
                    memory.storeData("log", 1.0, thread, counts[thread])
                    counts[thread] += 1
                time.sleep(0.001)

        def child(number: int) -> None:
            _assert_refused(streamer)
            if number % 4:
                return
            with SqliteDataStreamer(tmp_path / f"child{number}.db") as own:
                own.addStorage("log", ["n"], ["INTEGER"])
                own.storeData("log", 1.0, number)

        threads = [threading.Thread(target=produce, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(FORKS):
                assert 0 == _end_of(_in_child(lambda number=number: child(number)))  # type: ignore[misc]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert streamer.flush(30.0)
        wait_until(lambda: streamer.stats().streams["log"].lagRows == 0, 30.0)
        assert sum(counts) == memory.close().stored
    rows = rows_of(path, "log")
    assert [[row[3] for row in rows if row[2] == thread] for thread in range(4)] == [list(range(n)) for n in counts]
    assert sum(counts) == sum(message.rows for message in messenger.messages)
    for number in range(0, FORKS, 4):
        assert [number] == [row[2] for row in rows_of(tmp_path / f"child{number}.db", "log")]


_UNGUARDED = """
import os, sys, threading, time
from tsstreamer import SqliteDataStreamer, _process

if sys.argv[1] == "without":
    _process._before_fork.__code__ = (lambda: None).__code__
    _process._after_fork.__code__ = (lambda: None).__code__
    _process._after_fork_in_child.__code__ = (lambda: None).__code__
streamer = SqliteDataStreamer("log.db", flushInterval=0)
streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
streamer.storeData("log", 1.0, 0, "x" * 5000)

def load():
    while True:
        streamer.storeData("log", 1.0, 0, "x" * 5000)
        streamer.flush()

for _ in range(2):
    threading.Thread(target=load, daemon=True).start()
hung = 0
deadline = time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline and not hung:
    pid = os.fork()
    if not pid:
        import sqlite3
        connection = sqlite3.connect("child.db")
        connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
        os._exit(0)
    end = time.monotonic() + 1.0
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() > end:
            hung += 1
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            break
        time.sleep(0.0005)
print(hung, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("guard", ["with", "without"])
def test_without_the_locks_over_the_fork_a_child_hangs(tmp_path: Path, guard: str) -> None:
    """Control: with the hook no child hangs at its first own connection, without it one does, soon."""
    done = run_python(
        "import warnings; warnings.simplefilter('ignore')\n" + _UNGUARDED,
        guard,
        1.5 if guard == "with" else 20,
        cwd=tmp_path,
    )
    assert (str(int(guard == "without")), "") == (done.stdout.strip(), done.stderr)


def test_forks_in_two_threads_at_once(tmp_path: Path) -> None:
    """Two threads that fork at the same time wait for each other in one order: neither hangs."""
    with SqliteDataStreamer(tmp_path / "one.db") as one, SqliteDataStreamer(tmp_path / "two.db") as two:
        ends: list[int] = []

        def fork() -> None:
            for _ in range(10):
                ends.append(_end_of(_in_child(lambda: None)))  # noqa: PERF401  (appended as they end)

        threads = [threading.Thread(target=fork) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [0] * 20 == ends
        assert one.flush(1.0)
        assert two.flush(1.0)
