"""What can be known at open fails at open, in the caller's thread, with a hint; the file stays as it was."""

from __future__ import annotations

import os
import sqlite3
import traceback
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.faults.syscalls import default_vfs
from tests.support import rows_of
from tsstreamer import SqliteDataStreamer, StorageError
from tsstreamer import _options as options

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

NOBODY = 65534


def _good(path: Path, rows: int = 2_000) -> None:
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        for number in range(rows):
            streamer.storeData("log", 1.0, number)


def _text(path: Path) -> None:
    path.write_text("this is no database\n" * 500, encoding="utf-8")


def _bad_first_page(path: Path) -> None:
    _good(path)
    with path.open("r+b") as file:
        file.write(b"\xff" * 200)


def _bad_schema(path: Path) -> None:
    _good(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3_000)


def _other_version(path: Path) -> None:
    _good(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE tsstreamer_meta SET value = 99 WHERE name = 'schema'")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_text, "SQLITE_NOTADB.*choose another name"),
        (_bad_first_page, "SQLITE_NOTADB"),
        (_bad_schema, "SQLITE_CORRUPT.*tsstreamer verify"),
        (_other_version, "schema version 99, this release knows 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    """Not a database, damaged, or of another version: StorageError with the reason, and no byte has changed."""
    path = tmp_path / "log.db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match=reason):
        SqliteDataStreamer(path)
    assert before == path.read_bytes()


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    """A file of no bytes, as `mkstemp` makes it, is used."""
    path = tmp_path / "log.db"
    path.touch()
    _good(path)
    assert 2_000 == len(rows_of(path, "log"))


def test_paths_that_cannot_be_files(tmp_path: Path) -> None:
    """A folder, a missing folder, a file in its place, a device, and a NUL in the name are refused with a reason."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {
        "": "not a regular file",
        "missing/log.db": "there is no folder",
        "file/log.db": "cannot open",
        "pipe": "not a regular file",
        "a\0b": "cannot open",
        "x" * 300: "cannot open",
    }.items():
        with pytest.raises(StorageError, match=reason):
            SqliteDataStreamer(f"{tmp_path}/{name}")


def test_a_file_system_without_shared_memory_is_refused(tmp_path: Path) -> None:
    """Where SQLite answers something else than WAL, the constructor says so."""
    with default_vfs("unix-dotfile"), pytest.raises(StorageError, match="write-ahead logging is not available"):
        SqliteDataStreamer(tmp_path / "log.db")
    assert not (tmp_path / "log.db.lock").exists()


def _as_nobody(body: Callable[[], None]) -> int:
    """Run `body` in a child process without root's rights; return its exit status."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            body()
            status = 0
        except BaseException:  # noqa: BLE001  (the parent sees the status)
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
@pytest.mark.parametrize("what", ["file", "folder", "unreadable"])
def test_a_file_or_folder_that_may_not_be_written(tmp_path: Path, what: str) -> None:
    """Read-only file or folder, unreadable file: StorageError in the caller's thread, not later in the writer's."""
    path = tmp_path / "log.db"
    _good(path)
    folders = [folder for folder in (tmp_path, *tmp_path.parents) if str(folder).startswith("/tmp/")]  # noqa: S108
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder in folders:
        folder.chmod(0o755)
    tmp_path.chmod(0o555 if what == "folder" else 0o777)
    path.chmod({"file": 0o444, "folder": 0o666, "unreadable": 0o000}[what])
    before = path.read_bytes()

    def body() -> None:
        with pytest.raises(StorageError, match=r"log\.db.*(read-only|permissions|writable)"):
            SqliteDataStreamer(path)

    try:
        assert 0 == _as_nobody(body)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert before == path.read_bytes()


def test_damage_in_the_middle_does_not_stop_storing(tmp_path: Path, rng: random.Random) -> None:
    """A damaged page that nothing needs is not seen: rows go on being stored; who reads it gets StorageError."""
    path = tmp_path / "log.db"
    _good(path, 50_000)
    with path.open("r+b") as file:
        pages = path.stat().st_size // 4096
        file.seek((pages // 2) * 4096)
        file.write(rng.randbytes(4096))
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n"], ["INTEGER"])
        streamer.storeData("log", 1.0, 9)
        assert streamer.flush(10.0)
        with pytest.raises(StorageError, match="SQLITE_CORRUPT"):
            streamer._database.read("SELECT sum(n) FROM log")


def test_a_failed_open_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a refused open nothing is held: the next one, with the reason gone, works."""
    monkeypatch.setattr(options, "OPEN_SECONDS", 0.1)
    path = tmp_path / "missing" / "log.db"
    with pytest.raises(StorageError):
        SqliteDataStreamer(path)
    path.parent.mkdir()
    _good(path)
    assert 2_000 == len(rows_of(path, "log"))
