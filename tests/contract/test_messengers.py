"""The two messengers: documents on a text stream, and a function."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest
import yaml

from tsstreamer import CallMessenger, Message, MessengerError, SqliteDataStreamer, StreamMessenger


def message(data: str | bytes, *, contenttype: int = 5, sequence: int = 7) -> Message:
    """Make a message with that data."""
    return Message(
        dstnodes=frozenset({"n"}),
        dstgroups=frozenset(),
        dstdocks=frozenset({"log"}),
        data=data,
        contenttype=contenttype,
        src="here",
        sequence=sequence,
        timestamp=1.0,
        stream="warnings",
        storage="log",
        dbid="d",
        epoch=1,
        after=0,
        upto=2,
        rows=2,
    )


@pytest.mark.parametrize(
    ("data", "parsed"),
    [
        ("a: 1\n", {"a": 1}),
        ("a: 1", {"a": 1}),
        (b"a: \xc3\xa4\n", {"a": "ä"}),
        ("---\na: 1\n", {"a": 1}),
        ("---\na: 1\n...\n", {"a": 1}),
        ("%YAML 1.1\n---\na: 1\n", {"a": 1}),
        ("{a: 1}", {"a": 1}),
        ("text", "text"),
    ],
)
def test_each_message_is_one_document(data: str | bytes, parsed: object) -> None:
    """However the data begins and ends, reading the stream gives one document for each message."""
    stream = io.StringIO()
    messenger = StreamMessenger(stream)
    for _ in range(3):
        messenger.send(message(data))
    assert [parsed] * 3 == list(yaml.safe_load_all(stream.getvalue()))


def test_a_document_is_marked_at_both_ends() -> None:
    """A reader knows from the last line that the document is complete."""
    stream = io.StringIO()
    StreamMessenger(stream).send(message("a: 1\n"))
    assert "---\na: 1\n...\n" == stream.getvalue()


def test_other_content_is_written_as_it_is() -> None:
    """Data that is not YAML gets nothing but the newline at its end."""
    stream = io.StringIO()
    messenger = StreamMessenger(stream)
    messenger.send(message('{"a":1}', contenttype=9))
    messenger.send(message('{"a":2}\n', contenttype=9))
    assert '{"a":1}\n{"a":2}\n' == stream.getvalue()


def test_each_message_is_flushed() -> None:
    """When `send` returns, the document is out of the stream's buffer."""
    raw = io.BytesIO()
    with io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8") as stream:
        StreamMessenger(stream).send(message("a: ä\n"))
        assert "---\na: ä\n...\n".encode() == raw.getvalue()


class _Full(io.StringIO):
    def flush(self) -> None:
        message = "No space left on device"
        raise OSError(28, message)


def closed_stream() -> io.StringIO:
    """Return a stream that is closed."""
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    ("stream", "data", "reason"),
    [
        (closed_stream(), "a: 1\n", "closed file"),
        (_Full(), "a: 1\n", "No space left"),
        (io.StringIO(), b"\xff", "utf-8"),
        (io.TextIOWrapper(io.BytesIO(), encoding="ascii"), "ä", "ascii"),
    ],
)
def test_what_cannot_be_written_is_not_accepted(stream: Any, data: str | bytes, reason: str) -> None:
    """A closed, full or narrow stream, and bytes that are no text, raise a MessengerError that names the message."""
    with pytest.raises(MessengerError, match=f"message 7 of stream 'warnings' could not be written: .*{reason}"):
        StreamMessenger(stream).send(message(data))


@pytest.mark.parametrize("stream", [io.BytesIO(), object(), None])
def test_only_text_streams_are_taken(stream: Any) -> None:
    """A binary stream, or what is no stream, is a TypeError at once, not at the first message."""
    with pytest.raises(TypeError, match="needs a text stream"):
        StreamMessenger(stream)


class _Slow(io.StringIO):
    """Takes its text in two halves, with room for another thread in between."""

    def write(self, text: str, /) -> int:
        half = len(text) // 2
        super().write(text[:half])
        time.sleep(0.0002)
        super().write(text[half:])
        return len(text)


def test_documents_of_several_threads_do_not_mix() -> None:
    """Messages sent at the same time come out one after the other, each thread's in order."""
    stream = _Slow()
    messenger = StreamMessenger(stream)

    def work(name: str) -> None:
        for number in range(40):
            messenger.send(message(f"{{who: {name}, number: {number}}}\n"))

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    documents = list(yaml.safe_load_all(stream.getvalue()))
    for n in range(4):
        assert list(range(40)) == [found["number"] for found in documents if found["who"] == f"t{n}"]


def test_a_streamer_sends_its_rows_through_it() -> None:
    """What a streamer sends through a text stream are its rows, as YAML."""
    stream = io.StringIO()
    with SqliteDataStreamer(":memory:", nodename="node") as streamer:
        streamer.addStorage("k", ["text"], ["VARCHAR"])
        streamer.stream("k", ["n"], [], ["log"], 1.0)
        rows: list[list[object]] = [[1.5, "a: b"], [2.0, None], [3.0, "...\n---\n"]]
        for moment, text in rows:
            streamer.storeData("k", float(str(moment)), text)
        streamer.doUpdates(0.0, StreamMessenger(stream))
    assert [{"node": {"index": ["time", "text"], "data": rows}}] == list(yaml.safe_load_all(stream.getvalue()))


def test_a_call_messenger_gives_the_message_and_returns_the_answer() -> None:
    """The function gets the message itself; what it returns or raises is what the streamer sees."""
    one, future = message("a: 1\n"), Future[None]()
    seen: list[Message] = []

    def take(given: Message) -> object:
        seen.append(given)
        return future

    assert CallMessenger(take).send(one) is future
    assert [one] == seen

    def refuse(given: Message) -> object:
        raise LookupError(given.sequence)

    with pytest.raises(LookupError, match="7"):
        CallMessenger(refuse).send(one)


def test_a_future_from_the_function_decides() -> None:
    """A streamer that sends through a function moves on when the future that it returned is done."""
    futures: list[Future[None]] = []

    def send(_: Message) -> Future[None]:
        futures.append(Future())
        return futures[-1]

    with SqliteDataStreamer(":memory:") as streamer:
        streamer.addStorage("k", ["v"], ["INTEGER"])
        streamer.stream("k", ["n"], [], ["log"], 1.0)
        streamer.storeData("k", 1.0, 1)
        streamer.doUpdates(0.0, CallMessenger(send))
        assert 0 == streamer.stats().streams["k"].sentMessages
        futures[0].set_result(None)
        streamer.doUpdates(2.0, CallMessenger(send))
        assert 1 == streamer.stats().streams["k"].sentMessages


@pytest.mark.parametrize("function", [None, "print", 1])
def test_only_what_can_be_called_is_taken(function: Any) -> None:
    """Something that cannot be called is a TypeError with the value in its text."""
    with pytest.raises(TypeError, match=f"got {function!r}"):
        CallMessenger(function)
