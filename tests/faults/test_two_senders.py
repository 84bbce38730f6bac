"""Two processes send the same stream of the same file: the one that was there first gives it up."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.test_delivery_power_loss import to_message
from tests.support import rows_of, wait_until
from tsstreamer import Receiver

if TYPE_CHECKING:
    from pathlib import Path

PERIOD = 0.3

CHILD = """
import dataclasses, json, os, sys, threading, time
from tsstreamer import SqliteDataStreamer

path, out, name, period, how = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5]
shared = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
streamer = SqliteDataStreamer(path, nodename="here")
streamer.addStorage("log", ["who", "n"], ["VARCHAR", "INTEGER"])

class Messenger:
    def send(self, message):  # one write is one line, whoever else writes
        os.write(shared, json.dumps(dataclasses.asdict(message), default=sorted).encode() + b"\\n")

streamer.stream("log", formatter=lambda data, _: json.dumps(data), period=period, maxRows=20)
print(time.time(), flush=True)
if how == "thread":
    streamer.startUpdates(Messenger())
stopping = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stopping.set()), daemon=True).start()
n, due = 0, 0.0
while not stopping.is_set():
    streamer.storeData("log", time.time(), name, n)
    n += 1
    time.sleep(0.002)
    if how == "calls" and time.monotonic() >= due:
        due = streamer.doUpdates(time.monotonic(), Messenger())
streamer.flush()
while (state := streamer.stats().streams["log"]).state != "stopped" and state.lagRows and how == "calls":
    due = streamer.doUpdates(max(due, time.monotonic()), Messenger())
streamer.close()
print(json.dumps([state.state, state.since, state.lastError]))
"""


@pytest.mark.parametrize("how", ["thread", "calls"])
def test_the_older_sender_stops_within_a_period(tmp_path: Path, how: str) -> None:
    """The first stops with an error, the second goes on from there; nothing is missing or doubled at the receiver."""
    path, out = tmp_path / "db", tmp_path / "out"

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", CHILD, str(path), str(out), name, str(PERIOD), how]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def lines() -> int:
        return out.read_bytes().count(b"\n") if out.exists() else 0

    def claimed(child: subprocess.Popen[str]) -> float:
        assert child.stdout is not None
        return float(child.stdout.readline())

    def end(child: subprocess.Popen[str]) -> tuple[str, float, str]:
        text, _ = child.communicate(timeout=20)
        assert child.returncode == 0
        state, since, error = json.loads(text)
        return state, since, error

    with start("older") as older:
        claimed(older)
        wait_until(lambda: lines() >= 2)
        with start("newer") as newer:
            began = claimed(newer)
            before = lines()
            # Both go on for a while, the older one past its next period: a doubled row would have its chance.
            wait_until(lambda: lines() >= before + 6 and time.time() > began + PERIOD + 0.5)
            state, since, error = end(older)
            newest, _, _ = end(newer)
    assert ("stopped", "stream 'log' was taken over by another sender") == (state, error)
    assert "stopped" != newest
    assert -0.05 < since - began < PERIOD + 0.5
    receiver, received = Receiver(), []
    for line in out.read_bytes().splitlines():
        message = to_message(json.loads(line))
        verdict = receiver.take(message)
        assert "gap" != verdict.kind
        received += [(who, n) for _, who, n in json.loads(message.data)[verdict.skip :]]
    committed = [row[2:] for row in rows_of(path, "log")]
    assert {"older", "newer"} == {who for who, _ in committed}
    assert committed == received
