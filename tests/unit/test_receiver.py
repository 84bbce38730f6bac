"""`Receiver`: one verdict for each way in which a message can come, and state that is the caller's transaction."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tsstreamer.model import Message
from tsstreamer.receiver import Receiver, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Isolation = Literal["DEFERRED", "EXCLUSIVE"] | None


@dataclass(frozen=True, slots=True)
class Said:
    """An object with the attributes that a receiver looks at, and no others."""

    epoch: int
    after: int
    upto: int
    rows: int
    src: str = "node1"
    dbid: str = "db1"
    stream: str = "log"


def dense(after: int, upto: int, epoch: int = 1) -> Said:
    """A message with a row for each id."""
    return Said(epoch, after, upto, upto - after)


@pytest.fixture(params=["memory", "sqlite"])
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """A receiver of each kind."""
    if request.param == "memory":
        yield Receiver()
        return
    with closing(sqlite3.connect(":memory:")) as connection:
        yield Receiver(connection)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A connection with a table for rows."""
    with closing(sqlite3.connect(":memory:")) as found:
        found.execute("CREATE TABLE log (id)")
        yield found


def taken(receiver: Receiver, *messages: Said) -> Verdict:
    """Take all messages, and return the last verdict."""
    return [receiver.take(message) for message in messages][-1]


# --- one epoch ------------------------------------------------------------------------------------------------------


def test_the_first_message_of_a_stream_is_new(receiver: Receiver) -> None:
    """A stream heard from its start is new, and nothing is missing."""
    assert Verdict(kind="new", newDatabase=True) == receiver.take(dense(0, 10))


def test_a_receiver_that_joins_late_is_told_so_without_an_alarm(receiver: Receiver) -> None:
    """A stream first heard in its middle is new; the ids before are named."""
    assert Verdict(kind="new", newDatabase=True, missed=(1, 50)) == receiver.take(dense(50, 60))


def test_messages_that_follow_each_other_are_new(receiver: Receiver) -> None:
    """A message that starts where the last one ended is new."""
    assert Verdict(kind="new") == taken(receiver, dense(0, 10), dense(10, 20))


def test_a_message_that_comes_again_is_a_repeat(receiver: Receiver) -> None:
    """Every row of a repeat is left out, whether it was the last message or an older one."""
    assert Verdict(kind="repeat", skip=10) == taken(receiver, dense(0, 10), dense(10, 20), dense(10, 20))
    assert Verdict(kind="repeat", skip=10) == receiver.take(dense(0, 10))


def test_a_gap_is_reported_once_and_its_rows_are_taken(receiver: Receiver) -> None:
    """After a gap the stream goes on: the next message is new."""
    assert Verdict(kind="gap", missed=(11, 20)) == taken(receiver, dense(0, 10), dense(20, 30))
    assert Verdict(kind="repeat", skip=10) == receiver.take(dense(20, 30))
    assert Verdict(kind="new") == receiver.take(dense(30, 40))


def test_a_missing_message_that_comes_after_all_is_new_and_late(receiver: Receiver) -> None:
    """What fills a gap is taken once, and closes it."""
    taken(receiver, dense(0, 10), dense(30, 40))
    assert Verdict(kind="new", late=True) == receiver.take(dense(10, 20))
    assert Verdict(kind="repeat", skip=10) == receiver.take(dense(10, 20))
    assert Verdict(kind="new", late=True) == receiver.take(dense(20, 30))
    assert Verdict(kind="repeat", skip=20) == receiver.take(dense(10, 30))


def test_the_first_message_may_come_after_the_second(receiver: Receiver) -> None:
    """With several messages in flight the first can fail: it is taken when it comes again."""
    assert Verdict(kind="new", late=True) == taken(receiver, dense(10, 20), dense(0, 10))


def test_a_message_across_a_gap_and_taken_rows_loses_nothing(receiver: Receiver) -> None:
    """Where taken rows lie behind missing ones no skip is right: the smallest one is given, and said to be inexact."""
    taken(receiver, dense(0, 10), dense(20, 30))
    assert Verdict(kind="overlap", skip=5, late=True, exact=False) == receiver.take(dense(5, 25))


def test_an_overlap_of_a_gapless_stream_needs_no_memory(receiver: Receiver) -> None:
    """With a row for each id the ids alone say how many rows were taken."""
    assert Verdict(kind="overlap", skip=3) == taken(receiver, dense(0, 10), dense(7, 15))


