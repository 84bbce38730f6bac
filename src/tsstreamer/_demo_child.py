"""The other processes of ``tsstreamer demo``, seen from both ends: the listener to the warnings, and the clients.

Both live as long as their standard input is open, so they never outlive the demo, however it ends. What they counted is
their last line of standard output.
"""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Any, Self

import yaml

from tsstreamer import Message, MessengerError, Receiver

END_SECONDS = 15.0
"""What a process may take to start, or to end before it is killed: longer than the clients wait for an answer."""
_KILL_SECONDS = 2.0
"""What it may take to end when the demo has failed anyway."""

_ACCEPTED = b"accepted\n"
"""What the listener answers to each message."""
_ODD_PATHS = {"/missing": 0.06, "/broken": 0.02}
"""What the clients ask for beside ``/fine``, and how often."""
_SOCKET_SECONDS = 10.0
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Child:
    """Another process of the demo. It ends when its input does, at the latest when the ``with`` block is left."""

    def __init__(self, *arguments: object) -> None:
        # The same path for imports as here, however this process was started and whatever lies in the current folder.
        program = f"import sys; sys.path[:] = {sys.path!r}; from tsstreamer._demo_child import main; main()"
        self._process = subprocess.Popen(  # noqa: S603  (ourselves)
            [sys.executable, "-c", program, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # a terminal's Ctrl-C is for the demo, which then ends its children in order
        )
        assert self._process.stdin is not None  # noqa: S101  (both are pipes)
        assert self._process.stdout is not None  # noqa: S101
        self._input, self._output = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what was not written yet
            self._input.close()
        try:
            self._process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def end(self) -> dict[str, int]:
        """End the input, and return what the process counted; nothing if it does not end or has failed."""
        try:
            output, _ = self._process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            return {}
        counts: dict[str, int] = json.loads(output.splitlines()[-1]) if self._process.returncode == 0 else {}
        return counts


class Listener(Child):
    """The process that gets the warnings, and a messenger to it; each message is acknowledged."""

    def send(self, message: Message) -> None:
        """Write the message to the process, and wait until it has taken it."""
        write_message(self._input, message)
        if self._output.readline() != _ACCEPTED:
            error = "the listener has ended"
            raise MessengerError(error)


def write_message(stream: IO[bytes], message: Message) -> None:
    """Write a message: its attributes and the length of its data as a line of JSON, then the data."""
    attributes = asdict(message)
    data = attributes.pop("data").encode()
    for name in ("dstnodes", "dstgroups", "dstdocks"):
        attributes[name] = sorted(attributes[name])
    stream.write(json.dumps([attributes, len(data)]).encode() + b"\n" + data)
    stream.flush()


def read_message(stream: IO[bytes]) -> Message | None:
    """Read what `write_message` wrote; None at the end."""
    line = stream.readline()
    if not line:
        return None
    attributes, length = json.loads(line)
    for name in ("dstnodes", "dstgroups", "dstdocks"):
        attributes[name] = frozenset(attributes[name])
    return Message(data=stream.read(length).decode(), **attributes)


def listen() -> dict[str, int]:
    """Take messages from standard input, and acknowledge each; return the counts of what came."""
    receiver = Receiver()
    counts = {"messages": 0, "rows": 0, "gaps": 0}
    while (message := read_message(sys.stdin.buffer)) is not None:
        rows = yaml.load(message.data, _LOADER)[message.src]["data"]  # noqa: S506  (the safe one, in C where there is it)
        verdict = receiver.take(message)
        counts["messages"] += 1
        counts["rows"] += len(rows[verdict.skip :])
        counts["gaps"] += verdict.kind == "gap"
        sys.stdout.buffer.write(_ACCEPTED)
        sys.stdout.buffer.flush()
    return counts


def ask(port: int, connections: int, seed: int) -> dict[str, int]:
    """Load the server over so many connections until standard input ends; return the counts of answers by status."""
    stop = threading.Event()
    counts: list[dict[str, int]] = [{} for _ in range(connections)]
    threads = [
        threading.Thread(target=_ask, args=(port, random.Random(f"{seed} {number}"), stop, count))  # noqa: S311  (load)
        for number, count in enumerate(counts)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.buffer.read()
    stop.set()
    for thread in threads:
        thread.join()
    statuses = sorted({status for count in counts for status in count})
    return {status: sum(count.get(status, 0) for count in counts) for status in statuses}


def _ask(port: int, chance: random.Random, stop: threading.Event, counts: dict[str, int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SOCKET_SECONDS)
    paths = ["/fine", *_ODD_PATHS]
    weights = [1 - sum(_ODD_PATHS.values()), *_ODD_PATHS.values()]
    try:
        while not stop.is_set():
            connection.request("GET", chance.choices(paths, weights)[0])
            answer = connection.getresponse()
            answer.read()
            counts[str(answer.status)] = counts.get(str(answer.status), 0) + 1
    finally:
        connection.close()


def main() -> None:
    """Be the listener or the clients, as the arguments say."""
    role, *numbers = sys.argv[1:]
    counts = listen() if role == "listen" else ask(*map(int, numbers))
    sys.stdout.write(json.dumps(counts) + "\n")
