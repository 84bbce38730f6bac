"""The disk is full, or fails: rows wait in memory, reading goes on, and later everything is stored once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.programs import assert_intact, query
from tests.support import rows_of, run_python, wait_until
from tsstreamer import SqliteDataStreamer, TsStreamerError
from tsstreamer import _options as options

if TYPE_CHECKING:
    from pathlib import Path

# The limit is soft, so the program can lift it again; Python ignores SIGXFSZ, so a write fails with EFBIG.
_LIMITED = """
import resource, time
from tsstreamer import SqliteDataStreamer, _options as options
from tsstreamer.testing import RecordingMessenger
options.RETRY_LAST = 0.1
changes = []
streamer = SqliteDataStreamer("log.db", onError=changes.append)
streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
streamer.stream("log", formatter=lambda data, _: str(len(data)))
messenger = RecordingMessenger()
for n in range(10):
    streamer.storeData("log", 1.0, n, "x")
assert streamer.flush(10)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
for n in range(10, 1010):
    streamer.storeData("log", 1.0, n, "x" * 1000)
end = time.monotonic() + 10
while streamer.stats().state != "degraded" and time.monotonic() < end:
    time.sleep(0.01)
stats = streamer.stats()
assert stats.state == "degraded" and "SQLITE_IOERR" in stats.reason and "free space" in stats.reason, stats
assert stats.storages["log"].pending >= 1000, stats
assert not streamer.flush(0.2)
# Reading goes on; what was sent cannot be noted down, so the stream waits rather than sends without a position.
assert streamer._database.read("SELECT count(*) FROM log") == [(10,)]
streamer.doUpdates(1.0, messenger)
assert not messenger.messages
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert streamer.flush(20)
streamer.doUpdates(100.0, messenger)
assert sum(message.rows for message in messenger.messages) == 1010
assert streamer.close().stored == 1010
assert [type(change).__name__ for change in changes] == ["StorageError", "NoneType"], changes
"""


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """A write that fails with EFBIG is an I/O error to SQLite: retried, told once, over when the limit is lifted."""
    done = run_python(_LIMITED, cwd=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    assert list(range(1010)) == [row[2] for row in rows_of(tmp_path / "log.db", "log")]
    assert_intact(tmp_path / "log.db")


def test_a_full_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLITE_FULL in the middle of a batch: the whole batch waits, in memory, and is stored once when there is room."""
    monkeypatch.setattr(options, "RETRY_LAST", 0.05)
    path = tmp_path / "log.db"
    changes: list[TsStreamerError | None] = []
    with SqliteDataStreamer(path, onError=changes.append) as streamer:
        streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
        database = streamer._database
        with database.lock:
            database._connection().execute("PRAGMA max_page_count = 40").fetchall()
        for number in range(1_000):
            streamer.storeData("log", 1.0, number, "x" * 1_000)
        wait_until(lambda: streamer.stats().state == "degraded")
        assert "SQLITE_FULL" in streamer.stats().reason
        assert "free some room" in streamer.stats().reason
        with database.lock:
            database._connection().execute("PRAGMA max_page_count = 100000").fetchall()
        assert streamer.flush(10.0)
    assert ["StorageError", "NoneType"] == [type(change).__name__ for change in changes]
    assert list(range(1_000)) == [row[2] for row in rows_of(path, "log")]


def test_a_full_disk_while_a_dead_letter_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLITE_FULL when the bad row is buried: nothing of the batch is committed; later all of it is, once."""
    monkeypatch.setattr(options, "RETRY_LAST", 0.05)
    path = tmp_path / "log.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("log", ["n", "text"], ["INTEGER", "VARCHAR"])
        bury, tries = streamer._database.bury, []

        def full(letters):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            tries.append(len(letters))
            bury(letters)
            if len(tries) < 3:
                connection = streamer._database._connection()
                ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
                connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
                try:
                    connection.execute("UPDATE log SET text = zeroblob(1000000)")
                finally:
                    connection.execute("PRAGMA max_page_count = 100000").fetchall()

        monkeypatch.setattr(streamer._database, "bury", full)
        with streamer._database.lock:
            streamer._database._connection().execute(
                "CREATE TRIGGER rule BEFORE INSERT ON log WHEN new.n = 3 BEGIN SELECT raise(ABORT, 'no threes'); END"
            )
        for number in range(6):
            streamer.storeData("log", 1.0, number, "x")
        assert streamer.flush(10.0)
        assert 3 == len(tries)
        ledger = streamer.stats().storages["log"]
        assert (6, 5, 1) == (ledger.accepted, ledger.committed, ledger.rejected)
    assert [0, 1, 2, 4, 5] == [row[2] for row in rows_of(path, "log")]
    assert [("log", "IntegrityError: no threes")] == query(path, "SELECT storage, reason FROM tsstreamer_dead")


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_a_sync_that_fails_in_the_commit_is_retried(tmp_path: Path) -> None:
    """The result of such a commit is unknown: the batch is written again in its place, so each row is there once."""
    source = """
import sys
from tsstreamer import SqliteDataStreamer
changes = []
streamer = SqliteDataStreamer("log.db", synchronous="FULL", onError=changes.append, flushInterval=0)
streamer.addStorage("log", ["n"], ["INTEGER"])
for n in range(20):
    streamer.storeData("log", 1.0, n)
    assert streamer.flush(20)
assert streamer.close().stored == 20
names = [type(change).__name__ for change in changes]
assert names and names == ["StorageError", "NoneType"] * (len(names) // 2), names
assert "FSYNC" in str(changes[0]), changes
"""
    inject = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=10+7"]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", *inject, sys.executable, "-W", "error", "-c", source]
    probe = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)  # noqa: S607
    if probe.returncode:
        pytest.skip("strace may not trace here")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert list(range(20)) == [row[2] for row in rows_of(tmp_path / "log.db", "log")]
    assert_intact(tmp_path / "log.db")
