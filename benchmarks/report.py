"""What a run says and leaves behind: text on the terminal, and the same in files that the documentation quotes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.model import Mode, Results, Verdict, number, table
from benchmarks.peers import SUBJECTS
from benchmarks.registry import BENCHMARKS

SUMMARY = "report.txt"


class Report:
    """The text of a run: printed at once, and kept."""

    def __init__(self, mode: Mode, facts: Mapping[str, str]) -> None:
        """Say what is run, on which machine, and how each subject is used."""
        self._mode = mode
        self._facts = facts
        self._lines: list[str] = []
        self.say(f"tsstreamer benchmarks, {mode} mode" + (": the figures mean nothing" if mode == "smoke" else ""))
        self.say(*table(["machine", ""], list(facts.items()), right=False), "")
        self.say(*table(["subject", ""], [[spec.label, spec.settings] for spec in SUBJECTS.values()], right=False))

    def say(self, *lines: str) -> None:
        """Print the lines and keep them."""
        self._lines += lines
        for line in lines:
            print(line, flush=True)

    def summary(self, verdicts: Sequence[Verdict], run: str) -> None:
        """Say what was asked, aimed at and measured."""
        head = [" #  question", "asked", "aim", "measured", ""]
        self.say("", f"== Summary ({run})", *table(head, [self._line(verdict) for verdict in verdicts]))
        if self._mode != "smoke":
            self.say("aim: aim reached; met: at least what is asked; BELOW: less; -: not measured. Nothing here gates.")

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

    def write(self, output: Path, done: Mapping[str, Results], *, whole: bool) -> None:
        """Write a file for each benchmark that ran, so that one can be run again alone, and the text of a whole run."""
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
        if whole:
            (output / SUMMARY).write_text("\n".join(self._lines) + "\n", encoding="utf-8")
        self.say("", f"results written to {output}")
