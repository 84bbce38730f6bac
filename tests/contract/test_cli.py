"""The commands `record`, `tail`, `dead`, `verify` and `info`, run as processes of their own."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.commands import COMMAND, SCRIPT, read_until, run, start
from tests.support import rows_of, run_python, wait_until, write_lock
from tsstreamer import SqliteDataStreamer
from tsstreamer._audit import verify
from tsstreamer._inspect import Database
from tsstreamer.testing import RecordingMessenger


def lines_of(path: Path, key: str = "lines") -> list[str]:
    """Read the recorded lines."""
    return [row[2] for row in rows_of(path, key)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a database with a storage ``k`` of five rows and a stream that has sent them."""
    path = tmp_path / "x.db"
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("k", ["n", "text"], ["INTEGER", "VARCHAR"])
        for number in range(1, 6):
            streamer.storeData("k", 1_000_000_000 + number / 4, number, f"row {number}")
        streamer.stream("k", ["node"], [], ["log"], 1.0, name="out")
        streamer.doUpdates(0.0, RecordingMessenger())
    return path


def change(path: Path, *statements: str) -> None:
    """Change the database as another program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


# --- record -----------------------------------------------------------------------------------------------------------


def test_record_stores_each_line(tmp_path: Path) -> None:
    """Every line becomes a row, in order: empty ones, one without newline, carriage returns, odd bytes and NUL too."""
    before = time.time()
    done = run("record", "x.db", "lines", cwd=tmp_path, data=b"one\n\n  two\r\n\xff\xc3\xa4\na\0b\nlast")
    assert (0, b"") == (done.returncode, done.stdout)
    assert ["one", "", "  two\r", "\\xffä", "a\0b", "last"] == lines_of(tmp_path / "x.db")
    assert all(before <= row[1] <= time.time() for row in rows_of(tmp_path / "x.db", "lines"))
    assert b"tsstreamer record: 6 lines in " in done.stderr


def test_record_appends(tmp_path: Path) -> None:
    """A second run adds to what the first has stored, and an empty input adds nothing."""
    for data in (b"one\n", b"", b"two\n"):
        assert 0 == run("record", "x.db", "lines", cwd=tmp_path, data=data).returncode
    assert [(1, "one"), (2, "two")] == [(row[0], row[2]) for row in rows_of(tmp_path / "x.db", "lines")]


def test_record_keeps_up_with_a_fast_producer(tmp_path: Path) -> None:
    """400 000 lines through a pipe, more than may wait in memory, are all stored, once, in order."""
    done = run("record", "x.db", "lines", cwd=tmp_path, data=b"".join(b"%d\n" % n for n in range(400_000)))
    assert 0 == done.returncode, done.stderr
    assert [str(n) for n in range(400_000)] == lines_of(tmp_path / "x.db")


def test_record_stores_endless_lines_in_pieces(tmp_path: Path) -> None:
    """A line that is too long for memory is stored in pieces, and nothing of it is lost."""
    done = run("record", "x.db", "lines", cwd=tmp_path, data=b"x" * 20_000_000 + b"\nshort\n")
    assert 0 == done.returncode, done.stderr
    *pieces, short = lines_of(tmp_path / "x.db")
    assert (2, 20_000_000, "short") == (len(pieces), len("".join(pieces)), short)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_record_stores_what_was_written_before_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and SIGHUP end it although the producer goes on; what was in the pipe is stored first."""
    with start("record", "x.db", "lines", cwd=tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write(b"first\n")
        wait_until(lambda: (tmp_path / "x.db").exists() and stored(tmp_path / "x.db"))
        process.stdin.write(b"one\ntwo\nlast")
        for _ in range(5):  # a terminal and a launcher may both send it, one soon after the other
            process.send_signal(number)
            time.sleep(0.02)
        assert process.stderr is not None
        summary = read_until(process.stderr, b"into 'lines' of x.db\n")
        assert 128 + number == process.wait(10)
    assert b"tsstreamer record: 4 lines in " in summary
    assert ["first", "one", "two", "last"] == lines_of(tmp_path / "x.db")


def stored(path: Path) -> bool:
    """Say whether the storage ``lines`` is there and holds a row."""
    try:
        return bool(rows_of(path, "lines"))
    except sqlite3.OperationalError:
        return False


def test_record_reads_the_last_words_of_its_producer(tmp_path: Path) -> None:
    """What the producer writes while the same Ctrl-C ends it is stored too."""
    with start("record", "x.db", "lines", cwd=tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write(b"first\n")
        wait_until(lambda: (tmp_path / "x.db").exists() and stored(tmp_path / "x.db"))
        process.send_signal(signal.SIGINT)
        process.stdin.write(b"interrupted\n")
        process.stdin.close()
        assert 130 == process.wait(10)
    assert ["first", "interrupted"] == lines_of(tmp_path / "x.db")


def test_record_ends_at_once_for_who_insists(tmp_path: Path) -> None:
    """While another process keeps the database locked it waits, and says so; repeated Ctrl-C ends it all the same."""
    with start("record", "x.db", "lines", cwd=tmp_path) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"first\n")
        wait_until(lambda: (tmp_path / "x.db").exists() and stored(tmp_path / "x.db"))
        with write_lock(tmp_path / "x.db"):
            process.stdin.write(b"second\n")
            read_until(process.stderr, b"(a second Ctrl-C gives up)")

            def insist() -> bool:
                process.send_signal(signal.SIGINT)
                time.sleep(0.1)
                return process.poll() is not None

            wait_until(insist)
        assert -signal.SIGINT == process.returncode
    assert ["first"] == lines_of(tmp_path / "x.db")


def test_record_refuses_other_columns(path: Path) -> None:
    """A storage with other columns is an error that shows both, and nothing is stored."""
    done = run("record", path, "k", cwd=path.parent, data=b"one\n")
    assert 2 == done.returncode
    assert b"line VARCHAR" in done.stderr
    assert b"n INTEGER, text VARCHAR" in done.stderr
    assert 1 == len(done.stderr.splitlines())
    assert 5 == len(rows_of(path, "k"))


def test_record_needs_an_input(tmp_path: Path) -> None:
    """A closed input is an error before anything is made; one that cannot be read is an error at the end."""
    done = run("record", "x.db", "lines", cwd=tmp_path, preexec_fn=lambda: os.close(0), stdin=None)
    assert (2, True) == (done.returncode, b"there is no standard input" in done.stderr)
    assert not (tmp_path / "x.db").exists()
    with Path(os.devnull).open("wb") as output:
        done = run("record", "x.db", "lines", cwd=tmp_path, stdin=output)
    assert (1, True) == (done.returncode, b"the input cannot be read: [Errno 9]" in done.stderr)


# --- tail -------------------------------------------------------------------------------------------------------------


def local(moment: float) -> str:
    """Format a time as the commands do."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) + f".{round(moment % 1 * 1000):03}"


def test_tail_shows_the_last_rows(path: Path) -> None:
    """The last rows come oldest first, one line each: id, local time, values, separated by tabs."""
    done = run("tail", path, "k", "-n", 2, cwd=path.parent)
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert (0, b"") == (done.returncode, done.stderr)
    assert [["4", "4", "row 4"], ["5", "5", "row 5"]] == [[line[0], *line[2:]] for line in lines]
    assert [local(1_000_000_001.0), local(1_000_000_001.25)] == [line[1][:23] for line in lines]


@pytest.mark.parametrize(
    ("rows", "expected"), [("0", []), ("3", [3, 4, 5]), ("99", [1, 2, 3, 4, 5]), (None, [1, 2, 3, 4, 5])]
)
def test_tail_shows_so_many_rows(path: Path, rows: str | None, expected: list[int]) -> None:
    """``-n`` bounds the rows; ten is the default."""
    done = run("tail", path, "k", *([] if rows is None else ["-n", rows]), cwd=path.parent)
    assert expected == [int(line.split(b"\t")[0]) for line in done.stdout.splitlines()]


def test_tail_filters(path: Path) -> None:
    """The last rows that pass the filter are shown, with and without a leading WHERE."""
    for condition in ("n % 2 = 1", "WHERE n % 2 = 1", "and n % 2 = 1 -- odd"):
        done = run("tail", path, "k", "-n", 2, "--filter", condition, cwd=path.parent)
        assert [b"3", b"5"] == [line.split(b"\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "condition", ["nosuch = 1", "1) OR (1", "n IN (SELECT id FROM tsstreamer_meta)", "1; DROP TABLE k"]
)
def test_tail_checks_the_filter(path: Path, condition: str) -> None:
    """What is no plain condition over the columns is refused in one line."""
    done = run("tail", path, "k", "--filter", condition, cwd=path.parent)
    assert (2, b"", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines()))
    assert 5 == len(rows_of(path, "k"))


def test_tail_keeps_a_row_on_its_line(path: Path) -> None:
    """Control characters, bytes, NULL and text that is not UTF-8 cannot break the line or reach the terminal."""
    change(
        path,
        "INSERT INTO k (time, n, text) VALUES (2.5, NULL, 'a' || char(9, 10, 27) || '[31m' || char(228))",
        "INSERT INTO k (time, n, text) VALUES ('soon', x'00ff', CAST(x'ff41' AS TEXT))",
        "INSERT INTO k (time, n, text) VALUES (9e99, 1, 'x')",
    )
    done = run("tail", path, "k", "-n", 3, cwd=path.parent)
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [["", "a\\t\\n\\x1b[31mä"], ["0x00ff", "\\xffA"], ["1", "x"]] == [line[2:] for line in lines]
    assert ["soon", "9e+99"] == [line[1] for line in lines[1:]]


def test_tail_follows(path: Path) -> None:
    """With ``-f`` rows are shown as they are committed, those that pass the filter; Ctrl-C ends it without a word."""
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("k", ["n", "text"], ["INTEGER", "VARCHAR"])
        with start("tail", path, "k", "-f", "-n", 1, "--filter", "n <> 7", cwd=path.parent) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            shown = read_until(process.stdout, b"row 5\n")
            for number in (6, 7, 8):
                streamer.storeData("k", 1.0, number, f"row {number}")
            shown += read_until(process.stdout, b"row 8\n")
            for number in range(1000, 3500):
                streamer.storeData("k", 1.0, number, f"row {number}")
            shown += read_until(process.stdout, b"row 3499\n")
            process.send_signal(signal.SIGINT)
            assert -signal.SIGINT == process.wait(10)
            assert b"" == process.stderr.read()
    assert [5, 6, 8, *range(1000, 3500)] == [int(line.split(b"\t")[2]) for line in shown.splitlines()]


def test_tail_follows_one_file(path: Path) -> None:
    """When the file is replaced by another, following ends with an error instead of showing nothing for ever."""
    with start("tail", path, "k", "-f", cwd=path.parent) as process:
        read_until(process.stdout, b"row 5\n")
        path.rename(path.with_suffix(".old"))
        assert 2 == process.wait(10)
        assert b"was deleted or replaced" in read_until(process.stderr, b"\n")


def test_tail_ends_with_its_reader(path: Path) -> None:
    """When the program that reads its output has seen enough, it ends without a word."""
    many = "WITH RECURSIVE c(x) AS (SELECT 6 UNION ALL SELECT x + 1 FROM c LIMIT 50000)"
    change(path, f"{many} INSERT INTO k SELECT x, 1.0, x, 'x' FROM c")
    with start("tail", path, "k", "-n", 60_000, cwd=path.parent) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        read_until(process.stdout, b"row 1\n")
        process.stdout.close()
        assert -signal.SIGPIPE == process.wait(10)
        assert b"" == process.stderr.read()


# --- dead, verify, info -----------------------------------------------------------------------------------------------


def test_dead_lists_refused_rows(path: Path) -> None:
    """A row that SQLite refused is listed with its storage, its time, the reason and its values."""
    assert b"" == run("dead", path, cwd=path.parent).stdout
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("k", ["n", "text"], ["INTEGER", "VARCHAR"])
        change(path, "CREATE TRIGGER t BEFORE INSERT ON k WHEN NEW.n = 13 BEGIN SELECT RAISE(ABORT, 'unlucky'); END")
        streamer.storeData("k", 1_000_000_000.0, 13, "a\nb")
    done = run("dead", path, cwd=path.parent)
    (line,) = done.stdout.decode().splitlines()
    assert 0 == done.returncode
    number, moment, storage, stream, row, reason, values = line.split("\t")
    assert ("1", local(1_000_000_000.0), "k", "", "") == (number, moment[:23], storage, stream, row)
    assert ("IntegrityError: unlucky", '[13, "a\\nb"]') == (reason, values)


def test_verify_is_content_with_a_sound_file(path: Path) -> None:
    """A file that was closed cleanly, and one that is being written, have no findings."""
    done = run("verify", path, cwd=path.parent)
    assert (0, b"", 1) == (done.returncode, done.stderr, len(done.stdout.splitlines()))
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("k", ["n", "text"], ["INTEGER", "VARCHAR"])
        with start("verify", path, cwd=path.parent) as process:
            while process.poll() is None:
                streamer.storeData("k", 1.0, 6, "row")
                time.sleep(0.001)
            assert 0 == process.returncode


def test_verify_sees_one_moment(path: Path) -> None:
    """Rows that are committed between two of its queries are not taken for a contradiction."""
    with SqliteDataStreamer(path) as streamer, closing(Database(str(path))) as database:
        streamer.addStorage("k", ["n", "text"], ["INTEGER", "VARCHAR"])
        query = database.query

        def query_later(*arguments: Any) -> list[Any]:
            streamer.storeData("k", 1.0, 6, "row")
            streamer.flush()
            return query(*arguments)

        vars(database)["query"] = query_later
        assert [] == list(verify(database))
    assert len(rows_of(path, "k")) > 10


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'k'", "ids: storage 'k' has a row with id 5"),
        ("INSERT INTO k VALUES (-1, 1.0, 1, 'x')", "ids: storage 'k' has a row with id -1"),
        ("UPDATE tsstreamer_streams SET position = 6", "stream 'out': its position is 6"),
        ("UPDATE tsstreamer_streams SET sequence = -1", "stream 'out': it has sent -1 messages"),
        ("UPDATE tsstreamer_streams SET inflight = '['", "stream 'out': its list of messages in flight"),
        ("UPDATE tsstreamer_streams SET storage = 'gone'", "stream 'out': its storage 'gone' does not exist"),
        ("DELETE FROM k WHERE id = 2", "ledger: storage 'k' committed 5 rows, but holds 4 and has deleted 0"),
        ("INSERT INTO k VALUES (9, 1.0, 1, 'x')", "ledger: storage 'k' committed 9 rows, but holds 6 and has deleted"),
        ("INSERT INTO tsstreamer_ledger VALUES ('k', 'deleted', -1)", "ledger: storage 'k' counts -1 rows as deleted"),
        ("INSERT INTO tsstreamer_ledger VALUES ('k', 'deletedUnsent', 1)", "ledger: storage 'k' deleted 0 rows, but 1"),
        ("INSERT INTO tsstreamer_ledger VALUES ('gone', 'committed', 1)", "ledger: it has entries of 'gone'"),
        ("UPDATE k SET time = 'soon' WHERE id = 1", "storage 'k': 1 rows have no number as their time"),
        ("DROP TABLE k", "storage 'k': its table is missing"),
    ],
)
def test_verify_finds_damage(path: Path, damage: str, finding: str) -> None:
    """Each kind of damage has a finding that names what is wrong and where."""
    change(path, damage)
    with closing(Database(str(path))) as database:
        assert [finding] == [line[: len(finding)] for line in verify(database) if line.startswith(finding)]


def test_verify_prints_a_line_for_each_finding(path: Path) -> None:
    """The command prints all findings on lines of their own, whatever the names hold, with exit status 1."""
    change(path, "DELETE FROM k WHERE id = 2", "UPDATE tsstreamer_streams SET storage = 'go' || char(10) || 'ne'")
    done = run("verify", path, cwd=path.parent)
    assert (1, b"") == (done.returncode, done.stderr)
    assert [b"ledger: storage 'k'", b"stream 'out': its s"] == [line[:19] for line in done.stdout.splitlines()]


def test_verify_finds_damaged_pages(path: Path) -> None:
    """Pages with other bytes than SQLite wrote are findings, not a traceback."""
    change(path, "CREATE TABLE filler AS SELECT hex(randomblob(400)) FROM k, k, k")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 8192)
        file.write(b"\xa5" * 8192)
    done = run("verify", path, cwd=path.parent)
    assert (1, b"") == (done.returncode, done.stderr)
    assert all(line.startswith(b"integrity: ") for line in done.stdout.splitlines())


def test_info_describes_the_file(path: Path) -> None:
    """Storages with rows, times, columns and ledger, streams with position and lag, dead letters: all are there."""
    change(path, "INSERT INTO k (time, n, text) VALUES (1000000009.5, 6, 'row 6')")
    done = run("info", path, cwd=path.parent)
    text = done.stdout.decode()
    assert (0, b"") == (done.returncode, done.stderr)
    for part in (
        "epoch 1, closed cleanly\n",
        "storage k: 6 rows, ids 1 to 6\n",
        f"  time {local(1_000_000_000.25)}",
        f" to {local(1_000_000_009.5)}",
        "  columns id INTEGER, time REAL, n INTEGER, text VARCHAR\n",
        "  ledger committed 6\n",
        "stream out of k: 1 messages, position 5\n  1 rows after its position, ",
        "dead letters: none\n",
    ):
        assert part in text


def test_info_tells_what_is_kept(tmp_path: Path) -> None:
    """Bounds of retention, an empty storage and a file in use are described, too."""
    with SqliteDataStreamer(tmp_path / "x.db") as streamer:
        streamer.addStorage("both", ["v"], ["INTEGER"], maxAge=60.0, maxRows=1000)
        streamer.addStorage("one", ["v"], ["INTEGER"], maxRows=5, keepUnsent=False)
        text = run("info", "x.db", cwd=tmp_path).stdout.decode()
    assert "in use, or not closed cleanly\n" in text
    assert "storage both: 0 rows\n" in text
    assert "  keeps at most 60 s and 1,000 rows, and what a stream has still to send\n" in text
    assert "  keeps at most 5 rows, sent or not\n" in text


# --- what cannot be done ----------------------------------------------------------------------------------------------

READERS = [["tail", "DB", "k"], ["dead", "DB"], ["verify", "DB"], ["info", "DB"]]


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_reading_commands_refuse_what_is_not_ours(tmp_path: Path, command: list[str]) -> None:
    """What is no file, no database or another program's gives one line each, and stays as it is."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no database\n" * 200)
    (tmp_path / "empty").touch()
    with closing(sqlite3.connect(tmp_path / "foreign")) as connection:
        connection.execute("CREATE TABLE k (id INTEGER PRIMARY KEY, time REAL)")
    reasons = {
        "missing": b"there is no such file",
        "folder": b"that is not a file",
        "text": b"[SQLITE_NOTADB]",
        "empty": b"not one that tsstreamer made",
        "foreign": b"not one that tsstreamer made",
        "no/folder/x": b"there is no such file",
    }
    before = sorted(tmp_path.iterdir())
    for name, reason in reasons.items():
        done = run(*(name if word == "DB" else word for word in command), cwd=tmp_path)
        (line,) = done.stderr.splitlines()
        assert (2, b"") == (done.returncode, done.stdout)
        assert f"tsstreamer {command[0]}: cannot read '{name}': ".encode() == line[: -len(line.split(b"': ", 1)[1])]
        assert reason in line
    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_reading_changes_nothing(tmp_path: Path, command: list[str]) -> None:
    """A database whose writer was killed stays as it was left, with its log, and is shown with what the log holds."""
    killed = """
import os, tsstreamer
streamer = tsstreamer.SqliteDataStreamer("DB")
streamer.addStorage("k", ["v"], ["INTEGER"])
for number in range(100):
    streamer.storeData("k", 1.0, number)
streamer.flush()
os._exit(0)
"""
    run_python(killed, cwd=tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ("DB", "DB-wal")}
    done = run(*command, cwd=tmp_path)
    assert (0, b"") == (done.returncode, done.stderr)
    assert before == {name: (tmp_path / name).read_bytes() for name in ("DB", "DB-wal")}


def test_an_unknown_storage_is_named_with_those_that_are_there(path: Path) -> None:
    """The text says which storages there are; the library's own tables are none."""
    for name in ("K2", "tsstreamer_meta"):
        done = run("tail", path, name, cwd=path.parent)
        assert (2, b"") == (done.returncode, done.stdout)
        assert f"holds no storage '{name}', only: 'k'\n".encode() in done.stderr


def test_another_schema_version_is_refused(path: Path) -> None:
    """A file that a later release has written is not guessed at."""
    change(path, "UPDATE tsstreamer_meta SET value = 99 WHERE name = 'schema'")
    done = run("info", path, cwd=path.parent)
    assert (2, True) == (done.returncode, b"its schema version is 99" in done.stderr)


def test_record_refuses_bad_places(tmp_path: Path) -> None:
    """A path that cannot be a database, and a name that cannot be a storage, give one line each."""
    (tmp_path / "text").write_text("no database\n" * 200)
    for arguments in (["no/folder/x.db", "k"], [".", "k"], ["text", "k"], ["x.db", "sqlite_x"], ["x.db", ""]):
        done = run("record", *arguments, cwd=tmp_path, data=b"one\n")
        assert (2, 1) == (done.returncode, len(done.stderr.splitlines())), done.stderr
        assert done.stderr.startswith(b"tsstreamer record: ")


@pytest.mark.parametrize(
    "arguments",
    [[], ["nosuch"], ["tail", "x.db"], ["tail", "x.db", "k", "-n", "-1"], ["tail", "x.db", "k", "-n", "x"],
     ["demo", "--seconds", "0"], ["demo", "--seconds", "nan"], ["demo", "--port", "70000"]],
)  # fmt: skip
def test_wrong_usage_is_explained(tmp_path: Path, arguments: list[str]) -> None:
    """Wrong arguments print how the command is used, with exit status 2, and make nothing."""
    done = run(*arguments, cwd=tmp_path)
    assert (2, b"") == (done.returncode, done.stdout)
    assert b"usage: tsstreamer" in done.stderr
    assert [] == list(tmp_path.iterdir())


def test_the_script_is_installed(tmp_path: Path) -> None:
    """The package brings the command ``tsstreamer``, which is the same as ``python -m tsstreamer``."""
    texts = [
        subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, timeout=30, check=True).stdout
        for command in ([SCRIPT], COMMAND)
    ]
    assert texts[0] == texts[1]
    assert texts[0].startswith(b"usage: tsstreamer")
