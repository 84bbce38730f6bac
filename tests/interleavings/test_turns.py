"""Producers that wait for room: who is let in when, with every thread held where it matters."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import wait_until
from tsstreamer import BufferFullError, StreamerClosedError
from tsstreamer import _options as options
from tsstreamer._backlog import Backlog
from tsstreamer._sql import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0
BOUND = 4


class Full:
    """A full backlog without a writer, and producers of one row each that wait for room, in the order of their rows."""

    def __init__(self, producers: int, block_timeout: float = PATIENCE) -> None:
        table = Table.checked("log", ["n"], ["INTEGER"])
        self.backlog = Backlog(table, lambda: None, BOUND, "block", block_timeout)
        for n in range(BOUND):
            self.backlog.store(0.0, (n,))
        self.refused: list[int] = []
        self.threads: list[threading.Thread] = []
        for n in range(BOUND, BOUND + producers):
            self.start(n)
            wait_until(lambda: self.waiting() == len(self.threads))

    def start(self, n: int) -> None:
        self.threads.append(threading.Thread(target=self._store, args=(n,), daemon=True))
        self.threads[-1].start()

    def _store(self, n: int) -> None:
        try:
            self.backlog.store(0.0, (n,))
        except (BufferFullError, StreamerClosedError):
            self.refused.append(n)

    def waiting(self) -> int:
        return len(self.backlog._gates)

    def stored(self) -> int:
        return self.backlog.queue.qsize()

    def drain(self, rows: int) -> list[Any]:
        return [row[1] for row in self.backlog.drain(rows)]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Full]:
    """Give four producers that wait."""
    monkeypatch.setattr(options, "TURN_SECONDS", 1000.0)
    made = Full(4)
    yield made
    made.backlog.sleep()
    for _ in made.threads:
        made.drain(BOUND)
    for thread in made.threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_drain_lets_one_in_where_one_fills_the_room(full: Full) -> None:
    """After each drain of a full backlog the one that waits longest has its turn, and no other wakes."""
    assert [0] == full.drain(1)
    wait_until(lambda: full.stored() == BOUND)
    assert 3 == full.waiting()
    assert [1] == full.drain(1)
    wait_until(lambda: full.stored() == BOUND)
    assert 2 == full.waiting()
    assert [2, 3, 4, 5] == full.drain(BOUND)  # in turn


def test_room_that_was_not_filled_lets_all_in(full: Full) -> None:
    """Nobody waits beside a backlog that those let in before do not fill."""
    full.drain(BOUND - 1)
    wait_until(lambda: full.stored() == 2)
    assert 3 == full.waiting()
    full.drain(0)
    wait_until(lambda: full.stored() == BOUND)
    assert 1 == full.waiting()


@pytest.mark.parametrize("pause", ["sleep", "gather", "let_in"])
def test_a_writer_that_pauses_lets_all_in(full: Full, pause: str) -> None:
    """Nobody else would wake them: the last drain let in one only, which may store one row and no more."""
    full.drain(BOUND)
    wait_until(lambda: full.stored() == 1)
    getattr(full.backlog, pause)()
    wait_until(lambda: full.stored() == BOUND)
    assert 0 == full.waiting()


def test_who_waits_long_looks_for_room_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow disk a turn takes long: whoever waits half a second goes in where there is room."""
    monkeypatch.setattr(options, "TURN_SECONDS", 0.01)
    full = Full(3)
    full.drain(BOUND)
    wait_until(lambda: full.stored() == 3)
    assert 0 == full.waiting()


def test_who_found_no_room_waits_in_front(full: Full) -> None:
    """Of those that were let in for too little room, the one that came too late is the next, before a newcomer."""
    full.drain(BOUND - 1)
    wait_until(lambda: full.stored() == 2)
    full.backlog.store(0.0, (-1,))
    full.drain(0)  # three for one room
    wait_until(lambda: full.stored() == BOUND and full.waiting() == 2)
    full.start(100)
    wait_until(lambda: full.waiting() == 3)
    for waiting in (2, 1):
        full.drain(1)
        wait_until(lambda: full.stored() == BOUND and full.waiting() == waiting)  # noqa: B023  (called at once)
    assert 100 not in full.drain(BOUND)


def test_who_gives_up_takes_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer whose time is over leaves nothing behind that a drain would let in instead of another."""
    monkeypatch.setattr(options, "TURN_SECONDS", 1000.0)
    full = Full(0, block_timeout=0.01)
    with pytest.raises(BufferFullError):
        full.backlog.store(0.0, (9,))
    assert 0 == full.waiting()


def test_room_at_the_last_moment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was never let in goes in at its deadline, where there is room."""
    monkeypatch.setattr(options, "TURN_SECONDS", 1000.0)
    full = Full(1, block_timeout=0.5)
    full.backlog._pop(1)  # room that nobody told it of
    wait_until(lambda: full.stored() == BOUND)
    assert [] == full.refused


def test_closing_lets_all_go(full: Full) -> None:
    """Every producer that waits learns of the close at once."""
    full.backlog.refuse(lambda: StreamerClosedError("closed"))
    wait_until(lambda: sorted(full.refused) == [4, 5, 6, 7])