def test_an_overlap_is_counted_from_ends_of_messages(receiver: Receiver) -> None:
    """With a filter the rows taken since an earlier message are known by their number."""
    taken(receiver, Said(1, 0, 100, 2), Said(1, 100, 200, 7), Said(1, 200, 300, 5))
    assert Verdict(kind="overlap", skip=12) == receiver.take(Said(1, 100, 400, 20))
    assert Verdict(kind="new") == receiver.take(Said(1, 400, 500, 1))


def test_repeats_cut_anew_are_learned(receiver: Receiver) -> None:
    """A repeat with another end makes that end known, so that an overlap from there is exact."""
    taken(receiver, Said(1, 0, 100, 2), Said(1, 100, 200, 7))
    assert Verdict(kind="repeat", skip=3) == receiver.take(Said(1, 100, 150, 3))
    assert Verdict(kind="overlap", skip=4) == receiver.take(Said(1, 150, 300, 6))


def test_an_overlap_that_cannot_be_counted_skips_what_is_certain(receiver: Receiver) -> None:
    """From where no message ended, only rows that cannot be new are left out, and the verdict says so."""
    taken(receiver, Said(1, 0, 100, 2), Said(1, 100, 200, 7))
    assert Verdict(kind="overlap", skip=2, exact=False) == receiver.take(Said(1, 150, 210, 12))


def test_the_start_of_a_stream_is_no_place_to_count_from(receiver: Receiver) -> None:
    """A stream started again from 0, perhaps with another filter, loses no row by the counts of the old one."""
    taken(receiver, Said(1, 0, 100, 50))
    assert Verdict(kind="overlap", skip=0, exact=False) == receiver.take(Said(1, 0, 200, 60))


def test_counts_that_are_contradicted_are_forgotten(receiver: Receiver) -> None:
    """A repeat with another number of rows shows that the rows are others: nothing is skipped by the old numbers."""
    taken(receiver, Said(1, 0, 100, 2), Said(1, 100, 200, 5), Said(1, 200, 300, 5))
    assert Verdict(kind="overlap", skip=10) == receiver.check(Said(1, 100, 400, 20))
    assert Verdict(kind="repeat", skip=9) == receiver.take(Said(1, 100, 200, 9))
    assert Verdict(kind="overlap", skip=0, exact=False) == receiver.check(Said(1, 100, 400, 20))


def test_counts_are_kept_for_256_messages(receiver: Receiver) -> None:
    """The memory is bounded: an overlap with older messages is inexact, one with younger ones is not."""
    for number in range(300):
        receiver.take(Said(1, 10 * number, 10 * number + 10, 1))
    assert Verdict(kind="overlap", skip=255) == receiver.check(Said(1, 450, 3010, 256))
    assert Verdict(kind="overlap", skip=247, exact=False) == receiver.check(Said(1, 440, 3010, 257))


def test_gaps_are_remembered_for_64_messages(receiver: Receiver) -> None:
    """The memory is bounded: late rows for an older gap are repeats."""
    for number in range(66):
        receiver.take(dense(20 * number, 20 * number + 10))
    assert ["repeat", "new"] == [receiver.check(dense(after, after + 10)).kind for after in (10, 30)]


# --- epochs, databases, streams -------------------------------------------------------------------------------------


def test_ids_used_again_after_a_power_loss_are_new(receiver: Receiver) -> None:
    """Ids 81 to 100 of the lost epoch come again as other rows, and are taken."""
    receiver.take(dense(0, 100))
    assert Verdict(kind="repeat", skip=5) == receiver.take(dense(75, 80))
    assert Verdict(kind="new", newEpoch=True) == receiver.take(dense(80, 90, epoch=2))
    assert Verdict(kind="repeat", skip=10) == receiver.take(dense(80, 90, epoch=2))
    assert Verdict(kind="new") == receiver.take(dense(90, 110, epoch=2))


def test_an_older_epoch_is_a_repeat(receiver: Receiver) -> None:
    """A late copy of a message whose rows vanished, or whose position did, changes nothing."""
    taken(receiver, dense(0, 80), dense(80, 100), dense(80, 90, epoch=2))
    assert Verdict(kind="repeat", skip=20) == receiver.take(dense(80, 100))
    assert Verdict(kind="repeat", skip=5) == receiver.take(dense(75, 80))
    assert Verdict(kind="repeat", skip=5) == receiver.take(dense(95, 100))
    assert Verdict(kind="new") == receiver.take(dense(90, 95, epoch=2))


def test_a_gap_is_seen_across_epochs(receiver: Receiver) -> None:
    """An epoch that begins after ids that never came is a gap, and their message may still come."""
    assert Verdict(kind="gap", missed=(71, 80), newEpoch=True) == taken(receiver, dense(0, 70), dense(80, 90, epoch=2))
    assert Verdict(kind="new", late=True) == receiver.take(dense(70, 80))


