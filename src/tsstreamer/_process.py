"""What must happen to every streamer when the process forks or ends: one hook for the module over a WeakSet.

Before a fork the locks around SQLite are taken, so that no other thread is inside it: SQLite's own mutexes would be
copied locked, and the child would hang at its first connection. In the child every inherited streamer is made inert,
and its connections are kept for ever: they must be neither used nor closed there
(https://sqlite.org/howtocorrupt.html, section 2.6).
"""

from __future__ import annotations

import atexit
import os
import threading
import traceback
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from tsstreamer._database import Database

__all__ = ["keep", "register"]


class _Member(Protocol):
    _database: Database

    def _forked(self) -> None: ...

    def _exiting(self, *, last: bool) -> None: ...


_members: WeakSet[_Member] = WeakSet()
_held: list[threading.Lock] = []
_leaked: list[object] = []
_opening = threading.Lock()
"""Held while a streamer is made: its first connections are inside SQLite too."""


def register(member: Callable[[], _Member]) -> _Member:
    """Make a streamer with no fork in between, and look after it until it is collected."""
    with _opening:
        made = member()
        _members.add(made)
        return made


def keep(thing: object) -> None:
    """Never let go of something that must not be finalised."""
    _leaked.append(thing)


def _before_fork() -> None:
    _opening.acquire()
    databases = [member._database for member in list(_members)]  # noqa: SLF001
    locks = {id(lock): lock for database in databases for lock in (database.lock, database.read_lock)}
    for _, lock in sorted(locks.items()):  # one order for all, so that two forking threads cannot wait for each other
        lock.acquire()
        _held.append(lock)


def _after_fork() -> None:
    while _held:
        _held.pop().release()
    _opening.release()


def _after_fork_in_child() -> None:
    members = list(_members)
    _members.clear()
    for member in members:
        _leaked.append(member._database.leak())  # noqa: SLF001
        member._forked()  # noqa: SLF001
    _after_fork()


def _at_exit(*, last: bool) -> None:
    for member in list(_members):
        try:
            member._exiting(last=last)  # noqa: SLF001
        except Exception:  # noqa: BLE001  (the others must have their turn)
            traceback.print_exc()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
# atexit runs when all non-daemon threads have ended, so it sees their last rows: that is the place to close.
atexit.register(_at_exit, last=True)
# Children of multiprocessing skip atexit on Python 3.11, but not this one. It runs before threads are joined: flush
# only.
_register_early = getattr(threading, "_register_atexit", None)
if _register_early is not None:
    _register_early(lambda: _at_exit(last=False))
