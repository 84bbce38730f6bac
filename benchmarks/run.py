"""The runner: plans the cases, runs each in a fresh process, and prints tables, summary, JSON and plots.

The cases of a benchmark are interleaved over the repetitions, so that a slow minute of the machine falls on all
subjects alike.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine, plots
from benchmarks.child import RESULT
from benchmarks.model import Benchmark, Case, Measures, Mode, Result, Results
from benchmarks.peers import SUBJECTS
from benchmarks.registry import BENCHMARKS
from benchmarks.report import Report

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

TIME_LIMIT = 1800.0
"""Seconds after which a measurement counts as crashed; the longest takes a few minutes."""

DISTURBED = 15.0
"""Percent of a core that other processes may take during a measurement before that is said."""


class CrashError(Exception):
    """A measurement ended without a result; the text is what it wrote to standard error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return 1 if a benchmark crashed, 0 whatever the figures are."""
    options = _parse(arguments)
    mode: Mode = "smoke" if options.smoke else "quick" if options.quick else "full"
    report = Report(mode, machine.describe(Path(options.folder)))
    begin = time.perf_counter()
    done: dict[str, Results] = {}
    crashes = 0
    for name in options.only or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        report.say("", f"== {benchmark.TITLE} ({name})")
        done[name], crashed = _run(benchmark, mode, options, report)
        crashes += crashed
        report.say(*benchmark.report(done[name]))
    report.summary(
        [verdict for name in done for verdict in BENCHMARKS[name].verdicts(done[name])],
        f"{mode} mode, {time.perf_counter() - begin:.0f} s, {crashes} crashed",
    )
    folders = {"full": RESULTS, "quick": RESULTS / "quick", "smoke": None}
    output = Path(options.output) if options.output else folders[mode]
    if output is not None:
        report.write(output, done)
        report.say(*plots.draw(output, done))
    return 1 if crashes else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="under two minutes; smaller and with fewer repetitions")
    size.add_argument(
        "--smoke", action="store_true", help="only see that each benchmark runs; the figures mean nothing"
    )
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="run this one only (may be repeated)")
    parser.add_argument(
        "--tries", type=int, default=1, help="measure up to so many times while other processes are busy (default: 1)"
    )
    parser.add_argument("--repeat", type=int, help="repetitions of every case, instead of those of the mode")
    parser.add_argument(
        "--folder", default=tempfile.gettempdir(), help="where the databases are made (default: %(default)s)"
    )
    parser.add_argument("--output", help="where JSON and plots go (default: benchmarks/results, nowhere with --smoke)")
    return parser.parse_args(arguments)


def _run(benchmark: Benchmark, mode: Mode, options: argparse.Namespace, report: Report) -> tuple[Results, int]:
    """Run all cases of a benchmark; return the results and the number of crashes."""
    results = [Result(case) for case in benchmark.plan(mode)]
    crashes = 0
    for repetition in range(options.repeat or max(result.case.repeat for result in results)):
        for result in results:
            if result.missing or repetition >= (options.repeat or result.case.repeat):
                continue
            try:
                measures = _measure_undisturbed(benchmark.NAME, result.case, options)
            except CrashError as crash:
                crashes += 1
                result.missing = "crashed"
                report.say(f"CRASHED: {result.case.subject} {dict(result.case.params)}", str(crash))
                continue
            if "missing" in measures:
                result.missing = measures["missing"]
            else:
                result.runs.append(measures)
    loads = [_other_load(run) for result in results for run in result.runs]
    disturbed = sum(load > DISTURBED for load in loads)
    if disturbed:
        report.say(
            f"disturbed: other processes took more than {DISTURBED:g} % of a core in {disturbed} of {len(loads)} runs"
        )
    for reason in dict.fromkeys(f"{_label(r.case.subject)}: {r.missing}" for r in results if r.missing):
        report.say(f"skipped {reason}")
    return Results(results), crashes


def _label(subject: str) -> str:
    return SUBJECTS[subject].label if subject in SUBJECTS else subject


def _measure_undisturbed(name: str, case: Case, options: argparse.Namespace) -> Measures:
    """Measure again, if allowed, while other processes take too much; return the run that they took least from."""
    runs: list[Measures] = []
    while not runs or (len(runs) < options.tries and _other_load(runs[-1]) > DISTURBED):
        runs.append(_measure(name, case, Path(options.folder)))
    return min(runs, key=_other_load)


def _other_load(run: Measures) -> float:
    load: float = run["other_load_percent"]
    return load


def _measure(name: str, case: Case, folder: Path) -> Measures:
    """Run one measurement in a process and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="tsstreamer-bench-", dir=folder) as place:
        command = [sys.executable, "-m", "benchmarks.child", name, json.dumps(asdict(case)), place]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
        except subprocess.TimeoutExpired as late:
            message = f"no result after {TIME_LIMIT} s"
            raise CrashError(message) from late
        result = Path(place, RESULT)
        if done.returncode or not result.exists():
            raise CrashError(done.stderr or f"exit status {done.returncode}")
        measures: Measures = json.loads(result.read_text(encoding="utf-8"))
        return measures
