"""Question 11: do inserting and sending slow down as the table grows?

One table grows to its full size. On the way, at each size, windows of full-speed storing up to `flush()` are timed,
and `doUpdates` of 1 000 new rows by a stream that starts there. Then both are timed on it and on a small one in turn:
the machine's own changes of speed fall on both alike.
"""

import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.model import MIN_REPETITIONS, Case, Measures, Mode, Results, Verdict, number, pick, table
from benchmarks.peers import OURS
from benchmarks.peers.ours import TsStreamer
from benchmarks.workload import KEY, produce

NAME = "table_size"
TITLE = "rate and doUpdates against the size of the table"

BOUND = 100_000
NEW_ROWS = 1000
WINDOWS = 3
UPDATES = 15
TURNS = 7
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


class _Table:
    """A table that grows."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.subject = TsStreamer()
        self.subject.start(folder, BOUND)
        self.size = 0

    def store(self, count: int) -> float:
        """Store rows at full speed; return the rows/s."""
        begin = time.perf_counter()
        produce(self.subject.store, self.size, count, "producer-0")
        self.subject.finish()
        self.size += count
        return count / (time.perf_counter() - begin)


def measure(case: Case, folder: Path) -> Measures:
    """Grow the table and measure at each size, then in turn with a small one."""
    rows = int(case.params["rows"])
    window = rows // 40
    large, small = _Table(folder / "large"), _Table(folder / "small")
    measures: Measures = {}
    for part in PARTS:
        large.store(max(1, int(rows * part) - large.size))
        measures[f"rate_{part}"] = statistics.median(large.store(window) for _ in range(WINDOWS))
        measures[f"update_{part}"] = statistics.median(_updates(large))
    small.store(int(rows * PARTS[0]))
    pairs = [[each.store(window) for each in (large, small)] for _ in range(TURNS)]
    measures["rate_ratio"] = statistics.median(one / other for one, other in pairs)
    measures["update_ratio"] = statistics.median(_compare(large, small))
    return measures


def _updates(grown: _Table) -> Iterator[float]:
    """Yield the seconds of one `doUpdates` after the other that sends `NEW_ROWS` rows."""
    streamer, messenger = grown.subject.streamer, _Messenger()
    streamer.stream(KEY, ["node"], ["group"], ["data"], PERIOD, since="now")
    for now in itertools.islice(itertools.count(time.time(), 2 * PERIOD), UPDATES):
        grown.store(NEW_ROWS)
        before, begin = messenger.sent, time.perf_counter()
        streamer.doUpdates(now, messenger)
        yield time.perf_counter() - begin
        if messenger.sent == before:
            message = "doUpdates sent nothing"
            raise RuntimeError(message)
    streamer.stopStream(KEY)


def _compare(large: _Table, small: _Table) -> Iterator[float]:
    """Yield the ratios of the times of one `doUpdates` on each, one right after the other."""
    for _ in range(TURNS):
        for one, other in zip(_updates(large), _updates(small), strict=True):
            yield one / other


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
    rate, update = (number(results.median(OURS, name)) for name in ("rate_ratio", "update_ratio"))
    lines.append([f"{rows:,.0f} / {rows * PARTS[0]:,.0f}, in turn", f"{rate}x", f"{update}x"])
    return table(["rows in the table", "rows/s", f"doUpdates of {NEW_ROWS} rows, ms"], lines)


def verdicts(results: Results) -> list[Verdict]:
    """Judge both at the full size against the small one."""
    rows = max(results.params("rows"), default=0)
    note = "" if rows >= FULL else f"scaled: {rows:,.0f} rows against {rows * PARTS[0]:,.0f}"
    rates, updates = (results.median(OURS, name) for name in ("rate_ratio", "update_ratio"))
    return [
        Verdict(11, "insert rate at 20 million rows against 1 million", 0.9, 1.0, rates, "x", note=note),
        Verdict(11, "doUpdates of 1 000 new rows likewise", 1.2, 1.0, updates, "x", at_most=True, note=note),
    ]