def test_a_vanished_message_does_not_fill_a_gap_of_a_later_epoch(receiver: Receiver) -> None:
    """A late copy from before the power loss does not take the place of the rows that are missing now."""
    taken(receiver, dense(0, 80), dense(80, 100), dense(80, 90, epoch=2), dense(95, 99, epoch=2))
    assert Verdict(kind="repeat", skip=5) == receiver.take(dense(90, 95))
    assert Verdict(kind="new", late=True) == receiver.take(dense(90, 95, epoch=2))


def test_the_first_message_of_an_epoch_may_come_after_the_second(receiver: Receiver) -> None:
    """A message of the new epoch is no repeat because its ids were seen in the old one."""
    taken(receiver, dense(0, 100))
    assert Verdict(kind="new", newEpoch=True) == receiver.take(dense(90, 95, epoch=2))
    assert Verdict(kind="new", late=True) == receiver.take(dense(80, 90, epoch=2))
    assert Verdict(kind="repeat", skip=10) == receiver.take(dense(80, 90, epoch=2))
    assert Verdict(kind="new") == receiver.take(dense(95, 99, epoch=2))


def test_a_message_across_an_epoch_that_began_late_loses_nothing(receiver: Receiver) -> None:
    """Rows of a new epoch that are still missing are not skipped by the counts of the old one."""
    taken(receiver, Said(1, 0, 80, 4), Said(1, 80, 90, 3), Said(2, 90, 95, 2))
    assert Verdict(kind="overlap", skip=0, late=True, exact=False) == receiver.take(Said(2, 80, 97, 7))


def test_a_vanished_message_that_comes_late_does_not_move_the_end(receiver: Receiver) -> None:
    """What an older epoch fills of a gap says nothing of the ids that the newer one has not reached."""
    taken(receiver, dense(0, 70), dense(80, 90, epoch=2))
    assert Verdict(kind="overlap", skip=0, late=True, exact=False) == receiver.take(dense(70, 100))
    assert Verdict(kind="new") == receiver.take(dense(90, 95, epoch=2))


def test_an_old_gap_does_not_reach_into_a_new_epoch(receiver: Receiver) -> None:
    """Ids that are used again are not missing any more."""
    taken(receiver, dense(0, 70), dense(80, 90))
    assert Verdict(kind="new", newEpoch=True) == receiver.take(dense(75, 85, epoch=2))
    assert Verdict(kind="repeat", skip=10) == receiver.take(dense(75, 85, epoch=2))


def test_rows_of_an_old_epoch_do_not_fill_the_gap_of_a_new_one(receiver: Receiver) -> None:
    """A late message of the old epoch and one of the new with the same ids are both taken."""
    taken(receiver, dense(0, 70), dense(80, 90), dense(85, 95, epoch=2))
    assert Verdict(kind="new", late=True) == receiver.take(dense(70, 80))
    assert Verdict(kind="new", late=True) == receiver.take(dense(70, 85, epoch=2))


def test_late_copies_leave_the_counts_alone(receiver: Receiver) -> None:
    """A copy from an older epoch, cut in another way, does not make an overlap inexact."""
    taken(receiver, Said(1, 0, 80, 4), Said(1, 80, 100, 9), Said(2, 80, 90, 3), Said(1, 75, 80, 1))
    assert Verdict(kind="overlap", skip=3) == receiver.take(Said(2, 80, 120, 8))


def test_an_overlap_is_counted_within_the_new_epoch(receiver: Receiver) -> None:
    """What was taken of the old epoch above the cut does not count."""
    taken(receiver, Said(1, 0, 80, 4), Said(1, 80, 100, 9), Said(2, 80, 90, 3))
    assert Verdict(kind="overlap", skip=3) == receiver.take(Said(2, 80, 120, 8))


def test_epochs_may_be_left_out(receiver: Receiver) -> None:
    """A sender that restarts several times without a message goes on where it was."""
    assert Verdict(kind="new", newEpoch=True) == taken(receiver, dense(0, 10), dense(10, 20, epoch=7))


def test_a_new_database_starts_from_nothing(receiver: Receiver) -> None:
    """Another database under the same source and stream has ids of its own."""
    receiver.take(dense(0, 100))
    assert Verdict(kind="new", newDatabase=True) == receiver.take(Said(1, 0, 10, 10, dbid="db2"))
    assert Verdict(kind="repeat", skip=10) == receiver.take(dense(0, 10))


