"""Small things that many tests want; nothing here knows the inside of the package."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

KEYS = ["name", "thread", "level", "filename", "fileno", "msg", "exception"]


def wait_until(predicate: Callable[[], T], seconds: float = 10.0) -> T:
    """Call `predicate` until what it returns is true, and return that; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = 0.0005
    while not (result := predicate()):
        if time.monotonic() > deadline:
            message = f"still {result!r} after {seconds} seconds"
            raise AssertionError(message)
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    return result


def rows_of(path: Path, key: str) -> list[tuple[Any, ...]]:
    """Read all rows ``(id, time, *values)`` of a storage in id order, as another program would."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f'SELECT * FROM "{key}" ORDER BY id').fetchall()


def run_python(source: str, *arguments: object, cwd: Path, seconds: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run a program in a new interpreter with warnings as errors; fail if it is not done after `seconds`."""
    command = [sys.executable, "-W", "error", "-c", source, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)


_LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def write_lock(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the write lock of the database at `path`, and give that process."""
    command = [sys.executable, "-c", _LOCKER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()
