"""Power loss: the end of the write-ahead log, which no sync had reached, is cut off or garbled.

Only what may legally be lost is: not what a checkpoint may have written to the database already, and not what a commit
with ``synchronous=FULL`` has synced.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SOAK
from tests.faults.programs import assert_intact, query, running, said
from tsstreamer import SqliteDataStreamer

if TYPE_CHECKING:
    import random
    from pathlib import Path

CYCLES = 40 if SOAK else 6
FRAME = 4096 + 24
_PROGRAM = """
import os, sys, time
from tsstreamer import SqliteDataStreamer
streamer = SqliteDataStreamer(sys.argv[1], flushInterval=0.001)
streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
streamer.stream("log", ["there"], None, None, 0.001, lambda data, userdata: "x", maxRows=7)

class Messenger:
    def send(self, message):
        pass

log = open(sys.argv[1] + "-wal", "rb")
print("ready", flush=True)
print(os.stat(sys.argv[1] + "-wal").st_size, int.from_bytes(log.read(16)[12:], "big"), flush=True)
n = int(sys.argv[2])
while True:
    for _ in range(20):
        streamer.storeData("log", 1.0, n, "x" * 300)
        n += 1
    streamer.doUpdates(time.monotonic(), Messenger())
    print(n, n, flush=True)
"""


def _lose_power(path: Path, synced: int, sequence: int, rng: random.Random) -> None:
    """Damage the log of a killed program at a place that no sync had reached."""
    log, index = path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")
    header = index.read_bytes()
    backfilled = max(int.from_bytes(header[96:100], "little"), int.from_bytes(header[128:132], "little"))
    data = bytearray(log.read_bytes())
    safe = 32 + backfilled * FRAME
    if int.from_bytes(data[12:16], "big") == sequence:  # not begun anew since: the opening's FULL commit is in there
        safe = max(safe, synced)
    if safe < len(data):
        place = rng.randrange(safe, len(data))
        damage = rng.choice(["cut", "garble", "zero"])
        length = len(data) if damage == "zero" else rng.randrange(1, 3 * FRAME)
        if damage == "cut":
            del data[place:]
        else:
            end = min(place + length, len(data))
            data[place:end] = bytes(end - place) if damage == "zero" else rng.randbytes(end - place)
        log.write_bytes(data)
    index.unlink()


@pytest.mark.timeout(120)
def test_power_loss_leaves_a_prefix_and_positions_within_it(tmp_path: Path, rng: random.Random) -> None:
    """What is left are the first rows, no position is ahead of them, the file is sound, and the epoch has grown."""
    path = tmp_path / "log.db"
    stored = lost = 0
    for cycle in range(CYCLES):
        with running(_PROGRAM, path, stored) as process:
            time.sleep(rng.uniform(0.05, 0.3))
            process.kill()
            (synced, sequence), *marks = said(process)
        _lose_power(path, synced, sequence, rng)
        with SqliteDataStreamer(path) as streamer:
            assert cycle + 2 == streamer._database.epoch
        numbers = [row[0] for row in query(path, "SELECT n FROM log ORDER BY id")]
        assert list(range(len(numbers))) == numbers
        lost += max(0, (marks[-1][0] if marks else 0) - len(numbers))
        stored = len(numbers)
        ((newest, position, scanned),) = query(
            path,
            "SELECT seq, position, scanned FROM sqlite_sequence AS ids, tsstreamer_streams WHERE ids.name = 'log'",
        )
        assert isinstance(newest, int)
        assert isinstance(position, int)
        assert isinstance(scanned, int)
        assert position <= scanned <= newest
        assert_intact(path)
    assert stored
    assert lost  # control: without a loss this would be a test of kill -9
