"""What a run says and leaves behind: text on the terminal, and the same in files that the documentation quotes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.model import Case, Mode, Result, Results, Verdict, number, table
from benchmarks.peers import SUBJECTS
from benchmarks.registry import BENCHMARKS

SUMMARY = "report.txt"


class Report:
    """The text of a run, printed at once, and the files that it leaves."""

    def __init__(self, mode: Mode, facts: Mapping[str, str]) -> None:
        """Say what is run, on which machine, and how each subject is used."""
        self._mode = mode
        self._facts = facts
        self.say(*self._head())

    def _head(self) -> list[str]:
        subjects = [[spec.label, spec.settings] for spec in SUBJECTS.values()]
        return [
            f"tsstreamer benchmarks, {self._mode} mode"
            + (": the figures mean nothing" if self._mode == "smoke" else ""),
            *table(["machine", ""], list(self._facts.items()), right=False),
            "",
            *table(["subject", ""], subjects, right=False),
        ]

    def say(self, *lines: str) -> None:
        """Print lines."""
        for line in lines:
            print(line, flush=True)

    def summary(self, verdicts: Sequence[Verdict], run: str) -> None:
        """Say what was asked, aimed at and measured."""
        self.say(*self._summary(verdicts, run))

    def _summary(self, verdicts: Sequence[Verdict], run: str) -> list[str]:
        head = [" #  question", "asked", "aim", "measured", ""]
        lines = ["", f"== Summary ({run})", *table(head, [self._line(verdict) for verdict in verdicts])]
        if self._mode != "smoke":
            lines.append(
                "aim: aim reached; met: at least what is asked; BELOW: less; -: not measured. Nothing here gates."
            )
        return lines

    def _line(self, verdict: Verdict) -> list[str]:
        sign = "<=" if verdict.at_most else ">="
        measured = not math.isnan(verdict.measured)
        return [
            f"{verdict.row:>2}  {verdict.question}" + (f" ({verdict.note})" if verdict.note else ""),
            f"{sign} {number(verdict.asked)}{verdict.unit}",
            f"{number(verdict.aim)}{verdict.unit}",
            f"{number(verdict.measured)}{verdict.unit}" if measured else "-",
            "ran" if self._mode == "smoke" and measured else verdict.mark,
        ]

    def write(self, output: Path, done: Mapping[str, Results]) -> None:
        """Write a file for each benchmark that ran, and the text of all that are there: one can be run again alone."""
        output.mkdir(parents=True, exist_ok=True)
        for name, results in done.items():
            subjects = [subject for subject in results.subjects() if subject in SUBJECTS]
            document = {
                "benchmark": name,
                "mode": self._mode,
                "machine": self._facts,
                "subjects": {subject: SUBJECTS[subject].settings for subject in subjects},
                "verdicts": [
                    asdict(verdict) | {"mark": verdict.mark} for verdict in BENCHMARKS[name].verdicts(results)
                ],
                "results": [asdict(result) for result in results.results],
            }
            (output / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        lines, verdicts = self._head(), []
        for name, benchmark in BENCHMARKS.items():
            if (output / f"{name}.json").exists():
                date, results = _read(output / f"{name}.json")
                lines += ["", f"== {benchmark.TITLE} ({name}, {date})", *benchmark.report(results)]
                verdicts += benchmark.verdicts(results)
        lines += self._summary(verdicts, f"{self._mode} mode")
        (output / SUMMARY).write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.say("", f"results written to {output}")


def _read(path: Path) -> tuple[str, Results]:
    """Return the date and the results of a benchmark that ran."""
    document = json.loads(path.read_text(encoding="utf-8"))
    results = [Result(Case(**each["case"]), each["runs"], each["missing"]) for each in document["results"]]
    return document["machine"]["date"], Results(results)
