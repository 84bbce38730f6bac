"""Questions 3 and 4: what gets committed while the program's own threads keep the GIL busy?

One producer stores 50 000 rows/s by schedule, catching up after delays, beside 0, 1, 2 or 4 threads of pure Python.
At the moment when its time is up, the busy threads still running, a separate connection counts what is committed.
"""

import math
from pathlib import Path

from benchmarks.model import MIN_REPETITIONS, Case, Measures, Mode, Results, Verdict, number, pick, ratio, table
from benchmarks.peers import OURS, PEERS, SUBJECTS
from benchmarks.peers.base import Reader
from benchmarks.workload import busy_threads, produce_paced

NAME = "busy"
TITLE = "rows/s committed beside busy threads"

RATE = 50_000
BOUND = 1_000_000
"""The default of tsstreamer: a smaller one would hold the producer back and so raise the share that is committed."""

ASKED_SHARE = {1: 95.0, 2: 90.0, 4: 75.0}


def plan(mode: Mode) -> list[Case]:
    """Return every subject with every number of busy threads; peers beside one only, unless in full mode."""
    seconds = pick(mode, full=10.0, quick=3.0, smoke=0.2)
    peer_seconds = pick(mode, full=5.0, quick=1.5, smoke=0.2)  # what lags behind does so from the first second
    repeat = pick(mode, full=MIN_REPETITIONS, quick=1, smoke=1)
    threads = pick(mode, full=(0, 1, 2, 4), quick=(1, 2, 4), smoke=(1,))
    peer_threads = pick(mode, full=(0, 1, 2, 4), quick=(1,), smoke=(1,))
    return [
        *(Case(OURS, {"threads": count, "seconds": seconds}, repeat) for count in threads),
        *(
            Case(name, {"threads": count, "seconds": peer_seconds}, repeat)
            for name in ("plain_queue", *PEERS)
            for count in peer_threads
        ),
    ]


def measure(case: Case, folder: Path) -> Measures:
    """Store by schedule, then count at once."""
    subject = SUBJECTS[case.subject].make()
    subject.start(folder, BOUND)
    reader = Reader(subject)
    with busy_threads(int(case.params["threads"])):
        stored, seconds = produce_paced(subject.store, RATE, case.params["seconds"])
        committed = reader.committed()
    return {
        "offered_per_second": RATE,
        "stored_per_second": stored / seconds,
        "committed_per_second": committed / seconds,
        "share_percent": 100 * committed / stored if stored else math.nan,
    }


def _rate(results: Results, subject: str, threads: float) -> float:
    return results.median(subject, "committed_per_second", threads=threads)


def report(results: Results) -> list[str]:
    """Return committed rows/s by subject and number of busy threads, and the share of the stored rows."""
    threads = results.params("threads")
    head = ["committed rows/s (share of stored, ours/it)", *(f"{count:.0f} busy" for count in threads)]
    lines = []
    for name in results.subjects():
        cells = []
        for count in threads:
            rate, share = _rate(results, name, count), results.median(name, "share_percent", threads=count)
            cells.append(
                f"{number(rate)} ({share:.1f} %, {number(ratio(_rate(results, OURS, count), rate))}x)"
                if not math.isnan(rate)
                else "-"
            )
        lines.append([SUBJECTS[name].label, *cells])
    return table(head, lines)


def verdicts(results: Results) -> list[Verdict]:
    """Judge the share that we commit, and our rate against the plain queue and against the best peer."""
    lines = [
        Verdict(
            3,
            f"share committed of 50 000 rows/s beside {threads} busy thread{'s' * (threads > 1)}",
            asked,
            99.0,
            results.median(OURS, "share_percent", threads=threads),
            "%",
        )
        for threads, asked in ASKED_SHARE.items()
    ]
    for threads in ASKED_SHARE:
        ours = _rate(results, OURS, threads)
        peers = {name: _rate(results, name, threads) for name in PEERS}
        peers = {name: rate for name, rate in peers.items() if not math.isnan(rate)}
        best = max(peers, key=peers.__getitem__, default="")
        against = [("queue + executemany", _rate(results, "plain_queue", threads))]
        if best:
            against.append((f"the best peer ({SUBJECTS[best].label})", peers[best]))
        lines += [
            Verdict(4, f"beside {threads} busy against {label}", 30.0, 100.0, ratio(ours, rate), "x")
            for label, rate in against
            if not math.isnan(rate)
        ]
    return lines
