"""The work that every subject is given: rows of ``logkey``, producers, busy threads, clocks. Knows no subject."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence

Value = float | int | str | None
Row = tuple[Value, ...]
Store = Callable[..., None]
"""Stores one row given as eight positional arguments: the timestamp, then the seven values."""

KEY = "logkey"
KEYS = ["name", "thread", "level", "filename", "fileno", "msg", "exception"]
TYPES = ["VARCHAR", "VARCHAR", "INTEGER", "VARCHAR", "INTEGER", "VARCHAR", "VARCHAR"]
MARK = "GET /item/"
"""Occurs exactly once in each row's text, so that rows can be counted in any formatted output."""

CYCLE = 64
LEVELS = tuple(40 if n == CYCLE - 1 else (10, 20, 20, 20, 20, 20, 20, 30)[n % 8] for n in range(CYCLE))
TRACEBACK = (
    'Traceback (most recent call last):\n  File "server.py", line 163, in do_GET\n    body = self.find(item)\n'
    "KeyError: 'no such item'\n"
)
EXCEPTIONS = tuple(TRACEBACK if level == max(LEVELS) else None for level in LEVELS)

SLICE = 20
"""Rows between two looks at the clock of a paced producer: a store that takes 20 ms must not overrun by seconds."""

NAP = 0.001
"""Seconds that a paced producer sleeps when it is ahead of its schedule."""


def produce(store: Store, first: int, count: int, thread: str) -> None:
    """Build the rows `first` to `first + count - 1` one by one and store each."""
    now = time.time
    for n in range(first, first + count):
        place = n % CYCLE
        store(
            now(),
            "agent.http",
            thread,
            LEVELS[place],
            "server.py",
            100 + place,
            f"{MARK}{n} 200 in {n % 97} ms",
            EXCEPTIONS[place],
        )


def produce_from_threads(store: Store, rows: int, producers: int, finish: Callable[[], None]) -> float:
    """Let threads store `rows` rows at full speed; return the seconds from the first call to the end of `finish`."""
    gate = threading.Barrier(producers + 1)
    share, rest = divmod(rows, producers)

    def work(index: int) -> None:
        gate.wait()
        produce(store, index * share, share + (rest if index == producers - 1 else 0), f"producer-{index}")

    threads = [threading.Thread(target=work, args=(index,)) for index in range(producers)]
    for thread in threads:
        thread.start()
    gate.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    finish()
    return time.perf_counter() - begin


def produce_paced(store: Store, rate: float, seconds: float) -> tuple[int, float]:
    """Store `rate` rows/s by schedule for `seconds`, catching up after delays; return the rows and the seconds."""
    stored = 0
    begin = time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        due = min(int(elapsed * rate), stored + SLICE)
        if due > stored:
            produce(store, stored, due - stored, "producer-0")
            stored = due
        else:
            time.sleep(NAP)
    return stored, elapsed


@contextlib.contextmanager
def busy_threads(count: int) -> Iterator[None]:
    """Run `count` threads of pure Python that never wait for anything, as an agent that computes does."""
    stop = threading.Event()

    def spin() -> None:
        total = 0
        while not stop.is_set():
            for n in range(1000):
                total += n

    threads = [threading.Thread(target=spin) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest of the `ordered` values that at least `percent` of them do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
