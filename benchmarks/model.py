"""What a benchmark module, the runner and the plots say to each other: plain frozen values, no measuring.

A benchmark module offers ``NAME``, ``TITLE``, ``plan``, ``measure``, ``report`` and ``verdicts`` (see `Benchmark`).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

Mode = Literal["full", "quick", "smoke"]
Measures = dict[str, Any]
T = TypeVar("T")

MIN_REPETITIONS = 3
"""Fewer cannot show an outlier; the full mode never goes below."""


def pick(mode: Mode, *, full: T, quick: T, smoke: T) -> T:
    """Return the value of the mode: one place for each size, so that the three modes stay comparable."""
    return {"full": full, "quick": quick, "smoke": smoke}[mode]


@dataclass(frozen=True)
class Case:
    """One thing to measure, `repeat` times, each time in a fresh process.

    Attributes:
        subject: Name in `benchmarks.peers.SUBJECTS`, or a name that only the benchmark knows.
        params: What distinguishes this case from others of the subject; numbers only.
        repeat: Repetitions.
    """

    subject: str
    params: Mapping[str, float]
    repeat: int


@dataclass
class Result:
    """The runs of one case. `missing` is the reason why there are none (a package that is not installed)."""

    case: Case
    runs: list[Measures] = field(default_factory=list)
    missing: str = ""


@dataclass(frozen=True)
class Results:
    """All results of one benchmark, with look-ups that answer nan where nothing was measured."""

    results: Sequence[Result]

    def runs(self, subject: str, **params: float) -> list[Measures]:
        """Return the runs of `subject` whose parameters include `params`."""
        return [
            run
            for result in self.results
            if result.case.subject == subject and params.items() <= dict(result.case.params).items()
            for run in result.runs
        ]

    def median(self, subject: str, name: str, **params: float) -> float:
        """Return the median of the measure `name`, nan without runs."""
        values = [run[name] for run in self.runs(subject, **params) if name in run]
        return statistics.median(values) if values else math.nan

    def subjects(self) -> list[str]:
        """Return the subjects that have runs, in the order of the plan."""
        return list(dict.fromkeys(result.case.subject for result in self.results if result.runs))

    def params(self, name: str) -> list[float]:
        """Return the values that the parameter `name` took, sorted."""
        return sorted({result.case.params[name] for result in self.results if name in result.case.params})


@dataclass(frozen=True)
class Verdict:
    """One line of the summary: what was asked, what is aimed at, what was measured.

    Attributes:
        row: Number of the question, 1 to 12.
        question: The question, short.
        asked: What must be reached at least (or at most, see `at_most`).
        aim: What is aimed at.
        measured: nan if it was not measured.
        unit: Written after each of the three numbers.
        at_most: Less is better.
        note: What the figure was measured on, if less than the question asks for.
    """

    row: int
    question: str
    asked: float
    aim: float
    measured: float
    unit: str
    at_most: bool = False
    note: str = ""

    @property
    def mark(self) -> str:
        """``aim``, ``met``, ``BELOW``, or ``-`` if there is no measurement."""
        if math.isnan(self.measured):
            return "-"
        sign = -1 if self.at_most else 1
        if sign * self.measured >= sign * self.aim:
            return "aim"
        return "met" if sign * self.measured >= sign * self.asked else "BELOW"


class Benchmark(Protocol):
    """What each benchmark module offers. `measure` runs in a child process, the rest in the runner."""

    NAME: str
    TITLE: str

    def plan(self, mode: Mode) -> list[Case]:
        """Return the cases of the mode; the runner interleaves them over the repetitions."""
        ...

    def measure(self, case: Case, folder: Path) -> Measures:
        """Measure one case once. `folder` is empty, on a real file system, and removed afterwards."""
        ...

    def report(self, results: Results) -> list[str]:
        """Return the lines of the detailed table."""
        ...

    def verdicts(self, results: Results) -> list[Verdict]:
        """Return the lines of the summary."""
        ...


def ratio(ours: float, theirs: float) -> float:
    """Return ours / theirs, inf if theirs is 0 and nan if one is missing."""
    if math.isnan(ours) or math.isnan(theirs):
        return math.nan
    return ours / theirs if theirs else math.inf


def number(value: float) -> str:
    """Write a number with three significant digits, thousands separated."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "inf"
    if abs(value) >= 1000:  # noqa: PLR2004 - from here on decimals say nothing
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], *, right: bool = True) -> list[str]:
    """Align a table: the first column to the left, the others to the right or, on demand, to the left too."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place and right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *lines)
    ]
