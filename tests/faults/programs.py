"""Runs programs that are to be killed, stopped or forked, and looks at the files they leave."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def running(source: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Give a new interpreter that runs `source`, once it has printed ``ready``; kill it at the end."""
    command = [sys.executable, "-c", source, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "ready\n" == process.stdout.readline()
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> list[list[int]]:
    """Return the lines of numbers that a killed program had printed; the last may be cut off and does not count."""
    assert process.stdout is not None
    *lines, _ = process.stdout.read().split("\n")
    return [[int(number) for number in line.split()] for line in lines]


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    """Ask the file as another program would."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def assert_intact(path: Path) -> None:
    """Fail if SQLite finds anything wrong with the file."""
    assert [("ok",)] == query(path, "PRAGMA integrity_check")
