"""Dangerous orders of a stream's life, each frozen at its line so that it happens every time."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.streaming import PATIENCE, Collector, Held, as_json, numbers, opened, saved, state, store
from tests.support import run_python, wait_until
from tsstreamer import MessengerError, SqliteDataStreamer
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tsstreamer import Message


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run `work` in a thread that has ended when the block has; what it raises fails the test."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (raised below)
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_a_takeover_between_send_and_save_stops_the_older_sender(tmp_path: Path) -> None:
    """The older sender finds the stream taken, stops with an error, and the receiver has each row once."""
    older, newer = opened(tmp_path / "db"), opened(tmp_path / "db")
    receiver = Held()
    older.stream("log", formatter=as_json, maxRows=2, window=1)
    store(older, range(6))
    with in_thread(lambda: older.doUpdates(100.0, receiver)):
        assert receiver.entered.wait(PATIENCE)
        newer.stream("log", formatter=as_json, maxRows=2, window=1)
        receiver.release.set()
    assert "stopped" == state(older).state
    assert "taken over by another sender" in state(older).lastError
    assert [0, 1] == receiver.values
    newer.doUpdates(100.0, receiver)
    store(older, [6])
    assert float("inf") == older.doUpdates(200.0, receiver)
    newer.doUpdates(200.0, receiver)
    older.close()
    newer.close()
    assert list(range(7)) == receiver.values
    assert receiver.messages[0] == receiver.messages[1], "what was sent twice is the same message"
    assert [] == receiver.gaps


def test_a_takeover_between_saving_the_boundaries_and_sending_repeats_the_same_message(tmp_path: Path) -> None:
    """The newer sender finds the boundaries of the message that the older one is about to send."""
    older, newer = opened(tmp_path / "db"), opened(tmp_path / "db")
    older.stream("log", formatter=as_json, maxRows=3)
    store(older, range(5))
    newest = Collector()

    class Overtaken(Collector):
        def send(self, message: Message, /) -> None:
            if not self.messages:
                newer.stream("log", formatter=as_json, maxRows=100)
                store(newer, [5])
                newer.doUpdates(100.5, newest)
            super().send(message)

    receiver = Overtaken()
    older.doUpdates(100.0, receiver)
    assert [[0, 1, 2], [3, 4], [5]] == [numbers(message) for message in newest.messages]
    assert [100.0, 100.0, 100.5] == [message.timestamp for message in newest.messages]
    assert newest.messages[:2] == receiver.messages
    assert "stopped" == state(older).state
    older.close()
    newer.close()


def test_stop_stream_during_a_send_returns_at_once_and_forgets_the_position(tmp_path: Path) -> None:
    """The message that is being sent ends as it may; nothing is sent after it, and no position stays behind."""
    streamer, messenger, token = opened(tmp_path / "db"), Held(), object()
    streamer.stream("log", formatter=as_json, maxRows=1, userdata=token)
    store(streamer, range(3))
    with in_thread(lambda: streamer.doUpdates(100.0, messenger)):
        assert messenger.entered.wait(PATIENCE)
        assert token is streamer.stopStream("log")
        messenger.release.set()
    assert [0] == messenger.values
    assert saved(tmp_path / "db") is None
    streamer.stream("log", formatter=as_json)
    streamer.doUpdates(101.0, messenger)
    streamer.close()
    assert [0, 1, 2] == messenger.values, "the new stream began with the first row, which is a repeat"


def test_stop_stream_during_a_send_of_its_own_thread(tmp_path: Path) -> None:
    """The thread of a stopped stream ends when its send returns."""
    streamer, messenger = opened(tmp_path / "db"), Held()
    streamer.stream("log", formatter=as_json, maxRows=1)
    store(streamer, range(3))
    streamer.startUpdates(messenger)
    assert messenger.entered.wait(PATIENCE)
    streamer.stopStream("log")
    messenger.release.set()
    wait_until(lambda: not any(thread.name == "tsstreamer-stream-log" for thread in threading.enumerate()))
    assert [0] == messenger.values
    streamer.close()


def test_a_late_future_of_an_earlier_send_changes_nothing() -> None:
    """A future that is done after its message was sent again does not move the position, nor count twice."""
    streamer, messenger = opened(), RecordingMessenger(futures=True)
    streamer.stream("log", formatter=as_json, ackTimeout=0.01)
    store(streamer, range(3))
    streamer.doUpdates(100.0, messenger)

    def resent() -> bool:
        streamer.doUpdates(next(clock), messenger)
        return len(messenger.messages) > 1

    clock = iter(range(101, 10_000))
    wait_until(resent)
    first, *others = messenger.messages
    assert [first] * len(others) == others
    messenger.futures[0].set_result(None)
    streamer.doUpdates(next(clock), RecordingMessenger(futures=True))
    assert (0, 0) == (state(streamer).position, state(streamer).sentMessages)
    streamer.stopStream("log")
    streamer.close()


def test_retention_under_a_running_sender_shows_as_a_gap(tmp_path: Path) -> None:
    """Rows that were deleted unsent are missing in the messages, and the messages say which."""
    streamer, receiver = opened(tmp_path / "db"), Held()
    streamer.stream("log", formatter=as_json, maxRows=2, window=1)
    store(streamer, range(10))
    with in_thread(lambda: streamer.doUpdates(100.0, receiver)):
        assert receiver.entered.wait(PATIENCE)
        # Rows 1 to 6 go, while message 1 (rows 1 and 2) is on its way.
        streamer.addStorage("log", ["n"], ["INTEGER"], maxRows=4, keepUnsent=False)
        wait_until(lambda: (saved(tmp_path / "db") or (0,))[0] == 6)
        receiver.release.set()
    assert "rows were deleted before they were sent" in state(streamer).lastError
    streamer.doUpdates(200.0, receiver)
    streamer.close()
    assert [0, 1, 6, 7, 8, 9] == receiver.values
    assert [(3, 6)] == receiver.gaps
    assert [1, 2, 3] == [message.sequence for message in receiver.messages]


def test_retention_behind_what_was_accepted_goes_unnoticed(tmp_path: Path) -> None:
    """A position that retention moved no further than the accepted rows costs no repeat and no error."""
    streamer, receiver = opened(tmp_path / "db"), Held()
    streamer.stream("log", formatter=as_json, maxRows=6, window=1)
    store(streamer, range(10))
    with in_thread(lambda: streamer.doUpdates(100.0, receiver)):
        assert receiver.entered.wait(PATIENCE)
        streamer.addStorage("log", ["n"], ["INTEGER"], maxRows=6, keepUnsent=False)
        wait_until(lambda: (saved(tmp_path / "db") or (0,))[0] == 4)
        receiver.release.set()
    assert ("", 10) == (state(streamer).lastError, state(streamer).position)
    streamer.close()
    assert list(range(10)) == receiver.values
    assert 2 == len(receiver.messages)


def test_retention_keeps_rows_of_a_message_that_is_not_accepted(tmp_path: Path) -> None:
    """Rows that were built into a message but not accepted are unsent: with keepUnsent they outlive a restart."""
    streamer = opened(tmp_path / "db")
    streamer.stream("log", formatter=as_json)
    store(streamer, range(10))
    streamer.doUpdates(100.0, RecordingMessenger(futures=True))
    streamer.addStorage("log", ["n"], ["INTEGER"], maxRows=2)
    commits = streamer.stats().commits
    wait_until(lambda: streamer.stats().commits > commits + 1)
    streamer.close()
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=as_json)
    streamer.doUpdates(100.0, receiver)
    streamer.close()
    assert list(range(10)) == receiver.values


def test_close_during_a_send_waits_no_longer_than_it_may() -> None:
    """A send that hangs in another thread's doUpdates does not hold `close` up at all."""
    streamer, messenger = opened(), Held()
    streamer.stream("log", formatter=as_json)
    store(streamer, range(3))
    with in_thread(lambda: streamer.doUpdates(100.0, messenger)):
        assert messenger.entered.wait(PATIENCE)
        start = time.monotonic()
        assert {"log": 3} == streamer.close(1.0).unsent
        assert time.monotonic() - start < 3.0
        messenger.release.set()


