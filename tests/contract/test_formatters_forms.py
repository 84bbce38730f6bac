"""The forms in which a formatter may be given to `stream`, decided once and there."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.streaming import opened, store
from tsstreamer import JsonFormatter, SqliteDataStreamer, YamlFormatter
from tsstreamer.testing import RecordingMessenger

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def streamer() -> Iterator[SqliteDataStreamer]:
    """A streamer with three rows."""
    with opened() as made:
        store(made, range(3))
        yield made


ROWS = [[0.0, 0], [1.0, 1], [2.0, 2]]


def text(owner: object, data: object, userdata: object) -> str:
    """Show what a formatter was called with."""
    name = "streamer" if isinstance(owner, SqliteDataStreamer) else repr(owner)
    return json.dumps([name, data, userdata])


def plain(data: object, userdata: object) -> str:
    """Be a plain function."""
    return text(None, data, userdata)


def documented(self: object, data: object, userdata: object) -> str:
    """Be a function as the documentation writes it, with `self` first."""
    return text(self, data, userdata)


def with_default(data: object, userdata: object, indent: object = None) -> str:
    """Be a plain function that could take a third argument."""
    return text(indent, data, userdata)


def self_with_default(self: object, data: object, userdata: object = None) -> str:
    """Be a documented function that could do with two arguments."""
    return text(self, data, userdata)


def other_first_name(streamer: object, data: object, userdata: object) -> str:
    """Take three arguments, under names of its own."""
    return text(streamer, data, userdata)


def anything(*arguments: object) -> str:
    """Take what comes."""
    return text(None, *arguments)


class Agent:
    """Somebody with a method."""

    def __repr__(self) -> str:
        return "agent"

    def method(self, data: object, userdata: object) -> str:
        """Be a bound method."""
        return text(self, data, userdata)

    def __call__(self, data: object, userdata: object) -> str:
        return text(self, data, userdata)

    @staticmethod
    def static(data: object, userdata: object) -> str:
        """Be a static method."""
        return text(None, data, userdata)


@pytest.mark.parametrize(
    ("formatter", "owner"),
    [
        (plain, "None"),
        (documented, "streamer"),
        (Agent().method, "agent"),
        (with_default, "None"),
        (self_with_default, "streamer"),
        (other_first_name, "streamer"),
        (anything, "None"),
        (Agent(), "agent"),
        (Agent.static, "None"),
        (lambda data, userdata: text(None, data, userdata), "None"),
        (functools.partial(documented, "bound"), "'bound'"),
        (functools.partial(plain), "None"),
    ],
)
def test_each_form_gets_the_rows_and_the_users_data(streamer: SqliteDataStreamer, formatter: Any, owner: str) -> None:
    """Plain, bound, documented with `self`, callable object, partial: each gets ``[time, value]`` rows and userdata."""
    messenger = RecordingMessenger()
    streamer.stream("log", formatter=formatter, userdata={"level": 3})
    streamer.doUpdates(100.0, messenger)
    assert [[owner, ROWS, {"level": 3}]] == [json.loads(message.data) for message in messenger.messages]
    assert [5] == [message.contenttype for message in messenger.messages]


async def coroutine(data: object, userdata: object) -> str:
    """Be a coroutine function, which returns no text."""
    return text(None, data, userdata)


@pytest.mark.parametrize(
    "formatter",
    [
        "yaml",
        3,
        Agent,
        YamlFormatter,
        lambda: "",
        lambda _: "",
        lambda a, b, c, d: str((a, b, c, d)),
        lambda data, *, userdata: str((data, userdata)),
        coroutine,
    ],
)
def test_anything_else_is_a_type_error_at_once(streamer: SqliteDataStreamer, formatter: Any) -> None:
    """What cannot be called with the rows and the user's data is refused by `stream`, which says what would do."""
    with pytest.raises(TypeError, match=r"f\(data, userdata\)"):
        streamer.stream("log", formatter=formatter)
    assert {} == streamer.stats().streams


def test_the_rows_are_plain(streamer: SqliteDataStreamer) -> None:
    """`yaml.safe_dump` writes what a formatter gets without anchors and tags."""
    messenger = RecordingMessenger()
    streamer.stream("log", formatter=lambda data, _: yaml.safe_dump({"node": {"index": ["time", "n"], "data": data}}))
    streamer.doUpdates(100.0, messenger)
    data = messenger.messages[0].data
    assert isinstance(data, str)
    assert not {"&", "*", "!"} & set(data)
    assert {"node": {"index": ["time", "n"], "data": ROWS}} == yaml.safe_load(data)


@pytest.mark.parametrize("result", ["text", b"bytes", "", b""])
def test_data_is_what_the_formatter_returned(streamer: SqliteDataStreamer, result: str | bytes) -> None:
    """Str and bytes pass unchanged, empty ones too."""
    messenger = RecordingMessenger()
    streamer.stream("log", formatter=lambda *_: result)
    streamer.doUpdates(100.0, messenger)
    assert [result] == [message.data for message in messenger.messages]
    assert [3] == [message.rows for message in messenger.messages]


@pytest.mark.parametrize(
    ("formatter", "given", "expected"),
    [
        (None, None, 5),
        (YamlFormatter(), None, 5),
        (JsonFormatter(), None, 2),
        (plain, None, 5),
        (plain, 9, 9),
        (None, 0, 0),
    ],
)
def test_the_content_type(streamer: SqliteDataStreamer, formatter: Any, given: int | None, expected: int) -> None:
    """It is 5 unless the formatter has another or `stream` says otherwise."""
    messenger = RecordingMessenger()
    streamer.stream("log", formatter=formatter, contenttype=given)
    streamer.doUpdates(100.0, messenger)
    assert [expected] == [message.contenttype for message in messenger.messages]


def test_every_value_reaches_a_plain_function(streamer: SqliteDataStreamer) -> None:
    """Text with NUL and quotes, blobs, 64-bit integers, exact reals, infinities and NULL arrive as they were stored."""
    texts, blobs = ["a\0b", 'quote " \\ \u2028 \U0001f600', ""], [b"\0\xff", b""]
    values = [*texts, *blobs, 2**63 - 1, -(2**63), 0.1, 5e-324, float("inf"), None]
    streamer.addStorage("any", ["value"], [""])
    for value in values:
        streamer.storeData("any", 1.0, value)
    found: list[object] = []

    def keep(data: list[list[object]], _: object) -> str:
        found.extend(row[1] for row in data)
        return ""

    streamer.stream("any", formatter=keep)
    streamer.stream("any", formatter=keep, name="without NUL", sqlfilter="id > 1")
    streamer.doUpdates(100.0, RecordingMessenger())
    assert values + values[1:] == found
    assert [type(value) for value in values + values[1:]] == [type(value) for value in found]
