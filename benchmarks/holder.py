"""Another process that holds the write lock of a database: ``python -m benchmarks.holder DATABASE SECONDS``.

It holds the lock until its standard input ends or the seconds are over, whichever is first.
"""

import contextlib
import os
import selectors
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HELD = "held\n"
ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def lock_held(database: Path, seconds: float) -> Iterator[None]:
    """Let another process hold the write lock of `database` while the block runs, for `seconds` at most."""
    command = [sys.executable, "-m", "benchmarks.holder", str(database), str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdout.readline() != HELD:
            message = f"the lock of {database} could not be taken"
            raise RuntimeError(message)
        yield
        process.communicate()


def _hold(database: str, seconds: float) -> None:
    connection = sqlite3.connect(database, timeout=10, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    sys.stdout.write(HELD)
    sys.stdout.flush()
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.select(seconds)
    connection.execute("ROLLBACK")
    connection.close()
    os._exit(0)


if __name__ == "__main__":
    _hold(sys.argv[1], float(sys.argv[2]))
