"""What tests of streams share: a storage of numbers, a receiver that keeps them once, a messenger that can be held."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tsstreamer import Message, Receiver, SqliteDataStreamer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tsstreamer import Messenger, StreamStats

PATIENCE = 10.0
"""Seconds after which a wait in a test has failed."""


def as_json(data: list[list[Any]], _: object) -> str:
    """Format rows so that `numbers` reads them back."""
    return json.dumps(data)


def numbers(message: Message) -> list[int]:
    """Return the numbers in a message."""
    return [row[1] for row in json.loads(message.data)]


def opened(path: Path | str = ":memory:", **settings: Any) -> SqliteDataStreamer:
    """Open a streamer with a storage ``log`` of numbers."""
    streamer = SqliteDataStreamer(path, nodename="here", **settings)
    streamer.addStorage("log", ["n"], ["INTEGER"])
    return streamer


def store(streamer: SqliteDataStreamer, values: Iterable[int], key: str = "log") -> None:
    """Store numbers, each at the time of its own value, and commit them."""
    for value in values:
        streamer.storeData(key, float(value), value)
    assert streamer.flush(PATIENCE)


def state(streamer: SqliteDataStreamer, name: str = "log") -> StreamStats:
    """Return the state of one stream."""
    return streamer.stats().streams[name]


def drain(streamer: SqliteDataStreamer, messenger: Messenger, name: str = "log") -> None:
    """Call `doUpdates` until a stream has nothing left; a bounded number of times, so that a stuck stream fails."""
    now = 100.0
    for _ in range(300):
        if not state(streamer, name).lagRows:
            return
        now = streamer.doUpdates(now, messenger)
    text = f"still {state(streamer, name)}"
    raise AssertionError(text)


def saved(path: Path, name: str = "log") -> tuple[Any, ...] | None:
    """Return ``(position, scanned, sequence, inflight)`` of a stream as the file has them."""
    with closing(sqlite3.connect(path)) as connection:
        row: tuple[Any, ...] | None = connection.execute(
            "SELECT position, scanned, sequence, inflight FROM tsstreamer_streams WHERE name = ?", (name,)
        ).fetchone()
        return row


class Collector:
    """A messenger with a receiver behind it: `values` holds what a correct receiver would have stored."""

    def __init__(self) -> None:
        self.receiver = Receiver()
        self.values: list[int] = []
        self.messages: list[Message] = []
        self.gaps: list[tuple[int, int] | None] = []

    def send(self, message: Message, /) -> None:
        verdict = self.receiver.take(message)
        self.messages.append(message)
        self.values += numbers(message)[verdict.skip :]
        if verdict.kind == "gap":
            self.gaps.append(verdict.missed)


class Held(Collector):
    """A messenger that waits inside `send` until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.release = threading.Event()

    def send(self, message: Message, /) -> None:
        self.entered.set()
        assert self.release.wait(PATIENCE)
        super().send(message)
