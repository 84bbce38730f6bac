"""The runner: plans the cases, runs each in a fresh process, and prints tables, summary, JSON and plots.

The cases of a benchmark are interleaved over the repetitions, so that a slow minute of the machine falls on all
subjects alike.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine, plots
from benchmarks.child import RESULT
from benchmarks.model import Benchmark, Case, Measures, Mode, Result, Results, Verdict, number, table
from benchmarks.peers import SUBJECTS
from benchmarks.registry import BENCHMARKS

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
    facts = machine.describe(Path(options.folder))
    _print_facts(mode, facts)
    begin = time.perf_counter()
    done: dict[str, Results] = {}
    verdicts: list[Verdict] = []
    crashes = 0
    for name in options.only or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        print(f"\n== {benchmark.TITLE} ({name})", flush=True)
        results, crashed = _run(benchmark, mode, options)
        crashes += crashed
        done[name] = results
        verdicts += benchmark.verdicts(results)
        print("\n".join(benchmark.report(results)))
    output = (
        Path(options.output) if options.output else {"full": RESULTS, "quick": RESULTS / "quick", "smoke": None}[mode]
    )
    _print_summary(mode, verdicts, time.perf_counter() - begin, crashes)
    if output is not None:
        _write(output, mode, facts, done)
        print("\n".join(plots.draw(output, done)))
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


def _print_facts(mode: Mode, facts: dict[str, str]) -> None:
    print(f"tsstreamer benchmarks, {mode} mode" + (": the figures mean nothing" if mode == "smoke" else ""))
    print("\n".join(table(["machine", ""], [[name, value] for name, value in facts.items()], right=False)))
    print("\n".join(["", *table(["subject", ""], [[s.label, s.settings] for s in SUBJECTS.values()], right=False)]))


def _run(benchmark: Benchmark, mode: Mode, options: argparse.Namespace) -> tuple[Results, int]:
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
                print(f"CRASHED: {result.case.subject} {dict(result.case.params)}\n{crash}", flush=True)
                continue
            if "missing" in measures:
                result.missing = measures["missing"]
            else:
                result.runs.append(measures)
    loads = [_other_load(run) for result in results for run in result.runs]
    disturbed = sum(load > DISTURBED for load in loads)
    if disturbed:
        print(
            f"disturbed: other processes took more than {DISTURBED:g} % of a core in {disturbed} of {len(loads)} runs"
        )
    for reason in dict.fromkeys(f"{_label(r.case.subject)}: {r.missing}" for r in results if r.missing):
        print(f"skipped {reason}")
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


def _print_summary(mode: Mode, verdicts: Sequence[Verdict], seconds: float, crashes: int) -> None:
    lines = []
    for verdict in verdicts:
        sign = "<=" if verdict.at_most else ">="
        lines.append(
            [
                f"{verdict.row:>2}  {verdict.question}" + (f" ({verdict.note})" if verdict.note else ""),
                f"{sign} {number(verdict.asked)}{verdict.unit}",
                f"{number(verdict.aim)}{verdict.unit}",
                "-" if math.isnan(verdict.measured) else f"{number(verdict.measured)}{verdict.unit}",
                "ran" if mode == "smoke" and verdict.mark != "-" else verdict.mark,
            ]
        )
    print(f"\n== Summary ({mode} mode, {seconds:.0f} s, {crashes} crashed)")
    print("\n".join(table([" #  question", "asked", "aim", "measured", ""], lines)))
    if mode != "smoke":
        print("aim: aim reached; met: what is asked is reached; BELOW: it is not; -: not measured. Nothing here gates.")


def _write(output: Path, mode: Mode, facts: dict[str, str], done: dict[str, Results]) -> None:
    """Write one file for each benchmark that ran, so that one can be run again alone."""
    output.mkdir(parents=True, exist_ok=True)
    for name, results in done.items():
        document = {
            "benchmark": name,
            "mode": mode,
            "machine": facts,
            "subjects": {subject: SUBJECTS[subject].settings for subject in results.subjects() if subject in SUBJECTS},
            "verdicts": [asdict(verdict) | {"mark": verdict.mark} for verdict in BENCHMARKS[name].verdicts(results)],
            "results": [asdict(result) for result in results.results],
        }
        text = json.dumps(document, indent=1)
        (output / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"\nresults written to {output}")
