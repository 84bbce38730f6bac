"""``kill -9`` at a random moment under full load: what `flush` acknowledged is in the file, in order, once."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SOAK
from tests.faults.programs import assert_intact, query, running, said
from tsstreamer import SqliteDataStreamer

if TYPE_CHECKING:
    import random
    from pathlib import Path

KILLS = 40 if SOAK else 8
_PROGRAM = """
import os, sys, threading, time
from tsstreamer import SqliteDataStreamer
path, run, honest = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
streamer = SqliteDataStreamer(path, flushInterval=0.002 if honest else 0.3)
streamer.addStorage("log", ["run", "thread", "n"], ["INTEGER", "INTEGER", "INTEGER"])

def produce(thread):
    n = 0
    while True:
        for _ in range(100):
            streamer.storeData("log", time.time(), run, thread, n)
            n += 1
        if not honest or streamer.flush():
            os.write(1, b"%d %d\\n" % (thread, n))

print("ready", flush=True)
for thread in range(3):
    threading.Thread(target=produce, args=(thread,)).start()
"""


def _kill_once(path: Path, run: int, seconds: float, *, honest: bool = True) -> Counter[int]:
    """Let the program store for `seconds`, kill it; return the rows that each of its threads had acknowledged."""
    with running(_PROGRAM, path, run, honest) as process:
        time.sleep(seconds)
        process.kill()
        return Counter({line[0]: line[1] for line in said(process)})


def _stored(path: Path, run: int) -> Counter[int]:
    """Return the rows of each thread, after making sure that they are the first ones, in order, each once."""
    found = query(path, f'SELECT thread, n FROM "log" WHERE run = {run} ORDER BY id')
    threads: dict[int, list[int]] = {}
    for thread, n in found:
        assert isinstance(thread, int)
        assert isinstance(n, int)
        threads.setdefault(thread, []).append(n)
    for numbers in threads.values():
        assert list(range(len(numbers))) == numbers
    return Counter({thread: len(numbers) for thread, numbers in threads.items()})


@pytest.mark.timeout(120)
def test_acknowledged_rows_survive_kill(tmp_path: Path, rng: random.Random) -> None:
    """After each kill every acknowledged row is there, in order, once; the file is sound, and ids only grow."""
    path = tmp_path / "log.db"
    acknowledged = 0
    for run in range(KILLS):
        promised = _kill_once(path, run, rng.uniform(0.0, 0.25))
        stored = _stored(path, run)
        assert promised <= stored
        assert_intact(path)
        acknowledged += promised.total()
    assert acknowledged
    ids = [row[0] for row in query(path, "SELECT id FROM log ORDER BY rowid")]
    assert all(one < other for one, other in pairwise(ids))  # type: ignore[operator]
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["run", "thread", "n"], ["INTEGER"] * 3)
        assert KILLS + 1 == streamer._database.epoch
    assert [(len(ids),)] == query(path, "SELECT seq FROM sqlite_sequence WHERE name = 'log'")


def test_rows_acknowledged_before_their_commit_are_lost(tmp_path: Path) -> None:
    """Control: a program that acknowledges what `storeData` took, without a flush, fails this ledger."""
    path = tmp_path / "log.db"
    promised = _kill_once(path, 0, 0.15, honest=False)
    assert not promised <= _stored(path, 0)
