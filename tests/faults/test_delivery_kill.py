"""`kill -9` at random moments of sending: what the receiver kept is what was committed, in order, once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.streaming import Collector
from tests.support import rows_of
from tsstreamer import Message

if TYPE_CHECKING:
    import random
    from pathlib import Path

CHILD = """
import dataclasses, json, os, sys, threading, time
from tsstreamer import SqliteDataStreamer

path, how = sys.argv[1:]
streamer = SqliteDataStreamer(path, nodename="here", flushInterval=0.0)
streamer.addStorage("log", ["n"], ["INTEGER"])

def write(message):
    line = json.dumps(dataclasses.asdict(message), default=sorted).encode() + b"\\n"
    while line:
        line = line[os.write(1, line):]

class Messenger:
    def send(self, message):
        write(message)

class Early:
    # Accepts a message, and so has the position moved, before it is sent.
    pending = []
    def send(self, message):
        self.pending.append(message)
        if len(self.pending) > 3:
            write(self.pending.pop(0))

messenger = Early() if how == "early" else Messenger()
streamer.stream("log", formatter=lambda data, _: json.dumps(data), maxRows=5, window=1 if how == "early" else 3)
if how == "drain":
    while streamer.stats().streams["log"].lagRows:
        streamer.doUpdates(time.time(), messenger)
    streamer.close()
    sys.exit()

def produce():
    n = 0
    while True:
        streamer.storeData("log", time.time(), n)
        n += 1
        if n % 4 == 0:
            time.sleep(0.0005)

threading.Thread(target=produce, daemon=True).start()
os.write(1, b"ready\\n")
now = 0.0
while True:
    now += 1.0
    streamer.doUpdates(now, messenger)
"""


@dataclass
class Receiving:
    """The receiving node: it lives on while the sender is killed again and again."""

    path: Path
    collector: Collector = field(default_factory=Collector)
    seen: list[Message] = field(default_factory=list)

    def run(self, how: str, seconds: float | None) -> None:
        """Run a sender, kill it after `seconds`, take what came out of its pipe."""
        command = [sys.executable, "-W", "error", "-c", CHILD, str(self.path), how]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            if seconds is not None:
                assert child.stdout.readline() == b"ready\n"
                time.sleep(seconds)  # the random moment, not a wait for something
                child.kill()
            for line in child.stdout.read().split(b"\n")[:-1]:  # what was cut off in the middle was not received
                self.take(json.loads(line))
        assert child.returncode == (0 if seconds is None else -9)

    def take(self, fields: dict[str, Any]) -> None:
        """Take a message off the pipe."""
        for name in ("dstnodes", "dstgroups", "dstdocks"):
            fields[name] = frozenset(fields[name])
        message = Message(**fields)
        self.collector.send(message)
        self.seen.append(message)


def killed(path: Path, rng: random.Random, how: str, kills: int) -> tuple[list[int], Receiving]:
    """Kill a sender many times, then drain; return the committed numbers and what the receiver has."""
    receiving = Receiving(path)
    for _ in range(kills):
        receiving.run(how, rng.uniform(0.0, 0.08))
    receiving.run("drain", None)
    return [row[2] for row in rows_of(path, "log")], receiving


@pytest.mark.parametrize("kills", [8, pytest.param(40, marks=pytest.mark.soak)])
@pytest.mark.timeout(240)
def test_what_is_received_is_what_was_committed(tmp_path: Path, rng: random.Random, kills: int) -> None:
    """After `Receiver`, the rows are those in the file, in order, once; a message sent twice is identical."""
    committed, receiving = killed(tmp_path / "db", rng, "late", kills)
    assert committed == receiving.collector.values
    assert [] == receiving.collector.gaps
    first: dict[int, Message] = {}
    repeats = [message for message in receiving.seen if first.setdefault(message.sequence, message) is not message]
    assert [first[message.sequence] for message in repeats] == repeats
    assert list(range(1, len(first) + 1)) == sorted(first), "the numbers go on after a restart"
    print(f"{len(committed)} rows, {len(first)} messages, {len(repeats)} repeats")  # noqa: T201  (pytest -s shows it)


def test_a_position_that_moves_before_the_send_loses_rows(tmp_path: Path, rng: random.Random) -> None:
    """The control: with the position moved first rows are lost, and the receiver's alarm rings."""
    receiving = Receiving(tmp_path / "db")
    fruitful = 0
    while fruitful < 3:  # a loaded machine may kill a child before it sends anything
        before = len(receiving.seen)
        receiving.run("early", rng.uniform(0.02, 0.1))
        fruitful += len(receiving.seen) > before
    receiving.run("drain", None)
    committed = rows_of(tmp_path / "db", "log")
    assert len(committed) > len(receiving.collector.values)
    assert [] != receiving.collector.gaps
