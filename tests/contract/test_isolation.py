"""A messenger or formatter that is slow, raises, hangs or returns nonsense is alone with that."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from tests.streaming import PATIENCE, Collector, Held, as_json, opened, state, store
from tests.support import wait_until
from tsstreamer import _options as options

if TYPE_CHECKING:
    from tsstreamer import Message

PERIOD = 0.1
PASSES = 15


class Noting(Collector):
    """Notes when the messages of each stream came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, list[float]] = {}

    def send(self, message: Message, /) -> None:
        self.times.setdefault(message.stream, []).append(time.monotonic())


def feeding(streamer: Any, rate: float, stopping: threading.Event) -> threading.Thread:
    """Store rows all the time, so that every pass has something to send; return the started thread."""

    def run() -> None:
        value = 0
        while not stopping.wait(rate):
            for _ in range(20):
                streamer.storeData("log", 1.0, value)
                value += 1

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("where", ["messenger", "formatter"])
def test_one_stream_that_hangs_delays_nobody(tmp_path: Path, where: str) -> None:
    """Three other streams keep their period, rows are committed, the log keeps its bound, `close` its time."""
    streamer, held, others = opened(tmp_path / "db"), Held(), Noting()

    class Both:
        def send(self, message: Message, /) -> None:
            (held if message.stream == "hanging" and where == "messenger" else others).send(message)

    def hanging(data: list[list[Any]], _: object) -> str:
        held.entered.set()
        assert held.release.wait(PATIENCE * 3)
        return as_json(data, None)

    streamer.stream("log", name="hanging", formatter=hanging if where == "formatter" else as_json)
    for name in "abc":
        streamer.stream("log", name=name, formatter=as_json, period=PERIOD)
    stopping = threading.Event()
    feeder = feeding(streamer, 0.005, stopping)
    try:
        streamer.startUpdates(Both())
        assert held.entered.wait(PATIENCE)
        others.times.clear()
        wait_until(lambda: min((len(others.times.get(name, ())) for name in "abc"), default=0) > PASSES, 20.0)
        assert streamer.flush(PATIENCE)
        stats = streamer.stats()
        assert "sending" == stats.streams["hanging"].state
        assert stats.walBytes <= options.WAL_LIMIT_BYTES
        for name in "abc":
            times = others.times[name][: PASSES + 1]
            mean = (times[-1] - times[0]) / PASSES
            assert 0.8 * PERIOD <= mean <= 1.2 * PERIOD, f"{name}: {mean}"
            gaps = [second - first for first, second in pairwise(times)]
            assert 0.8 * PERIOD <= median(gaps) <= 1.2 * PERIOD
    finally:
        stopping.set()
        feeder.join(PATIENCE)
        start = time.monotonic()
        report = streamer.close(1.0)
        seconds = time.monotonic() - start
        held.release.set()
    assert seconds < 3.0
    assert report.stored >= stats.storages["log"].committed > 20 * PASSES
    assert report.unsent["hanging"] > 0


def test_storing_keeps_its_rate_and_the_log_its_size_while_a_messenger_hangs(tmp_path: Path) -> None:
    """No read stays open during a send: the write-ahead log is used again and again, and nobody waits."""
    streamer, held = opened(tmp_path / "db"), Held()
    streamer.stream("log", formatter=as_json)

    def seconds_to_store() -> float:
        start = time.monotonic()
        store(streamer, range(60_000))
        return time.monotonic() - start

    before = [seconds_to_store() for _ in range(3)]
    streamer.startUpdates(held)
    assert held.entered.wait(PATIENCE)
    during, sizes = [], []
    for _ in range(8):
        during.append(seconds_to_store())
        sizes.append(Path(f"{tmp_path / 'db'}-wal").stat().st_size)
    held.release.set()
    streamer.close(0.0)
    assert min(during) < 2 * min(before)
    # Each of them adds a megabyte; SQLite begins the log anew after each checkpoint, at four.
    assert max(sizes) < 6 << 20, sizes


def test_one_messenger_that_fails_leaves_the_others_alone() -> None:
    """Under doUpdates a stream that is refused, or whose messenger raises SystemExit, does not end the pass."""
    streamer, receiver = opened(), Collector()

    class Choosy:
        def send(self, message: Message, /) -> None:
            if message.stream == "b":
                raise SystemExit(message.stream)
            if message.stream == "c":
                raise OSError(message.stream)
            receiver.send(message)

    for name in "abcd":
        streamer.stream("log", name=name, formatter=as_json)
    store(streamer, [1])
    streamer.doUpdates(100.0, Choosy())
    assert ["a", "d"] == [message.stream for message in receiver.messages]
    assert ["waiting", "backing off", "backing off", "waiting"] == [state(streamer, name).state for name in "abcd"]
    assert ["", "SystemExit: b", "OSError: c", ""] == [
        state(streamer, name).lastError.partition("accepted: ")[2] for name in "abcd"
    ]
    streamer.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, OSError])
@pytest.mark.parametrize("where", ["messenger", "formatter"])
def test_nothing_that_user_code_raises_ends_a_streams_thread(error: type[BaseException], where: str) -> None:
    """Under startUpdates whatever is raised is a failure to be tried again."""
    streamer, receiver, count = opened(), Collector(), [3]

    def fails_at_first() -> None:
        if count[0]:
            count[0] -= 1
            raise error

    class Messenger:
        def send(self, message: Message, /) -> None:
            if where == "messenger":
                fails_at_first()
            receiver.send(message)

    def formatter(data: list[list[Any]], _: object) -> str:
        if where == "formatter":
            fails_at_first()
        return as_json(data, None)

    streamer.stream("log", formatter=formatter)
    store(streamer, range(2))
    streamer.startUpdates(Messenger())
    wait_until(lambda: receiver.values == [0, 1])
    streamer.close()


@pytest.mark.parametrize("answer", [False, 0, "no", object()])
def test_whatever_a_messenger_returns_but_a_future_means_accepted(answer: object) -> None:
    """As the contract says: returning means accepted."""
    streamer = opened()

    class Odd:
        def send(self, _: Message, /) -> object:
            return answer

    streamer.stream("log", formatter=as_json)
    store(streamer, range(2))
    streamer.doUpdates(100.0, Odd())
    assert 2 == state(streamer).position
    streamer.close()


def test_storing_goes_on_while_everything_is_refused(tmp_path: Path) -> None:
    """A messenger that never accepts costs the storing side nothing, and memory holds a window of messages."""
    streamer = opened(tmp_path / "db")

    class Refusing:
        def send(self, message: Message, /) -> None:
            raise ConnectionError(message.sequence)

    streamer.stream("log", formatter=as_json, maxRows=100)
    streamer.startUpdates(Refusing())
    store(streamer, range(50_000))
    wait_until(lambda: state(streamer).state == "backing off")
    stats = streamer.stats()
    assert ("running", 50_000) == (stats.state, stats.storages["log"].committed)
    assert len(streamer._senders["log"]._out) <= options.WINDOW
    streamer.close()
