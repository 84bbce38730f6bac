"""Runs streams by themselves: one thread for each stream, so that one whose messenger hangs delays no other.

A thread sleeps until its stream is due or a future is done. It is a daemon: a `send` that never returns must not keep
the interpreter from ending; what it would have sent is still in the database.
"""

from __future__ import annotations

import threading
import time
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tsstreamer._sender import Sender
    from tsstreamer.protocols import Messenger

__all__ = ["Runner"]


class Runner:
    """The thread of one stream."""

    def __init__(self, sender: Sender, messenger: Messenger, before: Callable[[], object]) -> None:
        """Start the thread; `before` is called ahead of each pass."""
        self._sender = sender
        self._messenger = messenger
        self._before = before
        self._wake = threading.Event()
        self._end_at: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"tsstreamer-stream-{sender.spec.name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sender = self._sender
        with sender.lock:  # a `doUpdates` that is still sending would leave its own clock behind
            sender.rewind()
            sender.wake = self._wake.set
        self._loop()
        with sender.lock:
            sender.rewind()

    def _loop(self) -> None:
        sender = self._sender
        while not sender.stopped.is_set():
            ending = self._end_at is not None
            self._wake.clear()
            now = monotonic()
            with sender.lock:
                if sender.due(now) or ending:
                    self._before()
                    sender.step(now, self._messenger, time.time(), last=ending)
                due = sender.next_due()
            if self._end_at is None:
                self._wake.wait(min(max(0.0, due - monotonic()), threading.TIMEOUT_MAX))
            elif ending and (not sender.unfinished() or monotonic() >= self._end_at):
                return
            elif ending and due > now and not self._wake.wait(max(0.0, self._end_at - monotonic())):
                return  # futures were outstanding, and the time is up

    def end(self, deadline: float) -> None:
        """Ask for a last pass that sends what is left, to be over by `deadline` (monotonic)."""
        self._end_at = min(deadline, monotonic() + threading.TIMEOUT_MAX / 2)
        self._wake.set()

    def is_current(self) -> bool:
        """Say whether the caller runs in this thread."""
        return self._thread is threading.current_thread()

    def join(self, deadline: float) -> bool:
        """Wait for the end until `deadline` (monotonic); False if the thread still runs, or is the caller's own."""
        if self.is_current():
            return False
        self._thread.join(max(0.0, min(deadline - monotonic(), threading.TIMEOUT_MAX)))
        return not self._thread.is_alive()
