"""Unclean clocks: `now` decides when a stream sends, never what; timestamps are data."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.streaming import Collector, as_json, numbers, opened, state, store
from tests.support import wait_until
from tsstreamer import YamlFormatter
from tsstreamer.testing import ManualClock, RecordingMessenger

if TYPE_CHECKING:
    import random
    from pathlib import Path


def test_missed_periods_are_not_made_up_for() -> None:
    """After a pause of many periods there is one pass, and the next is due on the old grid."""
    streamer, receiver = opened(), Collector()
    streamer.stream("log", formatter=as_json, period=2.0)
    assert 102.0 == streamer.doUpdates(100.0, receiver)
    store(streamer, [0])
    assert 134.0 == streamer.doUpdates(133.0, receiver)
    store(streamer, [1])
    assert 134.0 == streamer.doUpdates(133.5, receiver)
    assert [[0]] == [numbers(message) for message in receiver.messages]
    streamer.close()


def test_a_clock_that_goes_back_neither_stops_a_stream_nor_makes_it_hurry() -> None:
    """After the clock was set back, the time that was left until the next pass is still left."""
    streamer, receiver, clock = opened(), Collector(), ManualClock()
    streamer.stream("log", formatter=as_json, period=10.0)
    streamer.doUpdates(clock(), receiver)
    store(streamer, [0])
    clock.advance(4.0)
    clock.advance(-1e6)
    assert clock() + 10.0 == streamer.doUpdates(clock(), receiver), "nobody has seen the four seconds"
    clock.advance(3.0)
    assert [] == receiver.values
    assert clock() + 7.0 == streamer.doUpdates(clock(), receiver)
    clock.advance(7.0)
    streamer.doUpdates(clock(), receiver)
    assert [0] == receiver.values
    streamer.close()


def test_a_clock_that_goes_back_during_a_back_off() -> None:
    """The pause after a failure is neither prolonged by a year nor forgotten."""
    streamer, messenger, clock = opened(), RecordingMessenger(), ManualClock()
    streamer.stream("log", formatter=as_json)
    store(streamer, [0])
    messenger.failNext()
    streamer.doUpdates(clock(), messenger)
    clock.advance(-3e7)
    due = streamer.doUpdates(clock(), messenger)
    assert clock() < due < clock() + 0.3
    assert [] == messenger.messages
    streamer.doUpdates(due, messenger)
    assert 1 == len(messenger.messages)
    streamer.close()


def test_a_jump_ahead_and_back_is_one_pass() -> None:
    """One wild value of `now` costs at most a pass that was not due."""
    streamer, receiver, clock = opened(), Collector(), ManualClock()
    streamer.stream("log", formatter=as_json, period=10.0)
    streamer.doUpdates(clock(), receiver)
    for value, jump in enumerate([1e12, -1e12, 1e15, -1e15]):
        store(streamer, [value])
        clock.advance(jump)
        streamer.doUpdates(clock(), receiver)
    assert [[0], [1, 2]] == [numbers(message) for message in receiver.messages]
    clock.advance(10.0)
    streamer.doUpdates(clock(), receiver)
    assert [0, 1, 2, 3] == receiver.values
    streamer.close()


@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf])
def test_a_now_that_is_no_time_is_refused(now: float) -> None:
    """NaN and the infinities are a ValueError, and no stream is disturbed."""
    streamer, receiver = opened(), Collector()
    streamer.stream("log", formatter=as_json)
    store(streamer, [0])
    with pytest.raises(ValueError, match="finite"):
        streamer.doUpdates(now, receiver)
    assert [] == receiver.values
    assert 101.0 == streamer.doUpdates(100.0, receiver)
    assert [0] == receiver.values
    streamer.close()


@pytest.mark.parametrize("period", [1e-300, 1.0, 1e300])
def test_the_ends_of_the_clock(period: float) -> None:
    """The largest and smallest numbers there are, one after the other, are times like others."""
    streamer, receiver = opened(), Collector()
    streamer.stream("log", formatter=as_json, period=period)
    for value, now in enumerate([-1.7e308, 1.7e308, -1.7e308, 0.0, 5e-324, 1.7e308]):
        store(streamer, [value])
        assert now <= streamer.doUpdates(now, receiver)
    streamer.doUpdates(1.75e308, receiver)
    assert list(range(6)) == receiver.values
    streamer.close()


def test_a_random_clock_sends_every_row_once(rng: random.Random) -> None:
    """Whatever `now` does, each row is sent once, in the order of storing."""
    streamer, receiver = opened(), Collector()
    streamer.stream("log", formatter=as_json, maxRows=7)
    now = 100.0
    for value in range(300):
        streamer.storeData("log", rng.uniform(-1e10, 1e10), value)
        now += rng.choice([0.0, 0.1, 1.0, 1e9, -0.1, -1.0, -1e9, 1e-9])
        streamer.doUpdates(now, receiver)
    for _ in range(300):
        now = streamer.doUpdates(now, receiver)
    assert list(range(300)) == receiver.values
    assert [] == receiver.gaps
    streamer.close()


def test_late_and_equal_timestamps_are_sent_in_the_order_of_storing() -> None:
    """A row with an old timestamp is sent although newer ones went before; equal timestamps hide nothing."""
    streamer, receiver = opened(), Collector()
    streamer.stream("log", formatter=as_json)
    for value, timestamp in enumerate([5.0, 5.0, 1e9, 5.0, -1e300, 0.0]):
        streamer.storeData("log", timestamp, value)
        streamer.doUpdates(100.0 + value, receiver)
    assert list(range(6)) == receiver.values
    streamer.close()


@pytest.mark.parametrize("kind", ["yaml", "function"])
def test_infinite_timestamps_written_by_another_program(tmp_path: Path, kind: str) -> None:
    """A time that is infinite, text or NULL is sent like any other, and confuses neither lag nor order."""
    streamer, messenger = opened(tmp_path / "db"), RecordingMessenger()
    times: list[object] = []

    def function(data: list[list[object]], _: object) -> str:
        times.extend(row[0] for row in data)
        return "text"

    strange: list[object] = [math.inf, -math.inf, "noon", None, b"\0\1", 5]
    with closing(sqlite3.connect(tmp_path / "db")) as other, other:
        other.executemany("INSERT INTO log (time, n) VALUES (?, 1)", [(time,) for time in strange])
    streamer.stream("log", formatter=YamlFormatter() if kind == "yaml" else function)
    lags = []
    for row in range(6):
        streamer._senders["log"]._position = row
        lags.append(state(streamer).lagSeconds)
    streamer._senders["log"]._position = 0
    assert [0.0, math.inf, 0.0, 0.0, 0.0] == lags[:5]
    streamer.doUpdates(100.0, messenger)
    streamer.close()
    assert [6] == [message.rows for message in messenger.messages]
    if kind == "function":
        assert [*strange[:5], 5.0] == times


def test_the_timestamp_of_a_message_is_that_of_its_first_building() -> None:
    """A message that is sent again later has the `now` of the pass that first built it."""
    streamer, messenger = opened(), RecordingMessenger()
    streamer.stream("log", formatter=as_json)
    store(streamer, [0])
    messenger.failNext()
    streamer.doUpdates(100.0, messenger)
    streamer.doUpdates(200.0, messenger)
    assert messenger.refused == messenger.messages
    assert [100.0] == [message.timestamp for message in messenger.messages]
    streamer.close()


STALLED = """
import sys, time
from tsstreamer import SqliteDataStreamer
streamer = SqliteDataStreamer(":memory:")
streamer.addStorage("log", ["n"], ["INTEGER"])
class Messenger:
    def send(self, message):
        print(time.monotonic(), message.after, message.upto, flush=True)
