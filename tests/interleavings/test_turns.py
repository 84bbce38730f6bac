"""Producers that wait for room: who is let in when, with every thread held where it matters."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import wait_until
from tsstreamer import StreamerClosedError
from tsstreamer import _options as options
from tsstreamer._backlog import Backlog
from tsstreamer._sql import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0
BOUND = 4


class Full:
    """A full backlog without a writer, and producers of one row each that wait for room, in the order of their rows."""

    def __init__(self, producers: int) -> None:
        table = Table.checked("log", ["n"], ["INTEGER"])
        self.backlog = Backlog(table, lambda: None, BOUND, "block", PATIENCE)
        for n in range(BOUND):
            self.backlog.store(0.0, (n,))
        self.refused: list[int] = []
        self.threads = []
        for n in range(BOUND, BOUND + producers):
            self.threads.append(threading.Thread(target=self._store, args=(n,), daemon=True))
            self.threads[-1].start()
            wait_until(lambda: self.waiting() == len(self.threads))

    def _store(self, n: int) -> None:
        try:
            self.backlog.store(0.0, (n,))
        except StreamerClosedError:
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


def test_room_that_is_left_lets_twice_as_many_in(full: Full) -> None:
    """Where one did not fill the room, the next drain lets two in, and so on: nobody waits beside an empty backlog."""
    full.drain(3)
    wait_until(lambda: full.stored() == 2)
    assert 3 == full.waiting()
    full.drain(0)
    wait_until(lambda: full.stored() == BOUND)
    assert 1 == full.waiting()


def test_a_writer_that_goes_to_sleep_lets_all_in(full: Full) -> None:
    """Nobody else would wake them: the last drain let in one only."""
    full.drain(BOUND)
    wait_until(lambda: full.stored() == 1)
    full.backlog.sleep()
    wait_until(lambda: full.stored() == BOUND)
    assert 0 == full.waiting()


def test_who_waits_long_does_not_wait_for_its_turn(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow disk a turn takes long: then all are let in, and the room decides."""
    monkeypatch.setattr(options, "TURN_SECONDS", 0.0)
    full.drain(BOUND - 1)
    wait_until(lambda: full.stored() == BOUND)
    wait_until(lambda: full.waiting() == 1)  # it found no room, and waits in front


def test_who_found_no_room_waits_in_front(full: Full) -> None:
    """Of two that were let in for one room, the one that came too late is the next, before those behind it."""
    full.drain(BOUND - 1)
    wait_until(lambda: full.stored() == 2)
    full.backlog.store(0.0, (-1,))
    full.drain(0)  # two turns, one room
    wait_until(lambda: full.stored() == BOUND and full.waiting() == 2)
    full.drain(1)
    wait_until(lambda: full.stored() == BOUND and full.waiting() == 1)
    assert {5, 6} == set(full.drain(BOUND)[-2:])


def test_closing_lets_all_go(full: Full) -> None:
    """Every producer that waits learns of the close at once."""
    full.backlog.refuse(lambda: StreamerClosedError("closed"))
    wait_until(lambda: sorted(full.refused) == [4, 5, 6, 7])
