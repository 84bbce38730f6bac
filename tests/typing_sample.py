"""What users write, for the type checker and for a run: each line is accepted unless it says that it is an error.

An error that is not found any more makes its ``type: ignore`` unused, which strict mypy reports as well.
"""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from tsstreamer import (
    CallMessenger,
    CloseReport,
    JsonFormatter,
    Message,
    Messenger,
    Receiver,
    SqliteDataStreamer,
    SqliteLogHandler,
    Stats,
    TsStreamerError,
    YamlFormatter,
)
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from pathlib import Path


class Agent:
    """Keeps its formatter, its messenger and its error callback in one object."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.states: list[TsStreamerError | None] = []

    def shorten(self, data: list[list[Any]], userdata: dict[str, int]) -> str:
        """Format rows as a bound method does."""
        return f"{len(data)} rows at level {userdata['level']}"

    def send(self, message: Message) -> None:
        """Be a messenger without inheriting from anything."""
        self.sent.append(message)


def formatter(self: SqliteDataStreamer, data: list[list[Any]], userdata: object) -> bytes:
    """Format as the documented example does: a function that gets the streamer first."""
    return repr((self, data, userdata)).encode()


def later(message: Message) -> Future[None]:
    """Accept a message at some later time."""
    future: Future[None] = Future()
    future.set_result(None)
    assert message.upto >= message.after
    return future


def store_and_stream(folder: Path) -> CloseReport:
    """Use the documented class in every documented way."""
    agent = Agent()
    path = folder / "typed.db"
    with SqliteDataStreamer(path, True, flushInterval=0.01, onError=agent.states.append) as streamer:  # noqa: FBT003
        streamer.addStorage("logkey", ["level", "msg"], ["INTEGER", "VARCHAR"], maxAge=3600.0, maxRows=1000)
        streamer.storeData("logkey", time.time(), 20, "text")
        streamer.stream("logkey", ["node"], [], {"data", "log"}, 1.0, agent.shorten, userdata={"level": 20})
        streamer.stream("logkey", ["node"], ["group"], ["log"], 0.5, formatter, sqlfilter="level >= 20", name="self")
        streamer.stream(
            "logkey", ["node"], [], ["log"], 1, YamlFormatter(), sqlparams=(20,), sqlfile="level = ?", name="y"
        )
        streamer.stream(
            key="logkey",
            dstnodes=(),
            dstgroups=["all"],
            dstdocks=["log"],
            period=2.0,
            formatter=JsonFormatter(),
            name="j",
        )
        due: float = streamer.doUpdates(time.time(), agent)
        assert due < math.inf
        messengers: list[Messenger] = [agent, CallMessenger(later), RecordingMessenger()]
        streamer.doUpdates(time.time() + 10, messengers[1])
        received = [Receiver().take(message) for message in agent.sent]
        assert [verdict.kind for verdict in received] == ["new"] * 4
        userdata = streamer.stopStream("logkey")
        assert userdata == {"level": 20}
        stats: Stats = streamer.stats()
        committed: int = stats.storages["logkey"].committed
        done: bool = streamer.flush(timeout=5.0)
        assert (committed, done, stats.streams["self"].state) == (1, True, "waiting")
    return streamer.close()


def log(folder: Path) -> None:
    """Use the logging handler on a streamer of its own."""
    handler = SqliteLogHandler(folder / "log.db", maxPending=1000)
    logger = logging.getLogger("typing sample")
    logger.addHandler(handler)
    logger.warning("typed %s", "text")
    logger.removeHandler(handler)
    handler.close()
    assert handler.streamer.close().stored == 1


def mistakes(streamer: SqliteDataStreamer, messenger: Messenger, message: Message) -> None:
    """Make mistakes that the type checker must find; never called."""
    streamer.storeData("logkey", "now", 20)  # type: ignore[arg-type]
    streamer.addStorage("logkey", ["level"])  # type: ignore[call-arg]
    streamer.doUpdates(time.time(), print)  # type: ignore[arg-type]
    streamer.doUpdates(None, messenger)  # type: ignore[arg-type]
    streamer.stream("logkey", [], [], [], "1 s", YamlFormatter())  # type: ignore[arg-type]
    streamer.store_data("logkey", 1.0)  # type: ignore[attr-defined]
    message.sequence = 1  # type: ignore[misc]
    SqliteDataStreamer("typed.db", flush_interval=1.0)  # type: ignore[call-arg]
