"""What a message means to a receiver that has taken others before: a pure function from state to verdict and state.

It relies on two rules of the sender: a message of one stream starts (`after`) where an accepted one ended (`upto`), and
all its rows were inserted in its `epoch`. Ids of an epoch that a power loss took back are used again, for other rows,
in a later epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

__all__ = ["Hole", "Identity", "State", "Verdict", "judge"]

_MAX_BOUNDARIES = 256
"""Ends of messages remembered for each stream: more than a window in flight holds, and a few KB of state at most."""

_MAX_HOLES = 64
"""Ranges of missing ids remembered for each stream; late rows for one that was forgotten are repeats."""

Hole = tuple[int, int, int]
"""``(after, upto, epoch)``: rows of `epoch` and later epochs with ``after < id <= upto`` were not taken."""


class Identity(Protocol):
    """The part of a message that a receiver looks at; `tsstreamer.model.Message` explains each attribute."""

    @property
    def src(self) -> str: ...
    @property
    def dbid(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def stream(self) -> str: ...
    @property
    def after(self) -> int: ...
    @property
    def upto(self) -> int: ...
    @property
    def rows(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a message is to its receiver; storing ``rows[verdict.skip:]`` is right in every case.

    Attributes:
        kind: ``new``; ``repeat``, every row was taken before; ``overlap``, the first `skip` rows were taken before;
            ``gap``, new as well, but rows before it are missing.
        skip: Number of leading rows to leave out: 0 for ``new`` and ``gap``, all of them for ``repeat``.
        missed: First and last id of the range before this message that never came. With ``gap`` it is an alarm. With
            ``new`` it comes with `newDatabase`: this receiver joined late, or the stream began there (``since=``).
        late: These rows fill a range that was missing: they come after rows with greater ids.
        newEpoch: The sender's database was not closed cleanly since the last message. Rows taken before with ids
            greater than this message's `after` may be gone at the sender.
        newDatabase: The first message of this stream in this database: a new sender, or its file is new.
        exact: False when part of the message was taken before and how much cannot be computed: `skip` is then the
            smallest number possible, so that nothing is lost, and rows behind it may be doubles.
    """

    kind: Literal["new", "repeat", "overlap", "gap"]
    skip: int = 0
    missed: tuple[int, int] | None = None
    late: bool = False
    newEpoch: bool = False
    newDatabase: bool = False
    exact: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one stream of one database.

    Taken are the ids up to `last`, without those in `holes`. `counts` maps ends of messages, all <= `last`, to the
    number of rows from some origin up to there: only the difference between two ends that are both in it has a meaning.
    """

    epoch: int = -1
    last: int = 0
    holes: tuple[Hole, ...] = ()
    counts: dict[int, int] = field(default_factory=dict)


def judge(known: State | None, message: Identity) -> tuple[Verdict, State]:
    """Compare `message` with what is `known` (None: nothing); return the verdict, and the state once it is taken."""
    before = known or State()
    state = _entered(before, message)
    last, counts = state.last, state.counts
    # Everything of an older epoch was taken, or found missing, before the newer one was entered.
    current = message.epoch == state.epoch
    tail = [(max(last, message.after), message.upto)] if current and message.upto > last else []
    filled = [
        (max(after, message.after), min(upto, message.upto))
        for after, upto, epoch in state.holes
        if epoch <= message.epoch and after < message.upto and upto > message.after
    ]
    gap = current and message.after > last
    verdict = Verdict(
        kind="gap" if gap and known else "new",
        missed=(last + 1, message.after) if gap else None,
        late=bool(filled),
        newEpoch=known is not None and message.epoch > known.epoch,
        newDatabase=known is None,
    )
    consistent = not filled and _consistent(counts, message)

    if not filled and not tail:
        verdict = replace(verdict, kind="repeat", skip=message.rows)
        if not current:
            return verdict, before
    elif (message.after, message.upto) not in filled + tail:
        start = min(after for after, _ in filled + tail)
        # Ids are unique: no more rows can be new, and no more old, than there are ids.
        least, most = max(0, message.rows - (message.upto - start)), min(message.rows, start - message.after)
        skip = counts[last] - counts[message.after] if consistent else least
        verdict = replace(verdict, kind="overlap", skip=skip, exact=consistent or (not filled and least == most))

    end = max(last, message.upto) if current else last
    if consistent:
        counts = {**counts, message.upto: counts[message.after] + message.rows}
        if len(counts) > _MAX_BOUNDARIES:
            del counts[min(counts)]
    else:
        counts = {end: 0}
    holes = state.holes + (((last, message.after, before.epoch),) if gap else ())
    holes = tuple(piece for hole in holes for piece in _without(hole, message))
    return verdict, State(state.epoch, end, holes[-_MAX_HOLES:], counts)


def _entered(state: State, message: Identity) -> State:
    """Return `state` in the epoch of `message`, if that is a newer one.

    Ids above `after` may have been taken back and used again. And no row of the new epoch was taken: one below `after`,
    in flight still, is no repeat, although its id was seen in an older epoch. Hence the hole that nobody is told of.
    """
    if message.epoch <= state.epoch:
        return state
    last = min(state.last, message.after)
    holes = [(after, min(upto, last), epoch) for after, upto, epoch in state.holes if after < last]
    if last:
        holes.append((0, last, message.epoch))
    return State(message.epoch, last, tuple(holes), {end: rows for end, rows in state.counts.items() if end <= last})


def _consistent(counts: dict[int, int], message: Identity) -> bool:
    """Whether the counts tell how many rows there are up to the end of `message`.

    A message that goes back to where none ended was cut anew, perhaps by a stream that was started again with another
    filter. So was one whose number of rows contradicts the counts. They must not decide what is skipped then.
    """
    if message.after not in counts:
        return False
    total = counts[message.after] + message.rows
    spans = ((message.upto - end, total - rows) for end, rows in counts.items())
    return all(0 <= rows <= ids or ids <= rows <= 0 for ids, rows in spans)


def _without(hole: Hole, message: Identity) -> list[Hole]:
    """Return what stays missing of `hole` after `message` was taken."""
    after, upto, epoch = hole
    if epoch > message.epoch or after >= message.upto or upto <= message.after:
        return [hole]
    return [(a, b, epoch) for a, b in ((after, message.after), (message.upto, upto)) if a < b]
