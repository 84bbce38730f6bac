"""The helpers for users' tests do what their own tests rely on."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future

import pytest
import yaml

from tests.support import wait_until
from tsstreamer import MessengerError, SqliteDataStreamer
from tsstreamer.testing import ManualClock, RecordingMessenger


def sending_streamer() -> SqliteDataStreamer:
    """Return a streamer with one stream that has one row to send."""
    streamer = SqliteDataStreamer(":memory:")
    streamer.addStorage("k", ["v"], ["INTEGER"])
    streamer.stream("k", ["n"], [], ["log"], 10.0)
    streamer.storeData("k", 1.0, 5)
    return streamer


def test_messages_are_recorded_in_order() -> None:
    """What was sent can be read back; the list is a copy."""
    messenger, clock = RecordingMessenger(), ManualClock()
    with sending_streamer() as streamer:
        streamer.doUpdates(clock(), messenger)
        streamer.storeData("k", 2.0, 6)
        streamer.doUpdates(clock.advance(10.0), messenger)
    values = [
        value for sent in messenger.messages for (_, value) in next(iter(yaml.safe_load(sent.data).values()))["data"]
    ]
    assert [5, 6] == values
    messenger.messages.clear()
    assert 2 == len(messenger.messages)


def test_it_fails_as_often_as_told() -> None:
    """The ordered failures come first, with the ordered error, and what was refused is kept apart."""
    messenger, clock = RecordingMessenger(), ManualClock()
    messenger.failNext(2)
    messenger.failNext(error=OSError("no route"))
    with sending_streamer() as streamer:
        errors = []
        for _ in range(4):
            streamer.doUpdates(clock.advance(100.0), messenger)
            errors.append(streamer.stats().streams["k"].lastError)
    assert ["told to fail" in error for error in errors[:2]] == [True, True]
    assert "no route" in errors[2]
    assert (3, 1) == (len(messenger.refused), len(messenger.messages))
    assert {messenger.messages[0]} == set(messenger.refused)


def test_futures_are_left_to_the_test() -> None:
    """With ``futures=True`` a message counts as accepted when the test says so."""
    messenger, clock = RecordingMessenger(futures=True), ManualClock()
    with sending_streamer() as streamer:
        streamer.doUpdates(clock(), messenger)
        (future,) = messenger.futures
        assert isinstance(future, Future)
        assert 0 == streamer.stats().streams["k"].position
        future.set_result(None)
        streamer.doUpdates(clock.advance(10.0), messenger)
        assert 1 == streamer.stats().streams["k"].position


def test_waiting_ends_with_the_message() -> None:
    """`waitFor` returns when enough messages were sent by another thread, and fails with their number when not."""
    messenger = RecordingMessenger()
    with sending_streamer() as streamer:
        streamer.startUpdates(messenger)
        assert 1 == len(messenger.waitFor(1))
    with pytest.raises(AssertionError, match=r"waited 0\.01 s for 2 messages, got 1"):
        messenger.waitFor(2, timeout=0.01)


def test_a_wait_that_began_before_is_woken() -> None:
    """A thread that waits for a message goes on when it is sent."""
    messenger = RecordingMessenger()
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(len(messenger.waitFor(1, timeout=50.0))))
    with sending_streamer() as streamer:
        waiting.start()
        wait_until(lambda: messenger._changed._waiters)  # type: ignore[attr-defined]  # the thread sleeps
        streamer.doUpdates(0.0, messenger)
        waiting.join(10)
    assert [1] == found


def test_failures_are_messenger_errors_unless_given() -> None:
    """The default failure is the one that messengers raise."""
    messenger = RecordingMessenger()
    messenger.failNext()
    with sending_streamer() as streamer:
        streamer.doUpdates(0.0, RecordingMessenger())
    with pytest.raises(MessengerError, match="told to fail"):
        messenger.send(object())  # type: ignore[arg-type]


def test_the_clock_moves_when_told() -> None:
    """The clock stands still, advances, and can be set back."""
    clock = ManualClock(100.0)
    assert [100.0, 100.0] == [clock(), clock()]
    assert 102.5 == clock.advance(2.5)
    assert 102.5 == clock()
    clock.set(50)
    assert 49.0 == clock.advance(-1.0)


@pytest.mark.parametrize("moment", [math.nan, math.inf])
def test_the_clock_shows_finite_times_only(moment: float) -> None:
    """A time that is not finite is a ValueError, and the clock stays as it was."""
    clock = ManualClock(100.0)
    with pytest.raises(ValueError, match=f"got {moment}"):
        clock.set(moment)
    with pytest.raises(ValueError, match=f"got {moment}"):
        clock.advance(moment)
    assert 100.0 == clock()