def test_close_during_a_send_of_the_streams_thread_keeps_its_time() -> None:
    """With a send that hangs, `close(timeout)` takes that time and no more."""
    streamer, messenger = opened(), Held()
    streamer.stream("log", formatter=as_json)
    store(streamer, range(3))
    streamer.startUpdates(messenger)
    assert messenger.entered.wait(PATIENCE)
    start = time.monotonic()
    report = streamer.close(0.5)
    seconds = time.monotonic() - start
    messenger.release.set()
    assert 0.4 < seconds < 3.0
    assert (3, {"log": 3}) == (report.stored, report.unsent)


_HANGING = """
import threading, sys, time
from tsstreamer import SqliteDataStreamer
streamer = SqliteDataStreamer(sys.argv[1])
streamer.addStorage("log", ["n"], ["INTEGER"])
entered = threading.Event()
class Hanging:
    def send(self, message):
        entered.set()
        threading.Event().wait()
class HangingFormatter:
    def __call__(self, data, userdata):
        entered.set()
        threading.Event().wait()
streamer.stream("log", formatter=HangingFormatter() if sys.argv[2] == "formatter" else None)
for n in range(1000):
    streamer.storeData("log", float(n), n)
streamer.startUpdates(Hanging())
assert entered.wait(10)
start = time.monotonic()
print(streamer.close(0.5).stored, time.monotonic() - start < 3, flush=True)
"""


