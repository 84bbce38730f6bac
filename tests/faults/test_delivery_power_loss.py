"""A power loss takes back rows that were already sent: the rows that get their ids later are not taken for repeats.

After `kill -9` the end of the write-ahead log is cut off or garbled, but nothing that SQLite had synced. What lies
before a checkpoint or a commit with synchronous=FULL is out of reach, as it is for a real power loss.
"""

from __future__ import annotations

import dataclasses
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.streaming import Collector, numbers
from tests.support import rows_of
from tsstreamer import Message

if TYPE_CHECKING:
    import random

CHILD = """
import dataclasses, json, os, sys
from tsstreamer import SqliteDataStreamer

path, cycle, drain = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "drain"
streamer = SqliteDataStreamer(path, nodename="here", flushInterval=0.0)
with open(path + "-wal", "rb") as log:
    salt = log.read(32)[16:24].hex()
os.write(1, json.dumps([salt, os.stat(path + "-wal").st_size]).encode() + b"\\n")
streamer.addStorage("log", ["n"], ["INTEGER"])

class Messenger:
    def send(self, message):
        line = json.dumps(dataclasses.asdict(message), default=sorted).encode() + b"\\n"
        while line:
            line = line[os.write(1, line):]

streamer.stream("log", formatter=lambda data, _: json.dumps(data), maxRows=3)
now = n = 0
while not drain or streamer.stats().streams["log"].lagRows:
    for _ in range(0 if drain else 1 + n % 4):
        streamer.storeData("log", 1.0, cycle * 1_000_000 + n)
        n += 1
    now += 1
    streamer.doUpdates(now, Messenger())
streamer.close()
"""


class ForgetfulOfEpochs(Collector):
    """The control: a receiver that does not know what an epoch is."""

    def send(self, message: Message, /) -> None:
        super().send(dataclasses.replace(message, epoch=1))


def run_child(path: Path, cycle: int, how: str, messages: int | None) -> tuple[str, int, list[Message]]:
    """Run a sender until it has sent so many messages, then kill it; return what was synced, and what came."""
    found: list[Message] = []
    command = [sys.executable, "-W", "error", "-c", CHILD, str(path), str(cycle), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        salt, synced = json.loads(child.stdout.readline())
        while line := child.stdout.readline():
            if line.endswith(b"\n"):
                found.append(to_message(json.loads(line)))
            if len(found) == messages:
                child.kill()
    assert child.returncode == (0 if messages is None else -9)
    return salt, synced, found


def to_message(fields: dict[str, Any]) -> Message:
    """Make a message of what came through the pipe."""
    sets = {name: frozenset(fields[name]) for name in ("dstnodes", "dstgroups", "dstdocks")}
    return Message(**{**fields, **sets})


def lose_power(path: Path, salt: str, synced: int, rng: random.Random) -> None:
    """Cut or garble the log somewhere behind what was synced, and take the shared memory away."""
    log, memory = Path(f"{path}-wal"), Path(f"{path}-shm")
    _, backfilled, attempted = (struct.unpack_from("<I", memory.read_bytes(), offset)[0] for offset in (16, 96, 128))
    content = log.read_bytes()
    first = 32 + max(backfilled, attempted) * (4096 + 24)
    if content[16:24].hex() == salt:
        first = max(first, synced)
    where = rng.randint(min(first, len(content)), len(content))
    rest = rng.choice([b"", bytes(len(content) - where), rng.randbytes(len(content) - where)])
    log.write_bytes(content[:where] + rest)
    memory.unlink()


@pytest.mark.parametrize("cycles", [8, pytest.param(120, marks=pytest.mark.soak)])
@pytest.mark.timeout(300)
def test_reused_ids_are_not_taken_for_repeats(tmp_path: Path, rng: random.Random, cycles: int) -> None:
    """Every row of the file was received once, in order; what was received besides is what the power loss took."""
    path, receiver, control = tmp_path / "db", Collector(), ForgetfulOfEpochs()
    reused = 0
    for cycle in range(cycles):
        salt, synced, messages = run_child(path, cycle, "run", rng.randint(3, 12))
        lose_power(path, salt, synced, rng)
        for message in messages:
            reused += any(message.epoch > old.epoch and message.after < old.upto for old in receiver.messages)
            receiver.send(message)
            control.send(message)
    for message in run_child(path, cycles, "drain", None)[2]:
        receiver.send(message)
        control.send(message)
    kept = [row[2] for row in rows_of(path, "log")]
    assert len(set(receiver.values)) == len(receiver.values), "nothing twice"
    assert kept == [value for value in receiver.values if value in set(kept)], "all of it, in order"
    assert [] == receiver.gaps
    sent = {value for message in receiver.messages for value in numbers(message)}
    assert set(kept) <= sent
    vanished = sent - set(kept)
    assert vanished, "no row that had been sent was lost: the cuts were harmless, and this test as well"
    assert reused
    assert not set(kept) <= set(control.values), "the control lost nothing: no id was reused"
    print(f"{len(kept)} rows kept, {len(vanished)} vanished after they were sent")  # noqa: T201  (pytest -s shows it)
