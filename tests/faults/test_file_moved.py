"""The file is deleted, renamed, replaced or cut under the open streamer: SQLite would not notice, the streamer does."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.faults.programs import assert_intact
from tests.support import rows_of, wait_until
from tsstreamer import SqliteDataStreamer, StorageError, TsStreamerError
from tsstreamer import _options as options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tsstreamer._sql import Table


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "RETRY_LAST", 0.05)


def _numbers(path: Path) -> list[int]:
    return [row[2] for row in rows_of(path, "log")]


def _other(path: Path) -> Path:
    """Make another database of the same shape, with one row of its own."""
    other = path.with_name("other.db")
    with SqliteDataStreamer(other) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        streamer.storeData("log", 1.0, 1000)
    return other


def _empty(path: Path) -> Path:
    other = path.with_name("empty.db")
    other.touch()
    return other


def _with_companions(path: Path, action: Callable[[Path], object]) -> None:
    for suffix in ("", "-wal", "-shm"):
        action(path.with_name(path.name + suffix))


_FAULTS: dict[str, tuple[Callable[[Path], object], list[int]]] = {
    # What happens to the file; the rows that are at its path when five more have been stored.
    "deleted": (lambda path: path.unlink(), [5, 6, 7, 8, 9]),
    "deleted with its log": (lambda path: _with_companions(path, lambda each: each.unlink()), [5, 6, 7, 8, 9]),
    "renamed": (lambda path: path.rename(path.with_name("old.db")), [5, 6, 7, 8, 9]),
    "replaced": (lambda path: _other(path).replace(path), [1000, 5, 6, 7, 8, 9]),
    "replaced by an empty file": (lambda path: _empty(path).replace(path), [5, 6, 7, 8, 9]),
    "its log deleted": (lambda path: path.with_name(path.name + "-wal").unlink(), list(range(10))),
    "its index deleted": (lambda path: path.with_name(path.name + "-shm").unlink(), list(range(10))),
}


@pytest.mark.parametrize("fault", _FAULTS)
def test_rows_go_to_the_file_at_the_path(tmp_path: Path, fault: str) -> None:
    """The next rows are in the file that is found under the name; it is said once, the old file keeps the old rows."""
    path = tmp_path / "log.db"
    happens, expected = _FAULTS[fault]
    changes: list[TsStreamerError | None] = []
    with SqliteDataStreamer(path, onError=changes.append) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        for number in range(5):
            streamer.storeData("log", 1.0, number)
        assert streamer.flush(10.0)
        dbid = streamer._database.dbid
        happens(path)
        for number in range(5, 10):
            streamer.storeData("log", 1.0, number)
        assert streamer.flush(10.0)
        wait_until(lambda: len(changes) == 2)
        assert "running" == streamer.stats().state
        assert (dbid == streamer._database.dbid) == (len(expected) == 10)
        assert 10 == streamer.stats().storages["log"].committed
    assert ["StorageError", "NoneType"] == [type(change).__name__ for change in changes]
    assert expected == _numbers(path)
    assert_intact(path)
    old = tmp_path / "old.db"
    if old.exists():
        # A file that was moved away takes along what was still in the log.
        assert list(range(5)) == _numbers(old)
        assert_intact(old)


def test_a_truncated_file_stops_writing_until_it_is_moved_away(tmp_path: Path) -> None:
    """A file cut to nothing is not written to: rows wait, the reason says what to do, and then they are stored."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        streamer.storeData("log", 1.0, 0)
        assert streamer.flush(10.0)
        os.truncate(path, 0)
        streamer.storeData("log", 1.0, 1)
        wait_until(lambda: streamer.stats().state == "degraded")
        assert "cut to nothing" in streamer.stats().reason
        assert 0 == path.stat().st_size
        _with_companions(path, lambda each: each.rename(tmp_path / ("cut-" + each.name)))
        assert streamer.flush(10.0)
    assert [1] == _numbers(path)
    assert_intact(path)


def test_a_truncated_file_that_was_filled_again_is_not_trusted(tmp_path: Path) -> None:
    """Putting a backup back into the same file does not fit the open log: still nothing is written to it."""
    path, backup = tmp_path / "log.db", tmp_path / "backup.db"
    shutil.copy(_other(path), backup)
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        os.truncate(path, 0)
        streamer.storeData("log", 1.0, 1)
        wait_until(lambda: streamer.stats().state == "degraded")
        content = backup.read_bytes()
        path.write_bytes(content)
        assert not streamer.flush(0.3)
        assert content == path.read_bytes()
        _with_companions(path, lambda each: each.unlink())
        assert streamer.flush(10.0)
    assert [1] == _numbers(path)


def test_a_folder_that_is_gone_is_tried_again(tmp_path: Path) -> None:
    """The new file cannot be made at first; each later try may succeed, and none of the rows is lost meanwhile."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "log.db"
    changes: list[TsStreamerError | None] = []
    with SqliteDataStreamer(path, onError=changes.append) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        folder.rename(tmp_path / "away")
        for number in range(3):
            streamer.storeData("log", 1.0, number)
        wait_until(lambda: "no folder" in streamer.stats().reason)
        assert not streamer.flush(0.2)
        folder.mkdir()
        assert streamer.flush(10.0)
    assert [0, 1, 2] == _numbers(path)
    assert ["StorageError", "NoneType"] == [type(change).__name__ for change in changes]


def test_tables_are_made_even_if_the_first_try_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is open, but its tables cannot be made at once: the next try makes them."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        add, tries = streamer._database.add_table, []

        def add_table(table: Table) -> None:
            tries.append(table)
            if len(tries) == 1:
                message = "disk I/O error"
                raise sqlite3.OperationalError(message)
            add(table)

        monkeypatch.setattr(streamer._database, "add_table", add_table)
        path.unlink()
        streamer.storeData("log", 1.0, 0)
        assert streamer.flush(10.0)
    assert [0] == _numbers(path)


def test_a_folder_that_comes_back_is_gone_on_with(tmp_path: Path) -> None:
    """The very file is put back after it could not be found: it is opened again, and goes on."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        streamer.storeData("log", 1.0, 0)
        assert streamer.flush(10.0)
        folder.rename(tmp_path / "away")
        streamer.storeData("log", 1.0, 1)
        wait_until(lambda: "no folder" in streamer.stats().reason)
        (tmp_path / "away").rename(folder)
        assert streamer.flush(10.0)
    assert [0, 1] == _numbers(path)
    assert_intact(path)


def test_a_file_of_another_shape_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    """The file is replaced by one whose table has other columns: rows wait, and the reason shows both."""
    path, other = tmp_path / "log.db", tmp_path / "other.db"
    with SqliteDataStreamer(other) as streamer:
        streamer.addStorage("log", ["text"], ["VARCHAR"])
    streamer = SqliteDataStreamer(path)
    streamer.addStorage("log", ["n"], ["INTEGER"])
    other.replace(path)
    streamer.storeData("log", 1.0, 0)
    wait_until(lambda: "other columns" in streamer.stats().reason)
    with pytest.raises(StorageError, match="1 rows"):
        streamer.close(0.2)
    assert [] == rows_of(path, "log")


def test_readers_find_the_new_file(tmp_path: Path) -> None:
    """Statistics and streams read from the file at the path, too."""
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        for number in range(3):
            streamer.storeData("log", 1.0, number)
        streamer.stream("log")
        assert 3 == streamer.stats().streams["log"].lagRows
        path.unlink()
        streamer.storeData("log", 1.0, 3)
        assert streamer.flush(10.0)
        assert [(1,)] == streamer._database.read("SELECT max(id) FROM log")