@pytest.mark.parametrize("where", ["messenger", "formatter"])
def test_a_program_ends_although_user_code_hangs_for_ever(tmp_path: Path, where: str) -> None:
    """`close` returns in time and the interpreter ends by itself, without a crash."""
    done = run_python(_HANGING, tmp_path / "db", where, cwd=tmp_path)
    assert (0, "1000 True\n", "") == (done.returncode, done.stdout, done.stderr)


def test_everything_may_be_called_from_a_messenger() -> None:
    """A messenger may ask, update, start and stop streams, and close, without waiting for itself."""
    streamer = opened()
    seen: list[Any] = []

    class Meddler(Collector):
        def send(self, message: Message, /) -> None:
            super().send(message)
            if len(self.messages) == 1:
                seen.append(streamer.stats().streams["log"].state)
                seen.append(streamer.doUpdates(100.0, self))
                seen.append(streamer.flush(PATIENCE))
                streamer.storeData("log", 9.0, 9)
                streamer.stream("log", name="other", formatter=as_json)
            elif message.stream == "other":
                seen.append(streamer.stopStream("other"))
                seen.append(streamer.close().stored)

    messenger = Meddler()
    streamer.stream("log", formatter=as_json, period=5.0)
    store(streamer, [0])
    assert 100.0 == streamer.doUpdates(100.0, messenger), "the new stream is due at once"
    streamer.doUpdates(100.0, messenger)
    assert ["sending", 105.0, True, None, 2] == seen
    assert ["log", "other"] == [message.stream for message in messenger.messages]


@pytest.mark.parametrize("own_thread", [False, True])
def test_close_from_a_formatter(*, own_thread: bool) -> None:
    """`close` inside a formatter commits, returns, and ends the stream."""
    streamer = opened()

    def formatter(data: list[list[Any]], _: object) -> str:
        streamer.close()
        return as_json(data, None)

    messenger = Collector()
    streamer.stream("log", formatter=formatter)
    store(streamer, range(3))
    if own_thread:
        streamer.startUpdates(messenger)
        wait_until(lambda: streamer.stats().state == "closed")
    else:
        streamer.doUpdates(100.0, messenger)
    assert 3 == streamer.close().stored
    assert [] == messenger.values, "its boundaries could not be written down any more"


