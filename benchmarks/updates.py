"""Questions 7 and 8: how many rows/s does `doUpdates` send with the default formatter, alone and beside a busy thread?

The messenger keeps the messages and does nothing else. The yardstick reads the same rows in chunks with `SELECT` and
`fetchall` and formats them with ``yaml.dump(Dumper=CSafeDumper)``; it stops after a time and its rate is what it has
done by then.
"""

import sqlite3
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.model import MIN_REPETITIONS, Case, Measures, Mode, Results, Verdict, number, pick, ratio, table
from benchmarks.peers import OURS
from benchmarks.peers.handwritten import RawMultiRow
from benchmarks.peers.ours import TsStreamer
from benchmarks.workload import KEY, KEYS, MARK, busy_threads, produce

NAME = "updates"
TITLE = "rows/s read, formatted and sent"

FETCHALL = "fetchall + CSafeDumper"
CHUNK = 1000
"""Rows that the yardstick reads at once: short enough to stop in time beside a busy thread."""

PERIOD = 1.0


def plan(mode: Mode) -> list[Case]:
    """Return both ways, alone and beside one busy thread."""
    rows = pick(mode, full=200_000, quick=50_000, smoke=2_000)
    seconds = pick(mode, full=10.0, quick=3.0, smoke=0.3)
    repeat = pick(mode, full=MIN_REPETITIONS, quick=1, smoke=1)
    return [
        Case(name, {"threads": threads, "rows": rows, "seconds": seconds}, repeat)
        for name in (OURS, FETCHALL)
        for threads in (0, 1)
    ]


def measure(case: Case, folder: Path) -> Measures:
    """Fill the table, then send all of it."""
    work = _ours if case.subject == OURS else _fetchall
    return {"rows_per_second": work(case, folder)}


class _Messenger:
    """Keeps the data of each message, so that the rows can be counted afterwards."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, message: Any) -> None:  # noqa: ANN401 - a tsstreamer.Message, which may not be there
        self.sent.append(message.data)


def _ours(case: Case, folder: Path) -> float:
    rows = int(case.params["rows"])
    subject = TsStreamer()
    subject.start(folder, rows + 1)
    produce(subject.store, 0, rows, "producer-0")
    subject.finish()
    streamer, messenger = subject.streamer, _Messenger()
    streamer.stream(KEY, ["node"], ["group"], ["data"], PERIOD)
    now = time.time()
    with busy_threads(int(case.params["threads"])):
        before, begin = -1, time.perf_counter()
        while before < len(messenger.sent):
            before = len(messenger.sent)
            streamer.doUpdates(now, messenger)
            now += 2 * PERIOD
        seconds = time.perf_counter() - begin
    found = sum(text.count(MARK) for text in messenger.sent)
    if found != rows:
        message = f"{rows} rows stored, {found} rows sent"
        raise RuntimeError(message)
    return rows / seconds


def _fetchall(case: Case, folder: Path) -> float:
    yaml: Any = import_module("yaml")
    source = RawMultiRow()
    source.start(folder, 0)
    produce(source.store, 0, int(case.params["rows"]), "producer-0")
    source.finish()
    connection = sqlite3.connect(source.database)
    columns = ", ".join(["time", *KEYS])
    select = f"SELECT {columns} FROM {KEY} WHERE rowid > ? ORDER BY rowid LIMIT {CHUNK}"
    done, sent = 0, []
    with busy_threads(int(case.params["threads"])):
        begin = time.perf_counter()
        while (seconds := time.perf_counter() - begin) < case.params["seconds"]:
            data = connection.execute(select, (done,)).fetchall()
            if not data:
                break
            sent.append(yaml.dump({"node": {"index": ["time", *KEYS], "data": data}}, Dumper=yaml.CSafeDumper))
            done += len(data)
    return done / seconds


def report(results: Results) -> list[str]:
    """Return rows/s of both."""
    lines = []
    for name in results.subjects():
        rates = [results.median(name, "rows_per_second", threads=threads) for threads in (0, 1)]
        lines.append(["doUpdates" if name == OURS else name, *map(number, rates)])
    return table(["rows/s", "alone", "1 busy thread"], lines)


def verdicts(results: Results) -> list[Verdict]:
    """Judge our rate against the yardstick's."""

    def measured(threads: int) -> float:
        ours, other = (results.median(name, "rows_per_second", threads=threads) for name in (OURS, FETCHALL))
        return ratio(ours, other)

    return [
        Verdict(7, "doUpdates against fetchall + CSafeDumper", 5.0, 10.0, measured(0), "x"),
        Verdict(8, "the same beside one busy thread", 30.0, 60.0, measured(1), "x"),
    ]
