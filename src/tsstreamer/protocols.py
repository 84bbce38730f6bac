"""What tsstreamer asks of the objects that users hand to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tsstreamer.model import Message

__all__ = ["FormatFunction", "Messenger"]

FormatFunction = Callable[..., str | bytes]
"""``f(data, userdata)`` or ``f(streamer, data, userdata)``; `data` is a list of rows ``[time, value, …]``."""


class Messenger(Protocol):
    """Anything that carries messages away.

    `send` is called from the thread that runs `doUpdates`, or from one thread for each stream under `startUpdates`:
    messages of one stream come one after the other, in order; those of different streams may come at the same time.
    """

    def send(self, message: Message, /) -> Future[Any] | object:
        """Take the message over.

        Returning means accepted: the stream's position moves past it. Raising means not accepted: the same message
            comes
        again after a back-off. A returned `concurrent.futures.Future` decides when it is done; meanwhile further
        messages may come.
        """
