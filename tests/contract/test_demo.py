"""``tsstreamer demo``: its totals agree, it says so when they do not, and nothing of it outlives it."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands import SCRIPT, read_until, run, start
from tests.support import wait_until
from tsstreamer import SqliteDataStreamer

if TYPE_CHECKING:
    from collections.abc import Iterator


def children(parent: int) -> dict[int, str]:
    """Return the processes that `parent` has started, with what they are in the demo."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, state, ppid = re.fullmatch(
                r"(\d+) \(.*\) (\w) (\d+) .*", status.read_text().strip(), re.DOTALL
            ).groups()  # type: ignore[union-attr]
            arguments = status.with_name("cmdline").read_text().split("\0")
        except (OSError, AttributeError):
            continue  # it has just ended
        if int(ppid) == parent and state != "Z":
            found[int(number)] = next((word for word in arguments if word in {"listen", "ask"}), "?")
    return found


def alive(number: int) -> bool:
    """Say whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def totals(output: str) -> dict[str, list[int]]:
    """Return the numbers of the table's lines, by their first word."""
    return {
        words[0]: [int(word.replace(",", "")) for word in words[1:] if word[0].isdigit()]
        for words in map(str.split, output.splitlines())
        if words and words[0] in {"requests", "warnings"}
    }


def test_the_totals_agree(tmp_path: Path) -> None:
    """In a pipe: one line each second, totals that agree with plain sqlite3, exit status 0, and a database of them."""
    done = run("demo", "--seconds", "2", cwd=tmp_path)
    output = done.stdout.decode()
    assert (0, b"") == (done.returncode, done.stderr)
    assert re.search(r"^ +1\.\d s +[\d,]+ rows/s +\d+ pending +[\d,]+ committed +[\d,]+ sent$", output, re.MULTILINE)
    assert "\r" not in output
    found = totals(output)
    with closing(sqlite3.connect(tmp_path / "tsstreamer-demo.db")) as connection:
        query = (
            "SELECT count(*), sum(level >= 30), sum(exception LIKE '%ZeroDivisionError%' AND level = 40) FROM requests"
        )
        requests, warnings, errors = connection.execute(query).fetchone()
    assert {"requests": [requests] * 3, "warnings": [warnings] * 4} == found
    assert requests > warnings > errors > 0


def test_the_printed_commands_work(tmp_path: Path) -> None:
    """The three commands that the demo prints run as they are printed, from that folder, and show its rows."""
    done = run("demo", "--seconds", "0.5", cwd=tmp_path)
    commands = [
        line.strip() for line in done.stdout.decode().splitlines() if line.startswith("  ") and "demo.db" in line
    ]
    assert 3 == len(commands)
    outputs = [
        subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
        for command in commands
    ]
    rows = totals(done.stdout.decode())["requests"][0]
    assert f"storage requests: {rows:,} rows" in outputs[0].stdout
    assert 1 <= len(outputs[1].stdout.splitlines()) <= 5
    assert "20" in outputs[2].stdout
    assert [""] * 3 == [output.stderr for output in outputs]


