"""A row that SQLite refuses costs that row only: it is in the dead-letter table, its neighbours are stored in order."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.programs import query
from tests.support import rows_of, wait_until
from tsstreamer import SqliteDataStreamer, TsStreamerError
from tsstreamer import _options as options

if TYPE_CHECKING:
    import random
    from pathlib import Path

ROWS = 3_000

_RULES = {
    "check": "n INTEGER CHECK (n % 7 <> 3), text VARCHAR",
    "not null": "n INTEGER, text VARCHAR NOT NULL",
}
_TRIGGERS = {
    action: f"CREATE TRIGGER rule BEFORE INSERT ON log WHEN new.n % 7 = 3 BEGIN SELECT raise({words}); END"
    for action, words in {
        "abort": "ABORT, 'no threes'",
        "fail": "FAIL, 'no threes'",
        "ignore": "IGNORE",
        "rollback": "ROLLBACK, 'no threes'",
    }.items()
}


def _rule(path: Path, rule: str) -> None:
    """Make the storage's table, or a trigger on it, as the user's own program might."""
    with closing(sqlite3.connect(path)) as connection, connection:
        columns = _RULES.get(rule, "n INTEGER, text VARCHAR")
        connection.execute(f"CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL, {columns})")
        if rule in _TRIGGERS:
            connection.execute(_TRIGGERS[rule])


@pytest.mark.parametrize("rule", ["check", "not null", "abort", "fail", "ignore"])
def test_bad_rows_cost_themselves_only(tmp_path: Path, rule: str) -> None:
    """Whatever way the table refuses a row: the others are stored in order, it is buried and counted."""
    path = tmp_path / "log.db"
    _rule(path, rule)
    changes: list[TsStreamerError | None] = []
    with SqliteDataStreamer(path, onError=changes.append) as streamer:
        streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
        for number in range(ROWS):
            streamer.storeData("log", float(number), number, None if rule == "not null" and number % 7 == 3 else "x")
        assert streamer.flush(20.0)
        ledger = streamer.stats().storages["log"]
    good = [number for number in range(ROWS) if number % 7 != 3]
    bad = [number for number in range(ROWS) if number % 7 == 3]
    assert good == [row[2] for row in rows_of(path, "log")]
    assert (ROWS, len(good), len(bad), 0) == (ledger.accepted, ledger.committed, ledger.rejected, ledger.pending)
    dead = query(path, "SELECT storage, stream, time, reason, row FROM tsstreamer_dead ORDER BY id")
    assert [[n, None if rule == "not null" else "x"] for n in bad] == [json.loads(str(row[4])) for row in dead]
    assert [("log", None, float(number)) for number in bad] == [row[:3] for row in dead]
    assert all("Error: " in str(row[3]) for row in dead)
    assert [("rejected", len(bad))] == query(path, "SELECT reason, rows FROM tsstreamer_ledger")
    assert [(1, len(good), len(good))] == query(  # ids have no gaps
        path, "SELECT min(id), max(id), seq FROM log JOIN sqlite_sequence ON name = 'log'"
    )
    assert [] == changes  # the world is well


def test_the_neighbours_in_other_storages_are_not_touched(tmp_path: Path) -> None:
    """Bad rows of one storage neither delay nor change the rows of another in the same transaction."""
    path = tmp_path / "log.db"
    _rule(path, "check")
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
        streamer.addStorage("other", ["n"], ["INTEGER"])
        for number in range(700):
            streamer.storeData("log", 1.0, number, "x")
            streamer.storeData("other", 1.0, number)
    assert 600 == len(rows_of(path, "log"))
    assert list(range(700)) == [row[2] for row in rows_of(path, "other")]


def test_dead_letters_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many bad rows the newest are kept, long values are cut, and the ledger has the number of all."""
    monkeypatch.setattr(options, "DEAD_LETTERS", 50)
    path = tmp_path / "log.db"
    _rule(path, "check")
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
        for number in range(200):
            streamer.storeData("log", 1.0, 7 * number + 3, "x" * 10_000)
    dead = query(path, "SELECT row FROM tsstreamer_dead ORDER BY id")
    assert [7 * number + 3 for number in range(150, 200)] == [int(str(row[0])[1:].split(",")[0]) for row in dead]
    assert {options.DEAD_TEXT} == {len(str(row[0])) for row in dead}
    assert [(200,)] == query(path, "SELECT rows FROM tsstreamer_ledger WHERE reason = 'rejected'")


