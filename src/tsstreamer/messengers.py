"""Two small messengers: one writes to a text stream, one hands messages to a function."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, TextIO

from tsstreamer.errors import MessengerError
from tsstreamer.model import CONTENTTYPE_YAML

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

    from tsstreamer.model import Message

__all__ = ["CallMessenger", "StreamMessenger"]


class StreamMessenger:
    """Writes the data of each message to a text stream and flushes it.

    YAML becomes a document of its own, between ``---`` and ``...``: ``yaml.safe_load_all`` reads the whole stream, and
    a reader at the end of a pipe knows at once that a document is complete. Other data is written as it is, with a
    newline at its end if it has none. Only the data is written; a receiver that has to drop repeats needs the whole
    message.

    Any thread may call `send`; documents of several streams come one after the other. The stream stays open: it belongs
    to the caller.

    Args:
        stream: Where to write, open for text, such as `sys.stdout`.

    Raises:
        TypeError: `stream` is a binary stream, or cannot be written to.
    """

    def __init__(self, stream: TextIO) -> None:
        if isinstance(stream, (io.RawIOBase, io.BufferedIOBase)) or not callable(getattr(stream, "write", None)):
            msg = f"StreamMessenger needs a text stream, such as sys.stdout or open(path, 'a'), got {stream!r}"
            raise TypeError(msg)
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, message: Message, /) -> None:
        """Write the message's data; it was accepted when this returns.

        Raises:
            MessengerError: The stream is closed, refused the text or could not be flushed, or the data is bytes that
                are not UTF-8.
        """
        try:
            text = message.data if isinstance(message.data, str) else message.data.decode("utf-8")
            if not text.endswith("\n"):
                text += "\n"
            if message.contenttype == CONTENTTYPE_YAML:
                # A document that starts itself, or has directives before its start, must not be started twice.
                start = "" if text.startswith(("---", "%")) else "---\n"
                text = f"{start}{text}...\n"
            with self._lock:
                self._stream.write(text)
                self._stream.flush()
        except (OSError, ValueError) as error:
            msg = f"message {message.sequence} of stream {message.stream!r} could not be written: {error}"
            raise MessengerError(msg) from error


class CallMessenger:
    """Hands each message to a function.

    What the function returns is what the streamer sees: a `concurrent.futures.Future` is waited for, anything else
    means accepted, an exception means not accepted. It may be called from several threads at once, one for each stream.

    Args:
        function: Called with the message.

    Raises:
        TypeError: `function` cannot be called.
    """

    def __init__(self, function: Callable[[Message], Future[Any] | object]) -> None:
        if not callable(function):
            msg = f"CallMessenger needs a function that takes the message, got {function!r}"
            raise TypeError(msg)
        self._function = function

    def send(self, message: Message, /) -> Future[Any] | object:
        """Return what the function returns for the message."""
        return self._function(message)
