"""Questions 9 and 10: how much memory does a waiting row take, and does memory grow with what went through?

Waiting: another process holds the write lock while rows are stored, so that none can leave; what the process grew by
is divided by the rows. Gone through: the resident memory after a flush, after a tenth of the rows and after all of
them.
"""

import gc
import os
from pathlib import Path

from benchmarks.holder import lock_held
from benchmarks.model import MIN_REPETITIONS, Case, Measures, Mode, Results, Verdict, number, pick, ratio, table
from benchmarks.peers import OURS, SUBJECTS
from benchmarks.workload import produce

NAME = "memory"
TITLE = "memory"

WAITING, THROUGH = 0, 1
BOUND = 100_000
HOLD = 60.0
WARM_UP = 5_000
STATM = Path("/proc/self/statm")


def plan(mode: Mode) -> list[Case]:
    """Return ours waiting and gone through, and the plain queue waiting, for comparison."""
    waiting = pick(mode, full=500_000, quick=200_000, smoke=5_000)
    through = pick(mode, full=10_000_000, quick=2_000_000, smoke=20_000)
    repeat = pick(mode, full=MIN_REPETITIONS, quick=1, smoke=1)
    return [
        Case(OURS, {"what": WAITING, "rows": waiting}, repeat),
        Case("plain_queue", {"what": WAITING, "rows": waiting}, repeat),
        Case(OURS, {"what": THROUGH, "rows": through}, repeat),
    ]


def measure(case: Case, folder: Path) -> Measures:
    """Measure what `case` names, or nothing on a system without /proc."""
    if not STATM.exists():
        return {}
    rows = int(case.params["rows"])
    subject = SUBJECTS[case.subject].make()
    if case.params["what"] == WAITING:
        subject.start(folder, rows + WARM_UP)
        produce(subject.store, 0, WARM_UP, "producer-0")
        with lock_held(subject.database, HOLD):
            before = _resident()
            produce(subject.store, WARM_UP, rows, "producer-0")
            return {"bytes_per_row": (_resident() - before) / rows}
    subject.start(folder, BOUND)
    produce(subject.store, 0, rows // 10, "producer-0")
    subject.finish()
    first = _resident()
    produce(subject.store, rows // 10, rows - rows // 10, "producer-0")
    subject.finish()
    last = _resident()
    return {"first_bytes": first, "last_bytes": last, "growth": last / first}


def _resident() -> int:
    gc.collect()
    return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def report(results: Results) -> list[str]:
    """Return bytes for each waiting row, and the resident memory."""
    lines = [
        [f"{SUBJECTS[name].label}, bytes for each waiting row", number(results.median(name, "bytes_per_row"))]
        for name in results.subjects()
    ]
    for rows in results.params("rows"):
        first, last = (results.median(OURS, name, what=THROUGH, rows=rows) for name in ("first_bytes", "last_bytes"))
        if ratio(first, last) > 0:
            lines.append([f"resident MB after {rows / 10:,.0f} rows", number(first / 1e6)])
            lines.append([f"resident MB after {rows:,.0f} rows", number(last / 1e6)])
    return table(["memory", ""], lines)


def verdicts(results: Results) -> list[Verdict]:
    """Judge both."""
    rows = max(results.params("rows"), default=0)
    return [
        Verdict(
            9, "memory of a waiting row", 300.0, 220.0, results.median(OURS, "bytes_per_row"), " bytes", at_most=True
        ),
        Verdict(
            10,
            "resident memory after 10 million rows against 1 million",
            1.1,
            1.0,
            round(results.median(OURS, "growth"), 2),
            "x",
            at_most=True,
            note="" if rows >= 10_000_000 else f"scaled: {rows:,.0f} rows against a tenth",  # noqa: PLR2004
        ),
    ]
