"""The command ``tsstreamer``: reads its arguments, and turns what goes wrong into one line and an exit status.

Exit status: 0 all is well; 1 something was found or lost; 2 the command could not be carried out as it was given;
128 + n ended by signal n.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from contextlib import closing
from io import TextIOWrapper
from typing import TYPE_CHECKING

from tsstreamer import TsStreamerError, _audit, _inspect
from tsstreamer._record import record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MOST_PORT = 65_535


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments`, those of the process unless given; return its exit status."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # None where it was closed
            stream.reconfigure(errors="backslashreplace")  # for what the terminal cannot show
    try:
        status: int = options.run(options)
    except BrokenPipeError:
        # Nobody reads the output any more; Python must not try to write the rest of it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (TsStreamerError, ValueError, OSError) as error:
        print(f"tsstreamer {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tsstreamer", description="Stores timestamped rows in SQLite and streams them; see what it stored."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], text: str, *, storage: bool = False
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if name != "demo":
            command.add_argument("db", metavar="DB", help="path of the database")
        if storage:
            command.add_argument(
                "storage", metavar="STORAGE", help="key of the storage, which is the name of its table"
            )
        return command

    command = add(
        "demo", _demo, "Log and stream the requests of a web server under load, then prove that nothing was lost."
    )
    command.add_argument("--seconds", type=_seconds, default=5.0, help="how long the load lasts (default: 5)")
    command.add_argument(
        "--port", type=_port, default=0, help="port of the web server on loopback (default: any free one)"
    )
    add("record", _record, "Store each line of standard input, with the time at which it was read.", storage=True)
    command = add("tail", _tail, "Show the last rows of a storage, separated by tabs: id, time, values.", storage=True)
    command.add_argument("-f", "--follow", action="store_true", help="go on with new rows until interrupted")
    command.add_argument(
        "-n", "--rows", type=_count, default=10, metavar="N", help="how many rows to begin with (default: 10)"
    )
    command.add_argument(
        "--filter", default="", metavar="SQL", help="show only rows that meet a condition, such as 'level >= 30'"
    )
    add(
        "dead",
        _dead,
        "List the rows that SQLite or a formatter refused: id, time, storage, stream, row id, reason, values.",
    )
    add("verify", _verify, "Check the file, its ids, the positions of its streams and its ledger; say what is wrong.")
    add("info", _info, "Describe storages, streams, dead letters and sizes.")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        message = f"must be a positive number of seconds, got {text}"
        raise argparse.ArgumentTypeError(message)
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= _MOST_PORT:
        message = f"must be from 0 to {_MOST_PORT}, got {text}"
        raise argparse.ArgumentTypeError(message)
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        message = f"must not be negative, got {text}"
        raise argparse.ArgumentTypeError(message)
    return value


def _demo(options: argparse.Namespace) -> int:
    from tsstreamer._demo import demo  # noqa: PLC0415  (a web server and YAML, which no other command needs)

    return demo(options.seconds, options.port)


def _record(options: argparse.Namespace) -> int:
    if sys.stdin is None:
        message = "there is no standard input to record: give it one with a pipe or <"
        raise ValueError(message)
    return record(options.db, options.storage, sys.stdin.fileno())


def _tail(options: argparse.Namespace) -> int:
    with closing(_open(options)) as database:
        if sys.stdout.isatty():
            print(*(name for name, _ in database.columns(options.storage)), sep="\t")
        for rows in _inspect.tail(database, options.storage, options.rows, options.filter, follow=options.follow):
            for number, timestamp, *values in rows:
                print(number, _inspect.show_time(timestamp), *map(_inspect.show, values), sep="\t")
            sys.stdout.flush()
    return 0


def _dead(options: argparse.Namespace) -> int:
    with closing(_open(options)) as database:
        for number, timestamp, *values in _inspect.dead(database):
            print(number, _inspect.show_time(timestamp), *map(_inspect.show, values), sep="\t")
    return 0


def _verify(options: argparse.Namespace) -> int:
    with closing(_open(options)) as database:
        findings = list(_audit.verify(database))
        storages = ", ".join(map(_inspect.show, database.storages()))
    for finding in findings:
        print(_inspect.show(finding))
    if not findings:
        print(
            f"{options.db}: integrity, ids, positions and ledger are as they should be; storages: {storages or 'none'}"
        )
    return 1 if findings else 0


def _info(options: argparse.Namespace) -> int:
    with closing(_open(options)) as database:
        for line in _audit.info(database, time.time()):
            print(line)
    return 0


def _open(options: argparse.Namespace) -> _inspect.Database:
    # These commands change nothing, so the signals may simply end them: Ctrl-C in a long query, a pipe that was closed.
    for number in (signal.SIGINT, signal.SIGPIPE):
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGPIPE:  # Python itself ignores SIGPIPE
            signal.signal(number, signal.SIG_DFL)
    return _inspect.Database(options.db)