@pytest.mark.parametrize("place", ["on the path", "beside", "elsewhere"])
def test_it_prints_the_command_that_was_used(tmp_path: Path, place: str) -> None:
    """The commands begin with ``tsstreamer`` if that finds the same script, otherwise with the shortest path to it."""
    folder = tmp_path / ".venv" / "bin" if place == "beside" else tmp_path / "other bin"
    folder.mkdir(parents=True)
    script = folder / "tsstreamer"
    script.symlink_to(SCRIPT)
    work = tmp_path if place == "beside" else tmp_path / "work"
    work.mkdir(exist_ok=True)
    search = f"{folder}:{os.defpath}" if place == "on the path" else os.defpath
    done = subprocess.run(
        [script, "demo", "--seconds", "0.2"],
        cwd=work,
        env=os.environ | {"PATH": search},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    expected = {"on the path": "tsstreamer", "beside": ".venv/bin/tsstreamer", "elsewhere": f"'{script}'"}[place]
    assert f"  {expected} info tsstreamer-demo.db\n" in done.stdout


def test_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    """The database of an earlier demo, also of one that was killed, is replaced, and the demo says so."""
    with start("demo", "--seconds", "60", cwd=tmp_path) as process:
        read_until(process.stdout, b"committed")
        process.kill()
    done = run("demo", "--seconds", "0.2", cwd=tmp_path)
    assert (0, True) == (done.returncode, b"replaced tsstreamer-demo.db of an earlier demo\n" in done.stdout)


def test_another_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    """A file that is not an earlier demo's is not touched."""
    path = tmp_path / "tsstreamer-demo.db"
    for make in (make_notes, make_foreign, make_storage):
        make(path)
        before = path.read_bytes()
        done = run("demo", "--seconds", "0.2", cwd=tmp_path)
        assert (2, before) == (done.returncode, path.read_bytes())
        assert b"not from an earlier demo" in done.stderr
        assert 1 == len(done.stderr.splitlines())
        path.unlink()


def make_notes(path: Path) -> None:
    """Make a file that is no database."""
    path.write_text("my notes\n")


def make_foreign(path: Path) -> None:
    """Make a database of another program."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE requests (x)")


def make_storage(path: Path) -> None:
    """Make a database of this package that is not the demo's."""
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("mine", ["v"], ["INTEGER"])


def test_a_running_demo_keeps_its_file(tmp_path: Path) -> None:
    """A second demo in the same folder is refused while the first runs, which goes on and is right in the end."""
    with start("demo", "--seconds", "60", cwd=tmp_path) as process:
        read_until(process.stdout, b"committed")
        done = run("demo", "--seconds", "0.2", cwd=tmp_path)
        assert (2, True) == (done.returncode, b"cannot be replaced, another program has it open" in done.stderr)
        process.send_signal(signal.SIGINT)
        assert 130 == process.wait(20)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """A port in use is an error of one line; nothing is made and nothing is left running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("demo", "--port", taken.getsockname()[1], cwd=tmp_path)
    assert (2, True) == (done.returncode, b"Address already in use" in done.stderr)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["at once", "under load"])
def test_a_signal_ends_it_with_its_totals(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    """Ctrl-C and SIGTERM cut the load short; the totals agree, the status says which signal, no process is left."""
    with start("demo", "--seconds", "60", cwd=tmp_path) as process:
        assert process.stderr is not None
        read_until(process.stdout, b"load http" if moment == "at once" else b"committed")
        process.send_signal(number)
        output = read_until(process.stdout, b"GROUP BY").decode()
        offspring = children(process.pid)
        assert 128 + number == process.wait(20)
        assert b"" == process.stderr.read()
    found = totals(output)
    assert [1, 1] == [len(set(counts)) for counts in found.values()]
    assert not any(map(alive, offspring))


def test_a_reader_that_goes_away_ends_it(tmp_path: Path) -> None:
    """When nobody reads the output any more the demo ends, without a traceback and without leaving a process."""
    with start("demo", "--seconds", "60", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        read_until(process.stdout, b"committed")
        offspring = children(process.pid)
        process.stdout.close()
        assert 128 + signal.SIGPIPE == process.wait(20)
        assert b"" == process.stderr.read()
    assert not any(map(alive, offspring))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[int, str]]]:
    """Start a demo, and give it and its children when it is under load."""
    with start("demo", "--seconds", "60", cwd=tmp_path) as process:
        read_until(process.stdout, b"committed")
        offspring = children(process.pid)
        assert ["ask", "ask", "listen"] == sorted(offspring.values())
        yield process, offspring


def test_children_do_not_outlive_a_killed_demo(running: tuple[subprocess.Popen[bytes], dict[int, str]]) -> None:
    """When the demo is killed without a chance to say goodbye, its listener and clients end by themselves."""
    process, offspring = running
    process.kill()
    wait_until(lambda: not any(map(alive, offspring)), 20)


@pytest.mark.parametrize("role", ["listen", "ask"])
def test_a_lost_process_is_noticed(running: tuple[subprocess.Popen[bytes], dict[int, str]], role: str) -> None:
    """If the listener or a client is killed, totals are missing, and the demo says so with exit status 1."""
    process, offspring = running
    os.kill(next(number for number, found in offspring.items() if found == role), signal.SIGKILL)
    time.sleep(0.5)  # some more load without it; what is tested is the end, which does not depend on this
    process.send_signal(signal.SIGINT)
    output = read_until(process.stdout, b"\nwarnings").decode() + read_until(process.stdout, b"\n").decode()
    assert 1 == process.wait(40)
    assert "NOT EQUAL" in output
    assert not any(map(alive, offspring))


def test_on_a_terminal_one_line_changes(tmp_path: Path) -> None:
    """On a terminal the progress is written over itself and never wraps; Ctrl-C there reaches the demo only."""
    number, terminal = pty.fork()
    if number == 0:
        os.chdir(tmp_path)
        os.execv(SCRIPT, [str(SCRIPT), "demo", "--seconds", "60"])  # noqa: S606  (ourselves)
    try:
        text = read_until(terminal, b"committed")
        os.write(terminal, b"\x03")
        while True:
            try:
                text += os.read(terminal, 65_536)
            except OSError:  # how Linux says that nobody has the terminal any more
                break
        assert 130 == os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    finally:
        os.close(terminal)
    progress, rest = text.split(b"counted by", 1)
    assert re.search(rb"\r[^\n]", progress)
    assert b"committed" not in b"".join(progress.split(b"\n")[:-2])
    assert all(len(part.split(b"\x1b")[0]) < 80 for part in progress.split(b"\n")[-2].split(b"\r"))
    assert b"NOT EQUAL" not in rest
    assert 2 == rest.count(b"equal")
