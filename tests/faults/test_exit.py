"""However a program ends, what it stored is in the file, as far as anything runs at that end at all."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import rows_of, run_python, wait_until, write_lock
from tsstreamer import SqliteDataStreamer, StorageError, StreamerClosedError
from tsstreamer import _options as options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tsstreamer import Message

ROWS = 500
# A long interval: whatever is found in the file was written by the end, not by the clock.
_OPEN = """
import atexit, os, signal, sys, threading, time
from tsstreamer import SqliteDataStreamer
streamer = SqliteDataStreamer("log.db", flushInterval=60)
streamer.addStorage("log", ["n"], ["INTEGER"])
for n in range(500):
    streamer.storeData("log", 1.0, n)
"""
_ENDS = {
    "return": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "exception": ("raise RuntimeError('on purpose')", 1),
    "interrupt": ("signal.raise_signal(signal.SIGINT)", 130),
    "SIGTERM with a handler": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)",
        143,
    ),
    "closed by an atexit function of the program": ("atexit.register(streamer.close)", 0),
    "interrupted while it closes": (
        (
            "threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()\n"
            "flush = streamer._writer.flush\n"
            "streamer._writer.flush = lambda *_, **__: (time.sleep(9), flush())\n"
            "try:\n    streamer.close()\nfinally:\n    streamer._writer.flush = flush"
        ),
        130,
    ),
}


def _numbers(path: Path) -> list[int]:
    return [row[2] for row in rows_of(path, "log")]


@pytest.mark.parametrize("end", _ENDS)
def test_rows_are_stored_at_every_end_that_python_notices(tmp_path: Path, end: str) -> None:
    """Return, exit, exception, signals with a handler: all rows are in the file, and the process ends as it would."""
    source, status = _ENDS[end]
    done = run_python(_OPEN + source, cwd=tmp_path)
    assert (status if status != 130 else -signal.SIGINT) == done.returncode, done.stderr
    assert list(range(ROWS)) == _numbers(tmp_path / "log.db")


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_an_end_without_any_hook_loses_what_is_in_memory(tmp_path: Path, end: str) -> None:
    """Control and documented limit: nothing runs at these ends, so rows that were not committed are lost."""
    run_python(_OPEN + end, cwd=tmp_path)
    assert [] == _numbers(tmp_path / "log.db")


def test_threads_that_outlive_the_main_thread_store_their_last_row(tmp_path: Path) -> None:
    """Non-daemon producers go on after the main thread has ended; all their rows are stored."""
    source = """
def produce():
    threading.main_thread().join()
    for n in range(500, 1500):
        streamer.storeData("log", 1.0, n)
threading.Thread(target=produce).start()
"""
    done = run_python(_OPEN + source, cwd=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    assert list(range(1500)) == _numbers(tmp_path / "log.db")


def test_flush_does_not_gather_what_is_left_after_a_batch(tmp_path: Path) -> None:
    """More rows than one transaction takes, and a long interval: `flush` waits for transactions, not for the clock."""
    with SqliteDataStreamer(tmp_path / "log.db", flushInterval=60) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        for number in range(options.STATEMENT_ROWS + 100):
            streamer.storeData("log", 1.0, number)
        assert streamer.flush(20.0)


def test_daemon_producers_do_not_disturb_the_end(tmp_path: Path) -> None:
    """Daemon threads that store until they are cut off leave no error, no hang and no gap."""
    source = """
def produce():
    for n in range(500, 10**9):
        streamer.storeData("log", 1.0, n)
for _ in range(1):
    threading.Thread(target=produce, daemon=True).start()
time.sleep(0.05)
"""
    done = run_python(_OPEN + source, cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    numbers = _numbers(tmp_path / "log.db")
    assert len(numbers) >= ROWS
    assert list(range(len(numbers))) == numbers


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_store_their_rows(tmp_path: Path, method: str) -> None:
    """A streamer made in a child is flushed when the child ends, also where atexit does not run."""
    source = """
import multiprocessing, sys
from tsstreamer import SqliteDataStreamer

def child(number):
    global streamer  # at the end it is still in use, as a program's is
    streamer = SqliteDataStreamer(f"log{number}.db", flushInterval=60)
    streamer.addStorage("log", ["n"], ["INTEGER"])
    for n in range(500):
        streamer.storeData("log", 1.0, n)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=child, args=(number,)) for number in range(2)]
    for process in children:
        process.start()
    for process in children:
        process.join()
    sys.exit(sum(process.exitcode for process in children))
