"""Question 6: how long does `storeData` take at worst, with and without another process that holds the write lock?

One producer stores 10 000 rows/s by schedule; each call is timed. ``nothing`` is the same loop around an empty
function: what the machine itself does to a call.
"""

import contextlib
import time
from pathlib import Path

from benchmarks.holder import lock_held
from benchmarks.model import MIN_REPETITIONS, Case, Measures, Mode, Results, Verdict, number, pick, table
from benchmarks.peers import OURS, PEERS, SUBJECTS
from benchmarks.workload import Store, Value, percentile, produce_paced

NAME = "latency"
TITLE = "latency of storeData, 10 000 rows/s"

RATE = 10_000
BOUND = 1_000_000
NOTHING = "nothing"
PERCENTILES = (50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100)
LIMIT = 200.0
"""Microseconds that question 6 allows."""


def plan(mode: Mode) -> list[Case]:
    """Return ours with and without the lock, the empty function, and in full mode the peers likewise."""
    seconds = pick(mode, full=3.0, quick=2.0, smoke=0.2)
    repeat = pick(mode, full=MIN_REPETITIONS, quick=1, smoke=1)
    peers = pick(mode, full=("plain_queue", *PEERS), quick=(), smoke=())
    return [
        Case(NOTHING, {"locked": 0, "seconds": seconds}, repeat),
        *(Case(name, {"locked": locked, "seconds": seconds}, repeat) for name in (OURS, *peers) for locked in (0, 1)),
    ]


def measure(case: Case, folder: Path) -> Measures:
    """Store by schedule and keep the time of each call."""
    seconds = case.params["seconds"]
    with contextlib.ExitStack() as stack:
        if case.subject == NOTHING:
            times = _time_calls(lambda *row: None, seconds)  # noqa: ARG005 - an empty function of any row
        else:
            subject = SUBJECTS[case.subject].make()
            subject.start(folder, BOUND)
            if case.params["locked"]:
                stack.enter_context(lock_held(subject.database, seconds))
            times = _time_calls(subject.store, seconds)
    times.sort()
    return {f"p{percent}": percentile(times, percent) / 1000 for percent in PERCENTILES} | {"calls": len(times)}


def _time_calls(store: Store, seconds: float) -> list[int]:
    """Return the nanoseconds of each call."""
    times: list[int] = []
    clock = time.perf_counter_ns

    def timed(*row: Value) -> None:
        begin = clock()
        store(*row)
        times.append(clock() - begin)

    produce_paced(timed, RATE, seconds)
    return times


def label(name: str, *, locked: bool) -> str:
    """Return what a curve is called."""
    text = SUBJECTS[name].label if name in SUBJECTS else "an empty function"
    return text + (", lock held" if locked else "")


def curves(results: Results) -> list[tuple[str, bool, list[float]]]:
    """Return the subject, whether the lock was held, and the microseconds at each of `PERCENTILES`, of all curves."""
    return [
        (name, bool(locked), [results.median(name, f"p{percent}", locked=locked) for percent in PERCENTILES])
        for name in results.subjects()
        for locked in results.params("locked")
        if results.runs(name, locked=locked)
    ]


def report(results: Results) -> list[str]:
    """Return the percentiles."""
    lines = [[label(name, locked=locked), *map(number, values)] for name, locked, values in curves(results)]
    return table(["µs", *(f"p{percent:g}" for percent in PERCENTILES)], lines)


def verdicts(results: Results) -> list[Verdict]:
    """Judge our p99.9."""
    return [
        Verdict(
            6,
            f"p99.9 of storeData {'while another process holds the write lock' if locked else 'without a lock'}",
            LIMIT,
            LIMIT,
            results.median(OURS, "p99.9", locked=locked),
            " µs",
            at_most=True,
        )
        for locked in (1, 0)
    ]
