"""One measurement in a process of its own: ``python -m benchmarks.child NAME CASE FOLDER`` writes FOLDER/result.json.

A fresh process for each measurement keeps threads, the GIL's queue and memory of one subject from the next.
"""

import json
import os
import sys
import time
from pathlib import Path

from benchmarks.machine import OtherLoad
from benchmarks.model import Case, Measures
from benchmarks.peers import SUBJECTS
from benchmarks.registry import BENCHMARKS

RESULT = "result.json"


def run(name: str, case: Case, folder: Path) -> Measures:
    """Measure, or say which package is missing."""
    package = SUBJECTS[case.subject].package if case.subject in SUBJECTS else ""
    try:
        return BENCHMARKS[name].measure(case, folder)
    except ModuleNotFoundError as error:
        if not package:
            raise
        return {"missing": f"{package}: {error}"}


def main(arguments: list[str]) -> None:
    """Read the case, measure, write the result, and leave without waiting for what a subject still has to write."""
    name, text, folder = arguments
    load = OtherLoad()
    begin = time.perf_counter()
    measures = run(name, Case(**json.loads(text)), Path(folder))
    measures["child_seconds"] = time.perf_counter() - begin
    measures["other_load_percent"] = load.percent()
    Path(folder, RESULT).write_text(json.dumps(measures), encoding="utf-8")
    sys.stdout.flush()
    # A subject that was stopped in the middle would otherwise work off its backlog at exit, for minutes.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