"""
    program = tmp_path / "program.py"
    program.write_text(source, encoding="utf-8")
    command = [sys.executable, str(program), method]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    for number in range(2):
        assert list(range(ROWS)) == _numbers(tmp_path / f"log{number}.db")


def test_a_forgotten_streamer_warns_and_stores_its_rows(tmp_path: Path) -> None:
    """The last reference goes without a close: a ResourceWarning says so, and the rows are in the file."""
    streamer = SqliteDataStreamer(tmp_path / "log.db", flushInterval=60)
    streamer.addStorage("log", ["n"], ["INTEGER"])
    streamer.storeData("log", 1.0, 0)
    with pytest.warns(ResourceWarning, match=r"unclosed .*log\.db"):  # noqa: PT031  (one step: let go)
        del streamer
        gc.collect()
    assert [0] == _numbers(tmp_path / "log.db")


def test_close_twice_and_from_many_threads_gives_one_report(tmp_path: Path) -> None:
    """Closing is idempotent, from any number of threads; afterwards every call but `stats` and `close` is refused."""
    streamer = SqliteDataStreamer(tmp_path / "log.db", flushInterval=60)
    streamer.addStorage("log", ["n"], ["INTEGER"])
    streamer.storeData("log", 1.0, 0)
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(streamer.close())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [streamer.close()] * 8 == reports
    assert 1 == reports[0].stored
    assert "closed" == streamer.stats().state
    calls: list[Callable[[], object]] = [
        lambda: streamer.storeData("log", 1.0, 1),
        lambda: streamer.storeData("none", 1.0, 1),
        lambda: streamer.addStorage("other", ["n"], ["INTEGER"]),
        streamer.flush,
        lambda: streamer.stream("log"),
        lambda: streamer.stopStream("log"),
        lambda: streamer.doUpdates(0.0, _Messenger(lambda _: None)),
        lambda: streamer.startUpdates(_Messenger(lambda _: None)),
    ]
    for call in calls:
        with pytest.raises(StreamerClosedError):
            call()


class _Messenger:
    def __init__(self, send: Callable[[Message], object]) -> None:
        self.send = send


@pytest.mark.parametrize("way", ["doUpdates", "startUpdates"])
def test_close_from_within_send_returns(tmp_path: Path, way: str) -> None:
    """A messenger may close the streamer: it returns, everything is stored, and all threads end."""
    streamer = SqliteDataStreamer(tmp_path / "log.db")
    streamer.addStorage("log", ["n"], ["INTEGER"])
    streamer.storeData("log", 1.0, 0)
    streamer.flush()
    streamer.stream("log", period=0.01)
    done = threading.Event()

    def send(_: Message) -> None:
        streamer.close(5.0)
        done.set()

    began = time.monotonic()
    if way == "doUpdates":
        streamer.doUpdates(0.0, _Messenger(send))
    else:
        streamer.startUpdates(_Messenger(send))
    assert done.wait(10)
    assert 1 == streamer.close(5.0).stored
    assert time.monotonic() - began < 5
    assert [0] == _numbers(tmp_path / "log.db")


def test_close_from_a_messenger_while_another_thread_closes(tmp_path: Path) -> None:
    """Two closes that would wait for each other, one of them in a stream's thread: neither does."""
    streamer = SqliteDataStreamer(tmp_path / "log.db")
    streamer.addStorage("log", ["n"], ["INTEGER"])
    streamer.storeData("log", 1.0, 0)
    streamer.stream("log", period=0.01)
    inside, go_on = threading.Event(), threading.Event()

    def send(_: Message) -> None:
        inside.set()
        assert go_on.wait(10)
        streamer.close()

    streamer.startUpdates(_Messenger(send))
    assert inside.wait(10)
    began = time.monotonic()
    closer = threading.Thread(target=streamer.close)
    closer.start()
    wait_until(lambda: streamer._closer is closer)
    go_on.set()
    closer.join(10)
    assert not closer.is_alive()
    assert time.monotonic() - began < 5


