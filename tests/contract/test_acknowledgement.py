"""Messengers that answer later, by a future: what moves the position, what is sent again, and in which order."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

from tests.streaming import PATIENCE, Collector, as_json, numbers, opened, saved, state, store
from tests.support import wait_until
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tsstreamer import Message


def sent(messenger: RecordingMessenger) -> list[list[int]]:
    """Return the numbers of each message."""
    return [numbers(message) for message in messenger.messages]


def test_a_window_of_messages_is_in_flight_and_no_more(tmp_path: Path) -> None:
    """As many messages as the window allows are handed over; the position waits for the answers."""
    streamer, messenger = opened(tmp_path / "db"), RecordingMessenger(futures=True)
    streamer.stream("log", formatter=as_json, maxRows=2, window=3)
    store(streamer, range(10))
    streamer.doUpdates(100.0, messenger)
    assert [[0, 1], [2, 3], [4, 5]] == sent(messenger)
    assert (0, 3, 0) == (state(streamer).position, state(streamer).inFlight, state(streamer).sentMessages)
    assert (0, 0, 0, "[[1, 2, 100.0], [2, 4, 100.0], [3, 6, 100.0]]") == saved(tmp_path / "db")
    streamer.close()


def test_the_position_moves_over_the_contiguous_accepted_messages_only(tmp_path: Path) -> None:
    """An answer to a later message counts when those before it are answered."""
    streamer, messenger = opened(tmp_path / "db"), RecordingMessenger(futures=True)
    streamer.stream("log", formatter=as_json, maxRows=2, window=3)
    store(streamer, range(10))
    streamer.doUpdates(100.0, messenger)
    messenger.futures[1].set_result(None)
    streamer.doUpdates(100.0, messenger)
    assert (0, 2) == (state(streamer).position, state(streamer).inFlight)
    assert 3 == len(messenger.messages), "the window is still full"
    messenger.futures[0].set_result(None)
    streamer.doUpdates(100.0, messenger)
    assert (4, 2, 4) == (state(streamer).position, state(streamer).sentMessages, state(streamer).sentRows)
    assert [[6, 7], [8, 9]] == sent(messenger)[3:], "what was left of the rows of that pass"
    assert (4, 4, 2) == (saved(tmp_path / "db") or ())[:3]
    streamer.close()


def test_a_failed_message_is_sent_again_with_everything_after_it(tmp_path: Path) -> None:
    """After a failure the messages that follow come again too, those answered included, so that the order holds."""
    streamer, messenger = opened(tmp_path / "db"), RecordingMessenger(futures=True)
    streamer.stream("log", formatter=as_json, maxRows=2, window=4)
    store(streamer, range(8))
    streamer.doUpdates(100.0, messenger)
    first, second, third, _ = messenger.futures
    third.set_result(None)
    second.set_exception(OSError("line is down"))
    first.set_result(None)
    streamer.doUpdates(100.0, messenger)
    assert "OSError: line is down" in state(streamer).lastError
    assert ("backing off", 2) == (state(streamer).state, (saved(tmp_path / "db") or (0,))[0])
    streamer.doUpdates(101.0, messenger)
    assert messenger.messages[1:4] == messenger.messages[4:]
    for future in messenger.futures[4:]:
        future.set_result(None)
    streamer.doUpdates(102.0, messenger)
    assert (8, 4) == (state(streamer).position, state(streamer).sentMessages)
    streamer.close()


def test_a_synchronous_answer_behind_a_failed_future_is_sent_again() -> None:
    """A messenger may answer one message later and the next at once; a failure takes both back."""
    streamer, collector = opened(), Collector()
    first: Future[None] = Future()

    class Mixed(Collector):
        def send(self, message: Message, /) -> Any:
            self.messages.append(message)
            if len(self.messages) == 1:
                return first
            return collector.send(message)

    messenger = Mixed()
    streamer.stream("log", formatter=as_json, maxRows=2, window=2)
    store(streamer, range(4))
    streamer.doUpdates(100.0, messenger)
    assert 0 == state(streamer).position
    first.set_exception(OSError())
    streamer.doUpdates(100.0, messenger)
    streamer.doUpdates(101.0, messenger)
    assert [1, 2, 1, 2] == [message.sequence for message in messenger.messages]
    assert [2, 3, 0, 1] == collector.values, "the receiver saw a gap, and then what was missing"
    assert 4 == state(streamer).position
    streamer.close()


@pytest.mark.parametrize("how", ["cancelled", "SystemExit"])
def test_other_ends_of_a_future_are_failures(how: str) -> None:
    """A cancelled future and one with an exception that is no Exception mean not accepted."""
    streamer, messenger = opened(), RecordingMessenger(futures=True)
    streamer.stream("log", formatter=as_json)
    store(streamer, range(2))
    streamer.doUpdates(100.0, messenger)
    if how == "cancelled":
        messenger.futures[0].cancel()
    else:
        messenger.futures[0].set_exception(SystemExit(3))
    streamer.doUpdates(100.0, messenger)
    assert how in state(streamer).lastError
    assert 0 == state(streamer).position
    streamer.close()


def test_a_future_that_is_never_done_counts_as_a_failure_after_ack_timeout() -> None:
    """An answer that does not come within `ackTimeout` is a failure, noticed under doUpdates and startUpdates alike."""
    streamer, messenger = opened(), RecordingMessenger(futures=True)
    streamer.stream("log", formatter=as_json, ackTimeout=0.05, period=1000.0)
    store(streamer, range(2))
    wait_until(lambda: streamer.doUpdates(100.0, messenger) > 0 and state(streamer).state == "backing off")
    assert "message 1 was not acknowledged within 0.05 s" == state(streamer).lastError
    streamer.startUpdates(messenger)
    messenger.waitFor(4)
    assert [[0, 1]] * 4 == sent(messenger)[:4]
    streamer.stopUpdates(0.0)
    streamer.close(0.0)


def test_do_updates_wants_to_look_at_outstanding_futures_soon_but_does_not_spin() -> None:
    """While an answer is outstanding, the next time is a fraction of a second away, however long the period."""
    streamer, messenger = opened(), RecordingMessenger(futures=True)
    streamer.stream("log", formatter=as_json, period=1000.0)
    store(streamer, range(2))
    assert pytest.approx(100.1) == streamer.doUpdates(100.0, messenger)
    assert pytest.approx(100.2) == streamer.doUpdates(100.1, messenger)
    messenger.futures[0].set_result(None)
    assert 1100.0 == streamer.doUpdates(100.2, messenger)
    assert 2 == state(streamer).position
    streamer.close()


def test_an_answer_does_not_shorten_the_period() -> None:
    """Rows that come while an answer is outstanding wait for the next period, not for the answer."""
    streamer, messenger = opened(), RecordingMessenger(futures=True)
    streamer.stream("log", formatter=as_json, period=10.0)
    store(streamer, [0])
    streamer.doUpdates(100.0, messenger)
    store(streamer, [1])
    messenger.futures[0].set_result(None)
    assert 110.0 == streamer.doUpdates(101.0, messenger)
    assert [[0]] == sent(messenger)
    streamer.doUpdates(110.0, messenger)
    assert [[0], [1]] == sent(messenger)
    streamer.close()


def test_close_gives_answers_the_time_that_is_left(tmp_path: Path) -> None:
    """With startUpdates, `close` waits for outstanding answers, and sends what becomes possible by them."""
    streamer, messenger = opened(tmp_path / "db"), RecordingMessenger(futures=True)
    streamer.stream("log", formatter=as_json, maxRows=1, window=1)
    store(streamer, range(3))
    streamer.startUpdates(messenger)

    def answer() -> None:
        for number in range(3):
            messenger.waitFor(number + 1, PATIENCE)
            messenger.futures[number].set_result(None)

    answering = threading.Thread(target=answer)
    answering.start()
    assert {"log": 0} == streamer.close(PATIENCE).unsent
    answering.join(PATIENCE)
    assert (3, 3, 3, "[]") == saved(tmp_path / "db")


def test_an_asyncio_messenger(tmp_path: Path) -> None:
    """What `asyncio.run_coroutine_threadsafe` returns is a future that is understood."""
    loop = asyncio.new_event_loop()
    collector = Collector()

    class Async:
        def send(self, message: Message, /) -> Future[None]:
            return asyncio.run_coroutine_threadsafe(self.carry(message), loop)

        async def carry(self, message: Message) -> None:
            await asyncio.sleep(0)
            collector.send(message)

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with opened(tmp_path / "db") as streamer:
        streamer.stream("log", formatter=as_json, maxRows=3)
        streamer.startUpdates(Async())
        store(streamer, range(10))
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()
    assert list(range(10)) == collector.values


def test_a_coroutine_is_refused_with_advice() -> None:
    """A messenger whose `send` is a coroutine function is not taken for one that accepts."""
    streamer = opened()

    class Mistaken:
        async def send(self, message: Message, /) -> None:
            """Never be awaited."""

    streamer.stream("log", formatter=as_json)
    store(streamer, range(2))
    streamer.doUpdates(100.0, Mistaken())
    assert "run_coroutine_threadsafe" in state(streamer).lastError
    assert 0 == state(streamer).position
    streamer.close()


@pytest.mark.parametrize("rows", [4_000, pytest.param(100_000, marks=pytest.mark.soak)])
@pytest.mark.timeout(300)
def test_a_messenger_that_fails_in_every_way_loses_and_disorders_nothing(
    rows: int, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raise, SystemExit, a failed or cancelled future, one never done, a late one: all rows arrive in order, once."""
    monkeypatch.setattr("tsstreamer._options.BACKOFF_FIRST", 0.001)
    monkeypatch.setattr("tsstreamer._options.BACKOFF_LAST", 0.004)
    collector, timers = _Strict(), []

    class Failing:
        def send(self, message: Message, /) -> object:
            fate = rng.choice(["fine", "fine", "fine", "raise", "exit", "failed", "cancelled", "lost", "later"])
            if fate == "fine":
                collector.send(message)
                return None
            if fate == "raise":
                raise rng.choice([OSError, ValueError, KeyError])
            if fate == "exit":
                raise SystemExit
            future: Future[None] = Future()
            if fate == "failed":
                future.set_exception(OSError())
            elif fate == "cancelled":
                future.cancel()
            elif fate == "later":
                collector.send(message)
                timers.append(threading.Timer(0.001, future.set_result, [None]))
                timers[-1].start()
            return future

    streamer = opened()
    streamer.stream("log", formatter=as_json, maxRows=rows // 60, ackTimeout=0.005, period=0.001)
    streamer.startUpdates(Failing())
    store(streamer, range(rows))
    wait_until(lambda: state(streamer).position == rows, 200.0)
    streamer.close()
    for timer in timers:
        timer.join(PATIENCE)
    assert list(range(rows)) == collector.values


class _Strict(Collector):
    """A receiver that refuses what does not follow on, as `Receiver` advises for messengers with a window."""

    def send(self, message: Message, /) -> None:
        if self.receiver.check(message).kind == "gap":
            text = "not in order"
            raise OSError(text)
        super().send(message)
