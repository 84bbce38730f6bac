"""Question 11: do inserting and sending slow down as the table grows?

One table grows to its full size. On the way, at each size, windows of full-speed storing up to `flush()` are timed,
and `doUpdates` of 1 000 new rows by a stream that starts there.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.model import MIN_REPETITIONS, Case, Measures, Mode, Results, Verdict, number, pick, ratio, table
from benchmarks.peers import OURS
from benchmarks.peers.ours import TsStreamer
from benchmarks.workload import KEY, produce

NAME = "table_size"
TITLE = "rate and doUpdates against the size of the table"

BOUND = 100_000
NEW_ROWS = 1000
WINDOWS = 3
UPDATES = 15
PERIOD = 1.0
PARTS = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Sizes at which is measured, as parts of the full size; the first is 1 million of 20."""

FULL = 20_000_000


def plan(mode: Mode) -> list[Case]:
    """Return one case; the size is scaled down unless in full mode."""
    rows = pick(mode, full=FULL, quick=2_000_000, smoke=20_000)
    return [Case(OURS, {"rows": rows}, pick(mode, full=MIN_REPETITIONS, quick=1, smoke=1))]


class _Messenger:
    """Counts messages."""

    sent = 0

    def send(self, message: object) -> None:
        del message
        self.sent += 1


def measure(case: Case, folder: Path) -> Measures:
    """Grow the table and measure at each size."""
    rows = int(case.params["rows"])
    window = rows // 40
    subject = TsStreamer()
    subject.start(folder, BOUND)
    measures: Measures = {}
    size = 0

    def store(count: int) -> float:
        nonlocal size
        begin = time.perf_counter()
        produce(subject.store, size, count, "producer-0")
        subject.finish()
        size += count
        return count / (time.perf_counter() - begin)

    for part in PARTS:
        store(max(1, int(rows * part) - size))
        measures[f"rate_{part}"] = statistics.median(store(window) for _ in range(WINDOWS))
        measures[f"update_{part}"] = statistics.median(_updates(subject, store))
    return measures


def _updates(subject: TsStreamer, store: Callable[[int], float]) -> list[float]:
    """Return the seconds of each `doUpdates` that sends `NEW_ROWS` rows."""
    streamer, messenger = subject.streamer, _Messenger()
    streamer.stream(KEY, ["node"], ["group"], ["data"], PERIOD, since="now")
    times = []
    for now in itertools.islice(itertools.count(time.time(), 2 * PERIOD), UPDATES):
        store(NEW_ROWS)
        before, begin = messenger.sent, time.perf_counter()
        streamer.doUpdates(now, messenger)
        times.append(time.perf_counter() - begin)
        if messenger.sent == before:
            message = "doUpdates sent nothing"
            raise RuntimeError(message)
    streamer.stopStream(KEY)
    return times


def report(results: Results) -> list[str]:
    """Return the rate and the time of `doUpdates` at each size."""
    rows = max(results.params("rows"), default=0)
    lines = [
        [
            f"{rows * part:,.0f}",
            number(results.median(OURS, f"rate_{part}")),
            number(1000 * results.median(OURS, f"update_{part}")),
        ]
        for part in PARTS
    ]
    return table(["rows in the table", "rows/s", f"doUpdates of {NEW_ROWS} rows, ms"], lines)


def verdicts(results: Results) -> list[Verdict]:
    """Judge both at the full size against the first."""
    rows = max(results.params("rows"), default=0)
    note = "" if rows >= FULL else f"scaled: {rows:,.0f} rows against {rows * PARTS[0]:,.0f}"
    rates, updates = (
        ratio(results.median(OURS, f"{what}_{PARTS[-1]}"), results.median(OURS, f"{what}_{PARTS[0]}"))
        for what in ("rate", "update")
    )
    return [
        Verdict(11, "insert rate at 20 million rows against 1 million", 0.9, 1.0, rates, "x", note=note),
        Verdict(11, "doUpdates of 1 000 new rows likewise", 1.2, 1.0, updates, "x", at_most=True, note=note),
    ]
