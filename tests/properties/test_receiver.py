"""A model of a sender and of all that may go wrong on the way: what `Receiver` lets through is what was committed.

The sender keeps a journal of its transactions. A kill keeps all of it; a power loss keeps a prefix that holds at least
what was synced, and ids of rows that are lost are used again. Positions and the boundaries of messages in flight are in
the same journal.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tsstreamer.receiver import Receiver, Verdict

if TYPE_CHECKING:
    from tsstreamer._verdict import Identity

WINDOW = 4


@dataclass(frozen=True, slots=True)
class Sent:
    """A message; `keys` are its rows, which nothing but the message itself gives."""

    epoch: int
    after: int
    upto: int
    keys: tuple[int, ...]
    src: str = "node"
    dbid: str = "db"
    stream: str = "log"

    @property
    def rows(self) -> int:
        return len(self.keys)


@dataclass(slots=True)
class Sender:
    """The rows, the position and the messages in flight, as the journal gives them."""

    journal: list[tuple[object, ...]] = field(default_factory=list)
    synced: int = 0
    epoch: int = 1
    rows: list[tuple[int, int, bool]] = field(default_factory=list)
    """Key, epoch, whether it passes the filter; the id is the index + 1."""
    position: int = 0
    window: list[Sent] = field(default_factory=list)

    def commit(self, *operation: object) -> None:
        """Commit one transaction."""
        self.journal.append(operation)
        self._apply(operation)

    def _apply(self, operation: tuple[object, ...]) -> None:
        match operation:
            case ("rows", list(rows)):
                self.rows += rows
            case ("stream", int(position), tuple(window)):
                self.position, self.window = position, list(window)

    def unclean_start(self, kept: int) -> None:
        """Start with the first `kept` transactions, in a new epoch; that is synced, with all before it."""
        del self.journal[kept:]
        self.rows, self.position, self.window = [], 0, []
        for operation in self.journal:
            self._apply(operation)
        self.epoch += 1
        self.synced = len(self.journal)

    def build(self, size: int, stretch: int) -> Sent | None:
        """Make the next message: at most `size` rows, all of one epoch, and up to `stretch` ids more without a row."""
        after = self.window[-1].upto if self.window else self.position
        found: list[tuple[int, int, int]] = []
        for number, (key, epoch, passes) in enumerate(self.rows[after:], after + 1):
            if passes and (len(found) == size or (found and found[0][2] != epoch)):
                break
            if passes:
                found.append((number, key, epoch))
        if not found:
            return None
        upto = found[-1][0]
        while stretch and upto < len(self.rows) and not self.rows[upto][2] and self.rows[upto][1] == found[0][2]:
            upto, stretch = upto + 1, stretch - 1
        return Sent(found[0][2], after, upto, tuple(key for _, key, _ in found))


OUTCOMES = st.sampled_from(["fine", "fine", "fine", "unheard", "refused", "lost"])
BATCHES = st.tuples(st.integers(1, 6), st.integers(0, 3))


class Delivery(RuleBasedStateMachine):
    """Any schedule of commits, sends, losses and restarts."""

    receiver_class = Receiver

    def __init__(self) -> None:
        super().__init__()
        self.sender = Sender()
        self.keys = 0
        self.sparse = False
        self.cut_anew = False
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute("CREATE TABLE received (key)")
        self.receiver = self.receiver_class(self.connection)
        self.in_memory = self.receiver_class()
        self.doubles = 0
        self.ordered = True
        self.seen: list[Sent] = []

    @initialize(sparse=st.booleans())
    def begin(self, sparse: bool) -> None:
        self.sparse = sparse

    @rule(passes=st.lists(st.booleans(), min_size=1, max_size=12))
    def store(self, passes: list[bool]) -> None:
        rows = []
        for one in passes:
            self.keys += 1
            rows.append((self.keys, self.sender.epoch, one or not self.sparse))
        self.sender.commit("rows", rows)

    @rule(
        batches=st.lists(BATCHES, min_size=1, max_size=WINDOW),
        outcomes=st.lists(OUTCOMES, min_size=WINDOW, max_size=WINDOW),
    )
    def send(self, batches: list[tuple[int, int]], outcomes: list[str]) -> None:
        sender = self.sender
        for size, stretch in batches:
            if len(sender.window) < WINDOW and (message := sender.build(size, stretch)):
                sender.window.append(message)
        # The boundaries are committed before the messages leave, the position after they were accepted.
        sender.commit("stream", sender.position, tuple(sender.window))
        accepted = [self.deliver(message, outcome) for message, outcome in zip(sender.window, outcomes, strict=False)]
        while accepted and accepted.pop(0):
            sender.position = sender.window.pop(0).upto
        sender.commit("stream", sender.position, tuple(sender.window))

    @rule(batch=BATCHES, heard=st.booleans())
    def send_one(self, batch: tuple[int, int], heard: bool) -> None:
        self.send([batch], ["fine" if heard else "unheard"])

    @rule()
    def sync(self) -> None:
        self.sender.synced = len(self.sender.journal)

    @rule()
    def kill(self) -> None:
        self.sender.unclean_start(len(self.sender.journal))

    @rule(data=st.data())
    def lose_power(self, data: st.DataObject) -> None:
        self.cut_anew = True
        kept = data.draw(st.integers(self.sender.synced, len(self.sender.journal)), "transactions kept")
        self.sender.unclean_start(kept)

    @rule()
    def start_again(self) -> None:
        """Stop the stream, and start it again from the first row."""
        self.cut_anew = True
        self.sender.commit("stream", 0, ())

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def repeat_late(self, data: st.DataObject) -> None:
        """Deliver a copy of an old message that the network had kept."""
        self.deliver(data.draw(st.sampled_from(self.seen), "message"), "unheard")

    def deliver(self, message: Sent, outcome: str) -> bool:
        """Hand a message to the receivers; True if the sender hears that it was accepted."""
        if outcome == "lost":
            self.ordered = False
            return False
        try:
            with self.connection:
                verdict = self.receiver.take(message)
                assert verdict == self.in_memory.check(message)
                self.judge(message, verdict)
                rows = [(key,) for key in message.keys[verdict.skip :]]
                self.connection.executemany("INSERT INTO received VALUES (?)", rows)
                if outcome == "refused":
                    self.connection.execute("SELECT no_such_column")
        except sqlite3.OperationalError:
            self.ordered = False
            return False
        self.in_memory.take(message)
        self.doubles += 0 if verdict.exact else message.rows
        self.seen.append(message)
        return outcome == "fine"

    def judge(self, message: Sent, verdict: Verdict) -> None:
        """Compare a verdict with what was taken: no row is skipped wrongly, and none doubled by an exact verdict."""
        before = self.received()
        assert set(message.keys[: verdict.skip]) <= set(before)
        if verdict.exact:
            assert set() == set(message.keys[verdict.skip :]) & set(before)
        if self.ordered:
            assert verdict.missed is None
        if not self.cut_anew:
            assert verdict.exact
            assert not (self.ordered and verdict.late)

    def received(self) -> list[int]:
        return [key for (key,) in self.connection.execute("SELECT key FROM received ORDER BY rowid")]

    @invariant()
    def doubles_are_announced(self) -> None:
        received = self.received()
        assert len(received) - len(set(received)) <= self.doubles
        if self.ordered and not self.doubles:
            assert sorted(received) == received

    def teardown(self) -> None:
        """Deliver what is left: then every row that survived was received, and nothing else but rows that vanished."""
        try:
            while self.sender.window or self.sender.build(5, 0):
                self.send([(5, 0)] * WINDOW, ["fine"] * WINDOW)
            received = self.received()
            surviving = {key for key, _, passes in self.sender.rows if passes}
            assert set() == surviving - set(received)
            self.doubles_are_announced()
        finally:
            self.connection.close()


def test_received_is_committed_once_and_in_order() -> None:
    """Each row that survives is received, once unless a verdict said otherwise, in order if no message was lost."""
    run_state_machine_as_test(Delivery, settings=settings(stateful_step_count=40))


@given(batches=st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=20))
def test_a_position_moved_before_sending_loses_rows_and_the_alarm_rings(batches: list[tuple[int, bool]]) -> None:
    """The control: a sender that does not wait for the acceptance loses rows, and the gaps name exactly their ids."""
    receiver = Receiver()
    position, lost, missed = 0, set(), set()
    receiver.take(Sent(1, 0, 1, (1,)))
    position = 1
    for size, arrives in [*batches, (1, True)]:
        message = Sent(1, position, position + size, tuple(range(position + 1, position + size + 1)))
        position = message.upto
        if arrives:
            verdict = receiver.take(message)
            assert ("gap" if verdict.missed else "new", 0) == (verdict.kind, verdict.skip)
            if verdict.missed:
                missed |= set(range(verdict.missed[0], verdict.missed[1] + 1))
        else:
            lost |= set(message.keys)
    assert lost == missed


def first_epoch(message: Identity) -> Identity:
    """Take the epoch off a message."""
    assert isinstance(message, Sent)
    return replace(message, epoch=1)


class NoEpochs(Receiver):
    """A broken receiver, for which an id means the same row for ever."""

    def take(self, message: Identity) -> Verdict:
        return super().take(first_epoch(message))

    def check(self, message: Identity) -> Verdict:
        return super().check(first_epoch(message))


class NoSkips(Receiver):
    """A broken receiver, which takes what it gets."""

    def take(self, message: Identity) -> Verdict:
        return replace(super().take(message), skip=0)

    def check(self, message: Identity) -> Verdict:
        return replace(super().check(message), skip=0)


def repeat_and_lose(receiver_class: type[Receiver]) -> None:
    """Run one schedule of the model: a repeat, then a power loss after which all ids are used again."""
    machine = type("Fixed", (Delivery,), {"receiver_class": receiver_class})()
    with closing(machine.connection):
        machine.store([True] * 3)
        machine.send_one((3, 0), heard=False)
        machine.send_one((3, 0), heard=True)
        machine.sender.unclean_start(0)
        machine.store([True] * 3)
        machine.teardown()


@pytest.mark.parametrize("broken", [NoEpochs, NoSkips])
def test_the_model_finds_a_broken_receiver(broken: type[Receiver]) -> None:
    """The control of the model: without epochs, or without the skip, a schedule that `Receiver` stands fails."""
    repeat_and_lose(Receiver)
    with pytest.raises(AssertionError):
        repeat_and_lose(broken)
