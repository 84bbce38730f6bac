"""Question 12: what does an idle streamer cost?

Processor time of a process that has one streamer with one stream of period 1 s under `startUpdates`, and nothing to
do.
"""

import time
from pathlib import Path

from benchmarks.model import MIN_REPETITIONS, Case, Measures, Mode, Results, Verdict, number, pick, table
from benchmarks.peers import OURS
from benchmarks.peers.ours import TsStreamer
from benchmarks.workload import KEY, produce

NAME = "idle"
TITLE = "processor time of an idle streamer"

BOUND = 100_000
ROWS = 1000
PERIOD = 1.0
SETTLE = 1.5
"""Seconds after the last row: it is sent, and the threads have gone to sleep."""


class _Messenger:
    """Drops messages."""

    def send(self, message: object) -> None:
        del message


def plan(mode: Mode) -> list[Case]:
    """Return one case."""
    seconds = pick(mode, full=20.0, quick=8.0, smoke=0.5)
    return [Case(OURS, {"seconds": seconds}, pick(mode, full=MIN_REPETITIONS, quick=1, smoke=1))]


def measure(case: Case, folder: Path) -> Measures:
    """Store a few rows, let them be sent, then watch the process do nothing."""
    subject = TsStreamer()
    subject.start(folder, BOUND)
    produce(subject.store, 0, ROWS, "producer-0")
    subject.streamer.stream(KEY, ["node"], ["group"], ["data"], PERIOD)
    subject.streamer.startUpdates(_Messenger())
    time.sleep(SETTLE)
    used, begin = time.process_time(), time.perf_counter()
    time.sleep(case.params["seconds"])
    return {"percent": 100 * (time.process_time() - used) / (time.perf_counter() - begin)}


def report(results: Results) -> list[str]:
    """Return the percentage."""
    return table(["idle", "% of a core"], [["tsstreamer", number(results.median(OURS, "percent"))]])


def verdicts(results: Results) -> list[Verdict]:
    """Judge it."""
    measured = results.median(OURS, "percent")
    return [Verdict(12, "an idle streamer with one stream of 1 s", 0.2, 0.05, measured, " %", at_most=True)]