def test_ctrl_c_in_a_messenger_ends_do_updates_and_loses_nothing(tmp_path: Path) -> None:
    """KeyboardInterrupt comes out of doUpdates; the messages before it are kept, the one it hit comes again."""
    streamer, receiver = opened(tmp_path / "db"), Collector()

    class Interrupted(Collector):
        def send(self, message: Message, /) -> None:
            if message.sequence == 2 and not self.gaps:
                self.gaps.append(None)
                raise KeyboardInterrupt
            receiver.send(message)

    messenger = Interrupted()
    streamer.stream("log", formatter=as_json, maxRows=2)
    store(streamer, range(5))
    with pytest.raises(KeyboardInterrupt):
        streamer.doUpdates(100.0, messenger)
    assert "waiting" == state(streamer).state
    streamer.doUpdates(100.0, messenger)
    streamer.close()
    assert list(range(5)) == receiver.values
    assert [1, 2, 3] == [message.sequence for message in receiver.messages]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_a_signal_handler_raises_outside_of_user_code_gets_out(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """A handler of SIGTERM that ends the program is not taken for a failure of the stream."""
    streamer, receiver = opened(), Collector()
    streamer.stream("log", formatter=as_json)
    store(streamer, range(2))
    with monkeypatch.context() as patch:

        def interrupted(*_: object, **__: object) -> None:
            raise error

        patch.setattr(streamer._senders["log"]._writer, "run", interrupted)
        with pytest.raises(error):
            streamer.doUpdates(100.0, receiver)
    assert "waiting" == state(streamer).state
    streamer.doUpdates(100.0, receiver)
    streamer.close()
    assert [0, 1] == receiver.values


def test_a_save_that_was_interrupted_but_done_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A position that was committed while Ctrl-C ended the wait for it is taken as it is."""
    streamer, receiver = opened(tmp_path / "db"), Collector()
    streamer.stream("log", formatter=as_json, maxRows=2, window=1)
    writer = streamer._senders["log"]._writer
    run, calls = writer.run, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        result = run(*arguments, **options)
        calls.append(result)
        if len(calls) == 2:  # the first position
            raise KeyboardInterrupt
        return result

    store(streamer, range(4))
    monkeypatch.setattr(writer, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        streamer.doUpdates(100.0, receiver)
    streamer.doUpdates(100.0, receiver)
    assert ("", 4) == (state(streamer).lastError, state(streamer).position)
    assert 2 == len(receiver.messages)
    streamer.close()


def test_another_clock_does_not_silence_a_stream(tmp_path: Path) -> None:
    """A doUpdates that still sends when startUpdates begins leaves nothing of its clock behind."""
    streamer, messenger = opened(tmp_path / "db"), Held()
    streamer.stream("log", formatter=as_json, period=0.01)
    store(streamer, [0])
    with in_thread(lambda: streamer.doUpdates(4e9, messenger)):
        assert messenger.entered.wait(PATIENCE)
        streamer.startUpdates(messenger)
        messenger.release.set()
    store(streamer, [1])
    wait_until(lambda: messenger.values == [0, 1])
    assert streamer.stopUpdates()
    store(streamer, [2])
    streamer.doUpdates(streamer.doUpdates(0.0, messenger), messenger)
    streamer.close()
    assert [0, 1, 2] == messenger.values


def test_a_stream_that_another_thread_sends_is_not_polled_for() -> None:
    """While one thread hangs in a send, doUpdates of another returns a later time, so that its loop does not spin."""
    streamer, messenger = opened(), Held()
    streamer.stream("log", formatter=as_json, period=7.0)
    store(streamer, range(3))
    with in_thread(lambda: streamer.doUpdates(100.0, messenger)):
        assert messenger.entered.wait(PATIENCE)
        assert 107.0 == streamer.doUpdates(100.0, Collector())
        messenger.release.set()
    streamer.close()


def test_a_stream_stopped_by_another_process_is_not_begun_again(tmp_path: Path) -> None:
    """Whoever finds its position gone in the same file stops, instead of sending everything anew."""
    older: SqliteDataStreamer = opened(tmp_path / "db")
    newer = opened(tmp_path / "db")
    messenger = Collector()
    older.stream("log", formatter=as_json)
    store(older, range(3))
    older.doUpdates(100.0, messenger)
    newer.stream("log", formatter=as_json)
    newer.stopStream("log")
    store(older, [3])
    older.doUpdates(200.0, messenger)
    assert ("stopped", "stream 'log' was stopped by another sender") == (state(older).state, state(older).lastError)
    assert isinstance(older._senders["log"]._error, MessengerError)
    older.close()
    newer.close()
    assert [0, 1, 2] == messenger.values


def test_a_file_replaced_before_the_first_message_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How far the old file's rows reached says nothing about the new one: its rows are sent from the first, and all."""
    path = tmp_path / "db"
    streamer, receiver = opened(path), Collector()
    streamer.stream("log", formatter=as_json)
    store(streamer, range(5))
    packer = streamer._senders["log"]._packer
    horizon, calls = packer.horizon, []

    def replaced(known: Any) -> Any:
        calls.append(horizon(known))
        if len(calls) == 1:
            path.rename(tmp_path / "old")
            store(streamer, [7])
        return calls[-1]

    monkeypatch.setattr(packer, "horizon", replaced)
    streamer.doUpdates(100.0, receiver)
    streamer.doUpdates(200.0, receiver)
    store(streamer, [8, 9])
    streamer.doUpdates(300.0, receiver)
    assert [7, 8, 9] == receiver.values
    assert [(0, 1), (1, 3)] == [(message.after, message.upto) for message in receiver.messages]
    streamer.close()
