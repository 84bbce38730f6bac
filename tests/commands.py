"""Starts the command ``tsstreamer`` as users do, in a process of its own, with a deadline on every wait."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import sysconfig
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-W", "error", "-m", "tsstreamer"]
SCRIPT = Path(sysconfig.get_path("scripts"), "tsstreamer")
SECONDS = 30.0
"""What a command may take: a slow machine's worst."""


def run(*arguments: object, cwd: Path, data: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end, with `data` as its input."""
    with start(*arguments, cwd=cwd, **options) as process:
        out, err = process.communicate(data, timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@contextmanager
def start(*arguments: object, cwd: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command, with pipes on all three streams; kill it at the end if it still runs."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # Buffered as a user's would be, so that what is not flushed is not seen.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    # A shell's background job hands "ignore" on to all its descendants, and Ctrl-C is what some tests are about.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], cwd=cwd, env=environment, bufsize=0, **(pipes | options)
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(stream: Any, wanted: bytes, seconds: float = SECONDS) -> bytes:
    """Read from a pipe or descriptor until `wanted` has come or its end; fail with what has come after `seconds`."""
    deadline = time.monotonic() + seconds
    text = b""
    while wanted not in text:
        if not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
            message = f"{wanted!r} has not come in {seconds} s, only {text!r}"
            raise AssertionError(message)
        block = os.read(stream if isinstance(stream, int) else stream.fileno(), 65_536)
        if not block:
            break
        text += block
    return text