@pytest.mark.parametrize("other", [{"src": "node2"}, {"stream": "other"}])
def test_sources_and_streams_are_apart(receiver: Receiver, other: dict[str, str]) -> None:
    """What one source sends in one stream says nothing of another."""
    taken(receiver, dense(0, 10), Said(1, 0, 50, 50, **other))
    assert ["new", "new"] == [receiver.take(m).kind for m in (dense(10, 20), Said(1, 50, 60, 10, **other))]


def test_a_stream_started_again_repeats(receiver: Receiver) -> None:
    """`stopStream` and `stream` begin at 0 again, with other ends: only rows never taken are new."""
    taken(receiver, dense(0, 30), dense(30, 60))
    verdicts = [receiver.take(m) for m in (dense(0, 40), dense(40, 80), dense(80, 120))]
    expected = [Verdict(kind="repeat", skip=40), Verdict(kind="overlap", skip=20), Verdict(kind="new")]
    assert expected == verdicts


# --- what is not a message ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers",
    [(-1, 0, 1, 1), (1, -1, 1, 1), (1, 5, 5, 0), (1, 5, 4, 0), (1, 0, 1, -1), (1, 0, 3, 4)],
)
def test_nonsense_is_refused_and_leaves_no_trace(receiver: Receiver, numbers: tuple[int, int, int, int]) -> None:
    """Numbers that no sender produces are a ValueError that shows them."""
    with pytest.raises(ValueError, match="epoch, after, upto, rows = ") as caught:
        receiver.take(Said(*numbers))
    assert repr(numbers) in str(caught.value)
    assert Verdict(kind="new", newDatabase=True) == receiver.take(dense(0, 10))


@pytest.mark.parametrize("wrong", [{"dbid": None}, {"src": b"node1"}, {"upto": "10"}, {"epoch": 1.0}])
def test_wrong_types_are_refused(receiver: Receiver, wrong: dict[str, Any]) -> None:
    """What a careless decoder makes of an identity is a TypeError that shows it."""
    given = {"src": "node1", "dbid": "db1", "stream": "log", "epoch": 1, "after": 0, "upto": 10, "rows": 10} | wrong
    with pytest.raises(TypeError, match=repr(next(iter(wrong.values())))):
        receiver.take(SimpleNamespace(**given))


def test_a_real_message_is_taken(receiver: Receiver) -> None:
    """`Message` has what a receiver looks at."""
    message = Message(
        dstnodes=frozenset(),
        dstgroups=frozenset({"g"}),
        dstdocks=frozenset({"data"}),
        data="x",
        contenttype=5,
        src="node1",
        sequence=1,
        timestamp=0.0,
        stream="log",
        storage="log",
        dbid="db1",
        epoch=1,
        after=0,
        upto=3,
        rows=2,
    )
    assert ["new", "repeat"] == [receiver.take(message).kind, receiver.take(message).kind]


# --- state ----------------------------------------------------------------------------------------------------------


def test_check_says_the_same_and_remembers_nothing(receiver: Receiver) -> None:
    """`check` may be asked any number of times before `take`."""
    taken(receiver, dense(0, 10))
    verdicts = [receiver.check(dense(20, 30)), receiver.check(dense(20, 30)), receiver.take(dense(20, 30))]
    assert [Verdict(kind="gap", missed=(11, 20))] * 3 == verdicts


def test_check_writes_nothing(tmp_path: Path) -> None:
    """`check` needs no write lock, and leaves no table and no transaction behind."""
    path = tmp_path / "received.db"
    with closing(sqlite3.connect(path)) as other, closing(sqlite3.connect(path, timeout=0)) as connection:
        other.execute("BEGIN IMMEDIATE")
        assert "new" == Receiver(connection).check(dense(0, 10)).kind
        other.rollback()
        assert (False, []) == (connection.in_transaction, connection.execute("SELECT * FROM sqlite_master").fetchall())


def test_rows_and_state_roll_back_together(connection: sqlite3.Connection) -> None:
    """A message whose transaction failed is new when it comes again, although the receiver has seen it."""
    receiver = Receiver(connection)

    def receive(message: Said, *, fail: bool = False) -> Verdict:
        with connection:
            verdict = receiver.take(message)
            ids = list(range(message.after + 1, message.upto + 1))
            connection.executemany("INSERT INTO log VALUES (?)", [(number,) for number in ids[verdict.skip :]])
            if fail:
                raise InterruptedError
        return verdict

    receive(dense(0, 10))
    with pytest.raises(InterruptedError):
        receive(dense(10, 20), fail=True)
    assert ["new", "repeat"] == [receive(dense(10, 20)).kind, receive(dense(10, 20)).kind]
    assert list(range(1, 21)) == [number for (number,) in connection.execute("SELECT id FROM log")]