@pytest.mark.parametrize("action", ["abort", "fail", "ignore"])
def test_a_rule_added_while_running(tmp_path: Path, action: str) -> None:
    """Another program adds a trigger to the open database: from then on it holds, and nothing else changes."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
        streamer.storeData("log", 1.0, 3, "x")
        assert streamer.flush(10.0)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(_TRIGGERS[action].replace("ON log", "ON LOG"))
        for number in range(10):
            streamer.storeData("log", 1.0, number, "x")
        assert streamer.flush(10.0)
        assert 1 == streamer.stats().storages["log"].rejected
    assert [3, 0, 1, 2, 4, 5, 6, 7, 8, 9] == [row[2] for row in rows_of(path, "log")]
    assert [('[3, "x"]',)] == query(path, "SELECT row FROM tsstreamer_dead")


def test_a_table_that_ignores_conflicts_by_itself(tmp_path: Path) -> None:
    """What the table's own constraint would leave out without a word is a dead letter, too."""
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        unique = "n INTEGER UNIQUE ON CONFLICT IGNORE"
        connection.execute(f"CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL, {unique})")
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        for number in (1, 2, 2, 3):
            streamer.storeData("log", 1.0, number)
        assert streamer.flush(10.0)
        ledger = streamer.stats().storages["log"]
    assert (3, 1) == (ledger.committed, ledger.rejected)
    assert [1, 2, 3] == [row[2] for row in rows_of(path, "log")]
    assert [("[2]",)] == query(path, "SELECT row FROM tsstreamer_dead")


def test_a_bad_row_is_found_by_halving(tmp_path: Path) -> None:
    """Among 2 000 rows one bad one costs tens of statements, not one for each row."""
    path = tmp_path / "log.db"
    _rule(path, "check")
    with SqliteDataStreamer(path, flushInterval=1000.0) as streamer:
        streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
        seen: list[str] = []
        connection: Any = streamer._database._writer
        connection.set_trace_callback(lambda text: seen.append(text[:6]))
        for number in range(2_000):
            streamer.storeData("log", float(number), 3 if number == 1_234 else 0, "x")
        assert streamer.flush(20.0)
        connection.set_trace_callback(None)
        assert 1 == streamer.stats().storages["log"].rejected
    assert 20 < seen.count("INSERT") < 50
    assert [float(number) for number in range(2_000) if number != 1_234] == [row[1] for row in rows_of(path, "log")]


def test_a_table_dropped_by_a_stranger_is_trouble_not_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a table that is gone wait, the state says why; when it is made again they are stored."""
    monkeypatch.setattr(options, "RETRY_LAST", 0.05)
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TABLE log")
        streamer.storeData("log", 1.0, 1)
        wait_until(lambda: "no such table" in streamer.stats().reason)
        with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            connection.execute("CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL, n INTEGER)")
        assert streamer.flush(10.0)
    assert [1] == [row[2] for row in rows_of(path, "log")]


def test_a_trigger_that_ends_the_transaction_is_trouble_not_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documented limit: after ``raise(ROLLBACK)`` nobody knows whose fault it was; rows wait until it is gone."""
    monkeypatch.setattr(options, "RETRY_LAST", 0.05)
    path = tmp_path / "log.db"
    _rule(path, "rollback")
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
        for number in range(10):
            streamer.storeData("log", 1.0, number, "x")
        wait_until(lambda: "no threes" in streamer.stats().reason)
        with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            connection.execute("DROP TRIGGER rule")
        assert streamer.flush(10.0)
    assert list(range(10)) == [row[2] for row in rows_of(path, "log")]


class _Text(str):
    __slots__ = ()

    def __conform__(self, _: object) -> str:
        """Raise what no writer expects; sqlite3 calls this in the thread that executes."""
        raise SystemExit


def test_a_value_that_raises_in_the_writer_costs_its_row_only(tmp_path: Path) -> None:
    """Code of a user's class that sqlite3 runs in the writer's thread cannot end the writer."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["text"], ["VARCHAR"])
        for value in ("a", _Text("b"), "c"):
            streamer.storeData("log", 1.0, value)
        assert streamer.flush(10.0)
        assert "running" == streamer.stats().state
        ledger = streamer.stats().storages["log"]
    stored = [row[2] for row in rows_of(path, "log")]
    assert ["a", "c"] == [text for text in stored if text != "b"]
    assert 3 == ledger.committed + ledger.rejected == len(stored) + ledger.rejected


def test_a_storage_that_sqlite_cannot_make_is_refused_at_once(tmp_path: Path) -> None:
    """Words that SQLite does not take as a type are the caller's error, not a trouble that is retried."""
    with SqliteDataStreamer(tmp_path / "log.db") as streamer:
        with pytest.raises(TsStreamerError, match="syntax error"):
            streamer.addStorage("log", ["n"], ["SELECT"])
        assert "running" == streamer.stats().state
        streamer.addStorage("log", ["n"], ["INTEGER"])


def test_ids_have_no_gap_where_a_batch_was_tried_twice(tmp_path: Path, rng: random.Random) -> None:
    """The rows of a batch with a bad one are inserted again, in halves: their ids go on without a gap."""
    path = tmp_path / "log.db"
    _rule(path, "check")
    bad = set(rng.sample(range(500), 20))
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
        for number in range(500):
            streamer.storeData("log", 1.0, 3 if number in bad else 0, "x")
    assert list(range(1, 481)) == [row[0] for row in rows_of(path, "log")]