streamer.stream("log", period=0.05)
streamer.startUpdates(Messenger())
n = 0
while True:
    streamer.storeData("log", time.time(), n)
    n += 1
    time.sleep(0.002)
"""


def test_a_stalled_process_does_not_burst(tmp_path: Path) -> None:
    """A process stopped for many periods sends one message when it goes on, not one for each, and skips no row."""
    with subprocess.Popen([sys.executable, "-c", STALLED], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(5)]
        os.kill(child.pid, signal.SIGSTOP)
        wait_until(lambda: _stopped(child.pid))
        stalled = subprocess.run(["/bin/sleep", "1.0"], check=False)
        assert stalled.returncode == 0
        os.kill(child.pid, signal.SIGCONT)
        lines += [child.stdout.readline() for _ in range(8)]
        child.kill()
    found = [line.split() for line in lines]
    times = [float(time) for time, _, _ in found]
    ranges = [(int(after), int(upto)) for _, after, upto in found]
    assert all(first[1] == second[0] for first, second in pairwise(ranges)), "no row is skipped"
    gaps = [second - first for first, second in pairwise(times)]
    stall = gaps.index(max(gaps))
    assert gaps[stall] > 0.9
    # Before and after the stall: 20 missed periods in a burst would be gaps of no length.
    assert sum(gap < 0.01 for gap in gaps[stall + 1 :]) <= 1


def _stopped(process: int) -> bool:
    with open(f"/proc/{process}/stat", encoding="ascii") as stat:  # noqa: PTH123  (a line of the kernel's)
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"
