"""Questions 1 and 2: how many rows/s do 1, 4 and 16 producers at full speed get committed?

Producers build each row themselves. The time runs from the first call to the end of `flush()`, the backlog is bounded
at 100 000 rows. The yardsticks insert ready-made rows in one thread. Peers are given fewer rows, their rate does not
depend on it.
"""

import math
import time
from pathlib import Path

from benchmarks.model import MIN_REPETITIONS, Case, Measures, Mode, Results, Verdict, number, pick, ratio, table
from benchmarks.peers import OURS, PEERS, RAW, SUBJECTS
from benchmarks.peers.base import Reader
from benchmarks.workload import produce, produce_from_threads

NAME = "throughput"
TITLE = "rows/s with producers at full speed"

BOUND = 100_000
PRODUCERS = (1, 4, 16)
REPETITIONS = 7
"""Of the two that are compared closely: a shared machine has minutes in which everything takes half as long again."""

SLOW = 0.2
"""persist-queue is given this part of the rows of the other peers: it is ten times slower."""


def plan(mode: Mode) -> list[Case]:
    """Return every subject with every number of producers; peers with 4 producers only, unless in full mode."""
    rows = pick(mode, full=1_000_000, quick=300_000, smoke=2_000)
    few = pick(mode, full=50_000, quick=10_000, smoke=500)
    repeat = pick(mode, full=REPETITIONS, quick=MIN_REPETITIONS, smoke=1)
    repeat_peers = pick(mode, full=MIN_REPETITIONS, quick=1, smoke=1)
    peer_producers = pick(mode, full=PRODUCERS, quick=(4,), smoke=(4,))
    return [
        *(Case(name, {"producers": 1, "rows": rows}, repeat) for name in RAW),
        *(Case(OURS, {"producers": producers, "rows": rows}, repeat) for producers in PRODUCERS),
        *(
            Case(
                name,
                {"producers": producers, "rows": int(few * SLOW) if name == "persist_queue" else few},
                repeat_peers,
            )
            for name in ("plain_queue", *PEERS)
            for producers in peer_producers
        ),
    ]


def measure(case: Case, folder: Path) -> Measures:
    """Store the rows, then count them."""
    rows = int(case.params["rows"])
    subject = SUBJECTS[case.subject].make()
    subject.start(folder, BOUND)
    if case.subject in RAW:
        produce(subject.store, 0, rows, "producer-0")
        begin = time.perf_counter()
        subject.finish()
        seconds = time.perf_counter() - begin
    else:
        seconds = produce_from_threads(subject.store, rows, int(case.params["producers"]), subject.finish)
    found = Reader(subject).count()
    if found != rows:
        message = f"{case.subject}: {rows} rows stored, {found} rows found"
        raise RuntimeError(message)
    return {"rows_per_second": rows / seconds, "seconds": seconds}


def _rate(results: Results, subject: str, **params: float) -> float:
    return results.median(subject, "rows_per_second", **params)


def best_peer(results: Results, producers: float) -> float:
    """Return the rate of the fastest peer with that many producers, or with any if it ran with other numbers only."""
    rates = [_rate(results, name, producers=producers) for name in PEERS]
    rates = [rate for rate in rates if not math.isnan(rate)] or [_rate(results, name) for name in PEERS]
    return max((rate for rate in rates if not math.isnan(rate)), default=math.nan)


def report(results: Results) -> list[str]:
    """Return rows/s by subject and number of producers, and ours as a multiple of each at its best."""
    producers = results.params("producers")
    ours = max((_rate(results, OURS, producers=count) for count in producers), default=math.nan)
    lines = []
    for name in results.subjects():
        rates = [_rate(results, name, producers=count) for count in producers]
        best = max(rate for rate in rates if not math.isnan(rate))
        lines.append([SUBJECTS[name].label, *map(number, rates), number(ratio(ours, best))])
    return table(["rows/s", *(f"producers: {count:.0f}" for count in producers), "ours/it"], lines)


def verdicts(results: Results) -> list[Verdict]:
    """Judge our rate against `executemany` in one thread and against the best peer."""
    raw = _rate(results, "raw_executemany")
    lines = []
    for row, asked, aim, base in ((1, 0.85, 1.1, "executemany in one thread"), (2, 8, 12, "the best peer")):
        for count in PRODUCERS:
            other = raw if row == 1 else best_peer(results, count)
            measured = ratio(_rate(results, OURS, producers=count), other)
            lines.append(
                Verdict(
                    row, f"{count} producer{'s' * (count > 1)} at full speed against {base}", asked, aim, measured, "x"
                )
            )
    return lines