@pytest.mark.parametrize("isolation", ["DEFERRED", None, "EXCLUSIVE"])
def test_take_opens_a_transaction_and_leaves_it_open(isolation: Isolation) -> None:
    """Nothing is committed by `take`, in any isolation level: the caller's commit decides."""
    with closing(sqlite3.connect(":memory:", isolation_level=isolation)) as connection:
        receiver = Receiver(connection)
        receiver.take(dense(0, 10))
        assert connection.in_transaction
        connection.rollback()
        receiver.take(dense(0, 10))
        connection.commit()
        assert Verdict(kind="repeat", skip=10) == receiver.check(dense(0, 10))


def test_take_joins_a_transaction_that_is_open(connection: sqlite3.Connection) -> None:
    """Rows may be stored before `take`, in the same transaction."""
    connection.execute("INSERT INTO log VALUES (1)")
    Receiver(connection).take(dense(0, 10))
    connection.rollback()
    assert [] == connection.execute("SELECT * FROM log").fetchall()
    assert "new" == Receiver(connection).check(dense(0, 10)).kind


@pytest.mark.skipif(sys.version_info < (3, 12), reason="autocommit is new in Python 3.12")
def test_the_autocommit_attribute_is_respected() -> None:
    """With False the table survives the first rollback; with True a transaction must be begun by the caller."""
    manual: Any = {"autocommit": False}
    with closing(sqlite3.connect(":memory:", **manual)) as connection:
        receiver = Receiver(connection)
        receiver.take(dense(0, 10))
        connection.rollback()
        assert "new" == receiver.take(dense(0, 10)).kind
        connection.commit()
    automatic: Any = {"autocommit": True}
    with closing(sqlite3.connect(":memory:", **automatic)) as connection:
        receiver = Receiver(connection)
        with pytest.raises(ValueError, match="BEGIN"):
            receiver.take(dense(0, 10))
        connection.execute("BEGIN")
        receiver.take(dense(0, 10))
        connection.execute("COMMIT")
        assert "repeat" == receiver.check(dense(0, 10)).kind


def test_factories_of_the_connection_do_no_harm(connection: sqlite3.Connection) -> None:
    """Rows and texts of the receiver's own are read plainly, whatever the user's factories make."""
    connection.row_factory = lambda _cursor, row: {"row": row}
    connection.text_factory = len
    receiver = Receiver(connection)
    assert ["new", "gap", "repeat"] == [receiver.take(m).kind for m in (dense(0, 10), dense(20, 30), dense(20, 30))]


def test_a_new_process_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    """State in a file survives: gaps, counts and epoch too."""
    path = tmp_path / "received.db"
    with closing(sqlite3.connect(path)) as first, first:
        taken(Receiver(first), Said(2, 0, 100, 2), Said(2, 150, 200, 7), Said(2, 200, 300, 5))
    with closing(sqlite3.connect(path)) as second:
        receiver = Receiver(second)
        assert Verdict(kind="overlap", skip=5) == receiver.check(Said(2, 200, 400, 10))
        assert Verdict(kind="new", late=True) == receiver.check(Said(2, 100, 150, 3))
        assert Verdict(kind="repeat", skip=10) == receiver.check(Said(1, 200, 400, 10))


def test_nobody_writes_between_reading_and_writing_the_state(tmp_path: Path) -> None:
    """The write lock is held before the state is read: no second receiver can take the same message meanwhile."""
    path = tmp_path / "received.db"
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(path, timeout=0)) as other:
        refused = []

        def interfere(statement: str) -> None:
            if statement.startswith("SELECT"):
                try:
                    other.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    refused.append(str(error))

        receiver = Receiver(connection)
        receiver.take(dense(0, 10))
        connection.commit()  # with the table there, only BEGIN IMMEDIATE takes the lock this early
        connection.set_trace_callback(interfere)
        receiver.take(dense(10, 20))
        connection.set_trace_callback(None)
        assert {"database is locked"} == set(refused)


def test_a_locked_database_is_an_error_that_changes_nothing(tmp_path: Path) -> None:
    """Another writer makes `take` fail at once, before it has read anything; it can be tried again."""
    path = tmp_path / "received.db"
    with closing(sqlite3.connect(path)) as other, closing(sqlite3.connect(path, timeout=0)) as connection:
        receiver = Receiver(connection)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            receiver.take(dense(0, 10))
        other.rollback()
        assert Verdict(kind="new", newDatabase=True) == receiver.take(dense(0, 10))
