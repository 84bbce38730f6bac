"""For the tests of programs that use tsstreamer: a messenger that records, and a clock that moves when told to."""

from __future__ import annotations

import math
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from tsstreamer.errors import MessengerError

if TYPE_CHECKING:
    from tsstreamer.model import Message

__all__ = ["ManualClock", "RecordingMessenger"]


class RecordingMessenger:
    """A messenger that keeps what it gets, fails when told to, and can leave its answer to the test.

    Any thread may call any method.

    Args:
        futures: Return a `concurrent.futures.Future` for each message; the test gives the answers, through `futures`.
    """

    def __init__(self, *, futures: bool = False) -> None:
        self._changed = threading.Condition()
        self._futures_wanted = futures
        self._faults: deque[BaseException] = deque()
        self._messages: list[Message] = []
        self._futures: list[Future[Any]] = []
        self._refused: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """The messages for which `send` returned, in order; a copy."""
        with self._changed:
            return list(self._messages)

    @property
    def refused(self) -> list[Message]:
        """The messages for which `send` raised, in order; a copy."""
        with self._changed:
            return list(self._refused)

    @property
    def futures(self) -> list[Future[Any]]:
        """The futures of `messages`, with ``futures=True``: end them by ``set_result`` or ``set_exception``; a copy."""
        with self._changed:
            return list(self._futures)

    def failNext(self, count: int = 1, error: BaseException | None = None) -> None:
        """Let the next `count` calls of `send` raise `error`, a `MessengerError` unless given."""
        with self._changed:
            self._faults.extend([error or MessengerError("told to fail")] * count)

    def send(self, message: Message, /) -> Future[Any] | None:
        """Record the message, or raise what `failNext` ordered."""
        with self._changed:
            self._changed.notify_all()
            if self._faults:
                self._refused.append(message)
                raise self._faults.popleft()
            self._messages.append(message)
            if not self._futures_wanted:
                return None
            self._futures.append(Future())
            return self._futures[-1]

    def waitFor(self, count: int, timeout: float = 10.0) -> list[Message]:
        """Wait until `count` messages were recorded, at most `timeout` seconds, and return those recorded by then.

        Raises:
            AssertionError: There were fewer when the time was up; the text says how many.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._messages) >= count, timeout):
                msg = f"waited {timeout} s for {count} messages, got {len(self._messages)}"
                raise AssertionError(msg)
            return list(self._messages)


class ManualClock:
    """A clock for ``doUpdates(clock(), messenger)``: it stands still until it is moved.

    Args:
        now: What it shows at first, in seconds since 1970.
    """

    def __init__(self, now: float = 1_000_000_000.0) -> None:
        self.set(now)

    def __call__(self) -> float:
        """Return the time, in seconds since 1970."""
        return self._now

    def set(self, now: float) -> None:
        """Show `now` from here on, which may be earlier than before: wall clocks are set back, too.

        Raises:
            ValueError: `now` is not a finite number.
        """
        if not math.isfinite(now):
            msg = f"the time must be a finite number of seconds since 1970, got {now!r}"
            raise ValueError(msg)
        self._now = float(now)

    def advance(self, seconds: float) -> float:
        """Move on by `seconds`, backwards if negative, and return the new time."""
        self.set(self._now + seconds)
        return self._now
