"""The documentation is true: its code runs and prints what it says, its links and the tests it names exist.

Each ```python block of a page runs as a program of its own, in an empty folder; after the line ``<!-- goes on -->`` it
runs behind the block before it. Where a block prints, the next fenced block of the page is a ```text block with the
output; ``...`` in it stands for anything.
"""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import run_python

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("README.md"), *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
GOES_ON = "<!-- goes on -->"
COMMANDS = "<!-- commands -->"

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
_TEST = re.compile(r"\btests/[\w/]+\.py(?:::\w+)*")


@dataclass(frozen=True)
class Example:
    """A program in a page, and what it prints."""

    name: str
    source: str
    output: str


def examples_of(page: str, name: str) -> list[Example]:
    """Find the programs of a page; blank lines in front keep the line numbers of tracebacks those of the page."""
    examples: list[Example] = []
    source = shown = ""
    for fence, following in pairwise([*_FENCE.finditer(page), None]):
        if not fence or fence[1] != "python":
            continue
        if not page[: fence.start()].rstrip().endswith(GOES_ON):
            source = shown = ""
        first_line = page.count("\n", 0, fence.start()) + 1
        source += "\n" * (first_line - source.count("\n")) + fence[2]
        shown += following[2] if following and following[1] == "text" else ""
        examples.append(Example(f"{name}:{first_line}", source, shown))
    return examples


def anchors_of(page: str) -> set[str]:
    """The fragments under which the headings of a page can be linked."""
    headings = _HEADING.findall(_FENCE.sub("", page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names_in(path: Path) -> set[str]:
    """The names ``path::test`` and ``path::Class::test`` that a test file holds, and the file itself."""
    file = str(path.relative_to(ROOT))
    names = {file}
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(f"{file}::{node.name}")
            members = node.body if isinstance(node, ast.ClassDef) else []
            names |= {f"{file}::{node.name}::{each.name}" for each in members if isinstance(each, ast.FunctionDef)}
    return names


PROGRAMS = [program for page in PAGES for program in examples_of(page.read_text("utf-8"), page.name)]


def test_examples_are_found() -> None:
    """A block stands alone unless it goes on, and its output is the text block that follows at once."""
    page = f"""
```python
a
```
so
```text
1
```
{GOES_ON}
```python
b
```
```sh
c
```
```python
d
```
"""
    expected = [
        Example("page:2", "\n\na\n", "1\n"),
        Example("page:10", "\n\na\n\n\n\n\n\n\n\nb\n", "1\n"),
        Example("page:16", "\n" * 16 + "d\n", ""),
    ]
    assert expected == examples_of(page, "page")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_code_in_the_pages_runs(program: Example, tmp_path: Path) -> None:
    """Every Python block runs without a warning and prints what the page shows."""
    result = run_python(program.source, cwd=tmp_path)
    assert (0, "") == (result.returncode, result.stderr)
    if not doctest.OutputChecker().check_output(program.output, result.stdout, doctest.ELLIPSIS):
        assert program.output == result.stdout, result.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_run(example: Path, tmp_path: Path) -> None:
    """Every script under docs/examples ends well in an empty folder, without a warning."""
    command = [sys.executable, "-W", "error", str(example)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=45, check=False)
    assert (0, "") == (result.returncode, result.stderr), result.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file of the project, and a heading where it has a fragment."""
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, fragment = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        found = target.is_relative_to(ROOT) and target.exists()
        if found and fragment and target.suffix == ".md":
            found = fragment in anchors_of(target.read_text("utf-8"))
        if not found:
            broken.append(link)
    assert [] == broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    """Every test that a page names as its proof exists."""
    named = set(_TEST.findall(page.read_text("utf-8")))
    files = {ROOT / name.partition("::")[0] for name in named}
    assert set() == named - {name for file in files if file.exists() for name in names_in(file)}


def test_the_two_commands() -> None:
    """The README has two commands of one line each that start from Python alone; .ci/run executes the second."""
    _, _, after = (ROOT / "README.md").read_text("utf-8").partition(COMMANDS)
    fence = _FENCE.match(after.lstrip())
    assert fence
    assert "sh" == fence[1]
    start = "python3 -m venv .venv && .venv/bin/python -m pip install "
    assert [True, True] == [line.startswith(start) for line in fence[2].splitlines()]