def test_close_from_on_error_ends_everything(tmp_path: Path) -> None:
    """`onError` runs in the writer's thread and may close: it returns at once, the rows are stored after the fault."""
    path = tmp_path / "log.db"
    told = threading.Event()

    def tell(_: object) -> None:
        streamer.close()
        told.set()

    streamer = SqliteDataStreamer(path, onError=tell)
    streamer.addStorage("log", ["n"], ["INTEGER"])
    with write_lock(path):
        streamer.storeData("log", 1.0, 0)
        assert told.wait(10)
        with pytest.raises(StreamerClosedError):
            streamer.storeData("log", 1.0, 1)
    wait_until(lambda: streamer.stats().state == "closed")
    assert 1 == streamer.close().stored
    assert [0] == _numbers(path)


def test_a_forgotten_streamer_collected_in_its_own_writer_thread(tmp_path: Path) -> None:
    """The collector may find it in any thread, also in the one that the close would wait for."""
    path = tmp_path / "log.db"
    holder: list[SqliteDataStreamer] = []
    gone = threading.Event()

    def forget(_: object) -> None:
        holder.clear()
        gc.collect()
        gone.set()

    holder.append(SqliteDataStreamer(path, onError=forget))
    holder[0].addStorage("log", ["n"], ["INTEGER"])
    writer = holder[0]._writer
    assert writer is not None
    with pytest.warns(ResourceWarning, match="unclosed"), write_lock(path):  # noqa: PT031  (comes in between)
        holder[0].storeData("log", 1.0, 0)
        assert gone.wait(10)
    writer.thread.join(10)
    assert not writer.thread.is_alive()
    assert [0] == _numbers(path)


def test_close_during_a_hanging_send_returns_in_time(tmp_path: Path) -> None:
    """A `send` that never returns costs the close its time-out, no more: rows are stored, nothing crashes."""
    source = """
import faulthandler
faulthandler.dump_traceback_later(20, exit=True)
streamer.stream("log", period=0.01)
inside = threading.Event()
class Messenger:
    def send(self, message):
        inside.set()
        threading.Event().wait()
streamer.startUpdates(Messenger())
assert inside.wait(10)
began = time.monotonic()
report = streamer.close(0.5)
assert report.stored == 500, report
assert report.unsent == {"log": 500}, report
assert 0.4 < time.monotonic() - began < 3, time.monotonic() - began
"""
    done = run_python(_OPEN + source, cwd=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    assert list(range(ROWS)) == _numbers(tmp_path / "log.db")


def test_a_thread_that_cannot_start_leaves_nothing_half_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread to be had: the constructor raises, closes the file, and a later one works."""

    def refuse(_: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            SqliteDataStreamer(tmp_path / "log.db")
    with SqliteDataStreamer(tmp_path / "log.db") as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])


def test_a_writer_that_dies_says_so_to_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nothing can survive ends the writer: state failed, calls raise or return, nothing waits for ever."""
    changes: list[object] = []
    streamer = SqliteDataStreamer(tmp_path / "log.db", onError=changes.append)
    streamer.addStorage("log", ["n"], ["INTEGER"])
    writer = streamer._writer
    assert writer is not None

    def die(*_: object, **__: object) -> None:
        raise SystemExit

    monkeypatch.setattr(writer, "_transact", die)
    streamer.storeData("log", 1.0, 0)
    assert not streamer.flush(10.0)
    wait_until(lambda: streamer.stats().state == "failed")
    assert "the writer ended" in streamer.stats().reason
    with pytest.raises(StorageError, match="the writer ended"):
        streamer.storeData("log", 1.0, 1)
    with pytest.raises(StorageError, match="failed"):
        streamer.addStorage("other", ["n"], ["INTEGER"])
    assert not streamer.flush()
    assert ["StorageError"] == [type(change).__name__ for change in changes]
    with pytest.raises(StorageError, match="1 rows could not be committed"):
        streamer.close()
    assert 0 == streamer.close().stored


def test_a_job_whose_writer_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that waits for its transaction gets an error when the writer dies in it."""
    streamer = SqliteDataStreamer(tmp_path / "log.db")

    def die(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(streamer._database, "add_table", die)
    with pytest.raises(StorageError, match="failed"):
        streamer.addStorage("log", ["n"], ["INTEGER"])
    streamer.close()
