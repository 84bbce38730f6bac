"""``tsstreamer record``: stores each line of a stream of bytes as a row, and loses none that it has read.

A signal is noticed where the loop waits for input; what the producer still writes while it ends is read too, for a
moment.
"""

from __future__ import annotations

import os
import select
import sys
import time
from typing import TYPE_CHECKING

from tsstreamer import BufferFullError, SqliteDataStreamer, StorageError
from tsstreamer._signals import EndSignals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tsstreamer import TsStreamerError

_BLOCK_BYTES = 1 << 20
"""Bytes read at once at most. A pipe gives 64 KiB."""
_LINE_BYTES = 16 << 20
"""A line longer than this is stored in pieces: some programs never end their lines, and memory does end."""
_PENDING_ROWS = 200_000
"""Lines waiting in memory: half a second of writing. With more, a fast producer would only be held back later."""
_GRACE_SECONDS = 0.5
"""Time that the producer has after a signal to write its last lines: a terminal's Ctrl-C goes to both programs."""


def record(path: str, key: str, source: int) -> int:
    r"""Store each line that comes from the file descriptor `source` in the storage's column ``line``; report to stderr.

    The time of a row is when its line was read. The newline is taken off, nothing else; bytes that are not UTF-8 are
    stored as ``\xff``. Call it in the main thread: it handles SIGINT, SIGTERM and SIGHUP.

    Returns:
        0 at the end of input, 128 + n after signal n, 1 if reading failed or lines that were read could not be stored.

    Raises:
        TsStreamerError, ValueError: The database cannot be opened, the storage has other columns, or cannot have that
            name.
    """
    begun = time.monotonic()
    taken = 0
    problems = []
    with EndSignals() as signals, SqliteDataStreamer(path, maxPending=_PENDING_ROWS, onError=_on_error) as streamer:
        streamer.addStorage(key, ["line"], ["VARCHAR"])
        try:
            for lines in _blocks(source, signals):
                _store(streamer, key, lines)
                taken += len(lines)
        except OSError as error:
            problems.append(f"the input cannot be read: {error}")
        try:
            streamer.close()
        except StorageError as error:
            problems.append(str(error))
        stored = streamer.close().stored
    seconds = time.monotonic() - begun
    _say(f"{stored:,} lines in {seconds:.2f} s ({stored / seconds:,.0f} lines/s) into {key!r} of {path}")
    if stored != taken:
        problems.append(f"{taken - stored:,} lines that were read are not stored")
    for problem in problems:
        _say(problem)
    if problems:
        return 1
    return signals.status()


def _store(streamer: SqliteDataStreamer, key: str, lines: list[str]) -> None:
    store, now = streamer.storeData, time.time()
    for line in lines:
        while True:
            try:
                store(key, now, line)
                break
            except BufferFullError as error:
                _say(f"{error}; the input waits until there is room")


def _blocks(source: int, signals: EndSignals) -> Iterator[list[str]]:
    """Yield the lines of each block that was read, until the input or the grace after a signal ends."""
    parts: list[bytes] = []
    size = 0
    while True:
        if not signals.number:
            if source not in select.select([source, signals.fileno()], [], [])[0]:
                continue
        else:
            left = signals.since + _GRACE_SECONDS - time.monotonic()
            if left <= 0 or not select.select([source], [], [], left)[0]:
                break
        block = os.read(source, _BLOCK_BYTES)
        if not block:
            break
        parts.append(block)
        size += len(block)
        if b"\n" in block:
            whole, _, rest = b"".join(parts).rpartition(b"\n")
            yield _text(whole).split("\n")
            parts, size = [rest], len(rest)
        elif size > _LINE_BYTES:
            yield [_text(b"".join(parts))]
            parts, size = [], 0
    if size:
        yield [_text(b"".join(parts))]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _on_error(error: TsStreamerError | None) -> None:
    _say("writing works again" if error is None else f"{error}; trying again (a second Ctrl-C gives up)")


def _say(text: str) -> None:
    sys.stderr.write(f"tsstreamer record: {text}\n")
    sys.stderr.flush()
