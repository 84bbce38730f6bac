"""The signals that end a command, as something to wait for instead of an exception anywhere.

Nothing is interrupted: a row that was read is stored, a total that was begun is printed. Only who insists, with another
signal a second later, ends the program at once, as if it had no handler.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType

_INSIST_SECONDS = 1.0
"""Sooner signals than this are the first once more: some launchers pass on what the terminal also sends."""


class EndSignals:
    """Catches SIGINT, SIGTERM and SIGHUP inside its ``with`` block, which must be in the main thread.

    Ready for `select.select` once one has come.

    Attributes:
        number: The first signal that came, 0 before.
        since: When it came, by `time.monotonic`.
    """

    def __init__(self) -> None:
        self.number = 0
        self.since = 0.0

    def __enter__(self) -> Self:
        self._wakes, self._wakened = os.pipe()
        os.set_blocking(self._wakened, False)
        self._wakeup_fd = signal.set_wakeup_fd(self._wakened, warn_on_full_buffer=False)
        self._handlers = {
            number: signal.signal(number, self._catch)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN  # nohup, or a shell's background job: stay deaf
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_fd)
        os.close(self._wakes)
        os.close(self._wakened)

    def fileno(self) -> int:
        """Return what to wait for: it can be read once a signal has come, and ever after."""
        return self._wakes

    def wait(self, seconds: float) -> bool:
        """Wait until a signal has come, at most `seconds`; return whether one has."""
        return bool(select.select([self], [], [], max(0.0, seconds))[0])

    def status(self) -> int:
        """Return the exit status of a program that was ended so: 128 + the signal, 0 without one."""
        return 128 + self.number if self.number else 0

    def _catch(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if not self.number:
            self.number, self.since = number, now
        elif now > self.since + _INSIST_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
