"""Question 5: what does `storeData` of seven values cost, with all its checks?

The yardstick is an unchecked Python function that does ``put((timestamp, *values))``. Batches of the two alternate.
The writer is kept asleep while a batch is timed: it waits for a flush interval longer than the benchmark, and each
batch is flushed afterwards.
"""

import gc
import queue
import time
import timeit
from importlib import import_module
from pathlib import Path

from benchmarks.model import MIN_REPETITIONS, Case, Measures, Mode, Results, Verdict, number, pick, ratio, table
from benchmarks.peers import OURS
from benchmarks.workload import KEY, KEYS, TYPES, Value, percentile

NAME = "call_cost"
TITLE = "cost of one storeData of 7 values"

CALLS = 1000
"""Calls in a batch: short against the switch interval of 5 ms, so that no other thread gets the GIL inside one."""

FLUSH_INTERVAL = 30.0
SETTLE = 0.01
"""Seconds between the first row, which wakes the writer, and the timed batch: the writer is then asleep again."""


def plan(mode: Mode) -> list[Case]:
    """Return one case."""
    batches = pick(mode, full=100, quick=40, smoke=3)
    return [Case(OURS, {"batches": batches}, pick(mode, full=MIN_REPETITIONS, quick=MIN_REPETITIONS, smoke=1))]


def measure(case: Case, folder: Path) -> Measures:
    """Time batches of the two in turn."""
    streamer = import_module("tsstreamer").SqliteDataStreamer(str(folder / "rows.db"), flushInterval=FLUSH_INTERVAL)
    streamer.addStorage(KEY, KEYS, TYPES)
    unchecked: queue.SimpleQueue[tuple[Value, ...]] = queue.SimpleQueue()
    put = unchecked.put

    def plain(timestamp: float, *values: Value) -> None:
        put((timestamp, *values))

    values = ("agent.http", "producer-0", 20, "server.py", 163, "GET /item/7 200 in 7 ms", None)
    names = {"stamp": time.time(), **{f"v{place}": value for place, value in enumerate(values)}}
    arguments = ", ".join(names)
    checked_timer = timeit.Timer(f"store({KEY!r}, {arguments})", globals={"store": streamer.storeData, **names})
    plain_timer = timeit.Timer(f"plain({arguments})", globals={"plain": plain, **names})
    checked_times, plain_times = [], []
    for _ in range(int(case.params["batches"])):
        streamer.storeData(KEY, time.time(), *values)
        time.sleep(SETTLE)
        checked_times.append(checked_timer.timeit(CALLS) / CALLS)
        plain_times.append(plain_timer.timeit(CALLS) / CALLS)
        streamer.flush()
        while not unchecked.empty():
            unchecked.get()
        gc.collect(0)
    checked_times.sort()
    plain_times.sort()
    return {
        "checked_seconds": percentile(checked_times, 50),
        "plain_seconds": percentile(plain_times, 50),
        "times": percentile(checked_times, 50) / percentile(plain_times, 50),
    }


def report(results: Results) -> list[str]:
    """Return both times."""
    checked, plain = (1e6 * results.median(OURS, name) for name in ("checked_seconds", "plain_seconds"))
    lines = [
        ["storeData", number(checked), number(ratio(checked, plain))],
        ["unchecked put((timestamp, *values))", number(plain), "1"],
    ]
    return table(["median of a call", "µs", "times"], lines)


def verdicts(results: Results) -> list[Verdict]:
    """Judge the ratio."""
    return [
        Verdict(
            5,
            "storeData of 7 values against an unchecked put",
            3.0,
            2.0,
            results.median(OURS, "times"),
            "x",
            at_most=True,
        )
    ]
