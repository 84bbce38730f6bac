"""A backlog after a long outage is worked off in portions: memory stays flat, and new rows have their turn."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.streaming import Collector, as_json, opened, state, store
from tsstreamer import YamlFormatter
from tsstreamer import _options as options

if TYPE_CHECKING:
    from tsstreamer import Message

PASS_SECONDS = 10.0
"""What one pass may take: a second or two on an idle machine."""
MEMORY_BYTES = 150 << 20
"""What draining may add: a window of messages, and their making."""


class Counting(Collector):
    """Checks that messages follow on, and keeps none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, int] = {}
        self.ends: dict[str, int] = {}

    def send(self, message: Message, /) -> None:
        assert self.ends.get(message.stream, 0) == message.after
        assert message.upto - message.after == message.rows
        self.ends[message.stream] = message.upto
        self.rows[message.stream] = self.rows.get(message.stream, 0) + message.rows


def memory() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def fill(path: Path, rows: int) -> None:
    """Put rows into the storage, as an outage would have left them."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?) "
            "INSERT INTO log (time, n) SELECT 1.7e9 + n, n FROM count",
            (rows,),
        )


@pytest.mark.parametrize("rows", [300_000, pytest.param(5_000_000, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
def test_a_backlog_drains_beside_new_rows(tmp_path: Path, rows: int) -> None:
    """The first pass ends within its budget; another stream's new rows go out in every pass; memory stays flat."""
    path = tmp_path / "db"
    opened(path).close()
    fill(path, rows)
    streamer, messenger = opened(path), Counting()
    streamer.addStorage("other", ["n"], ["INTEGER"])
    streamer.stream("log", formatter=YamlFormatter())
    streamer.stream("other", formatter=as_json, period=0.001)
    before, peak, passes, slowest, now = memory(), 0, 0, 0.0, 100.0
    while state(streamer).lagRows:
        store(streamer, [passes], "other")
        start = time.monotonic()
        due = streamer.doUpdates(now, messenger)
        slowest = max(slowest, time.monotonic() - start)
        passes += 1
        assert passes == messenger.rows["other"], "the new row went out in the same pass"
        assert messenger.rows["log"] <= passes * options.PASS_MESSAGES * options.MESSAGE_ROWS
        assert due <= now or not state(streamer).lagRows, "it wants to go on at once"
        peak = max(peak, memory())
        now = max(due, now + 0.002)
    streamer.close()
    assert rows == messenger.rows["log"]
    assert passes >= rows / (options.PASS_MESSAGES * options.MESSAGE_ROWS)
    assert slowest < PASS_SECONDS
    assert peak - before < MEMORY_BYTES
    print(f"{passes} passes, slowest {slowest:.2f} s, {(peak - before) >> 20} MB more")  # noqa: T201  (pytest -s shows it)


def test_new_rows_of_the_same_storage_wait_behind_the_backlog_and_come_in_order(tmp_path: Path) -> None:
    """Rows that are stored while a backlog drains are sent after it."""
    path = tmp_path / "db"
    opened(path).close()
    fill(path, 50_000)
    streamer, messenger = opened(path), Counting()
    streamer.stream("log", formatter=YamlFormatter(), maxRows=1000)
    now, more = 100.0, 0
    while state(streamer).lagRows:
        if now < 102.0:
            store(streamer, range(100))
            more += 100
        now = max(streamer.doUpdates(now, messenger), now + 1.0)
    streamer.close()
    assert more > 0
    assert 50_000 + more == messenger.rows["log"]
