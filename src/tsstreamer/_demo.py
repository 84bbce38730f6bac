"""``tsstreamer demo``: the main job on real records, and the proof that none of them was lost.

A web server of the standard library answers real clients in other processes. Each of its threads logs its requests
through `SqliteLogHandler`; a stream sends the warnings to a listener in another process. At the end three counts that
know nothing of each other must agree: what the clients saw and the server's threads counted, what plain `sqlite3`
finds, what the listener got.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import sqlite3
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import TYPE_CHECKING

from tsstreamer import SqliteLogHandler, StorageError
from tsstreamer._demo_child import END_SECONDS, Child, Listener
from tsstreamer._signals import EndSignals

if TYPE_CHECKING:
    from collections.abc import Callable

    from tsstreamer import SqliteDataStreamer

_FILE = "tsstreamer-demo.db"
_KEY = "requests"
_STREAM = "warnings"
_FILTER = "level >= 30"
_PERIOD_SECONDS = 0.2
_CLIENTS = 2
_CONNECTIONS = 4
"""For each client process: enough to keep two processors busy, and no more threads in the server than that."""

_log = logging.getLogger("webserver")


def demo(seconds: float, port: int) -> int:
    """Run the load for so many seconds, then print the totals and what to do next.

    Returns:
        0 if the totals agree, 1 if not; 128 + n if they agree but signal n cut the load short.

    Raises:
        StorageError: The database in the current folder is not an earlier demo's, is in use, or cannot be made.
        OSError: The port is taken.
    """
    with EndSignals() as signals, ExitStack() as stack:
        server = stack.enter_context(_Server(("127.0.0.1", port), _Handler))
        _remove_earlier()
        listener = stack.enter_context(Listener("listen"))
        handler = SqliteLogHandler(_FILE, _KEY)
        stack.callback(handler.close)
        _log.addHandler(handler)
        stack.callback(_log.removeHandler, handler)
        _log.setLevel(logging.INFO)
        _log.propagate = False
        handler.streamer.stream(_KEY, ["listener"], [], ["log"], _PERIOD_SECONDS, sqlfilter=_FILTER, name=_STREAM)
        handler.streamer.startUpdates(listener)
        threading.Thread(target=server.serve_forever, args=(0.05,), name="server", daemon=True).start()
        stack.callback(server.shutdown)
        print(f"{_CLIENTS} processes with {_CONNECTIONS} connections each load http://127.0.0.1:{server.server_port}")
        clients = [
            stack.enter_context(Child("ask", server.server_port, _CONNECTIONS, number)) for number in range(_CLIENTS)
        ]
        ready_by = time.monotonic() + END_SECONDS
        while not server.records and time.monotonic() < ready_by and not signals.wait(0.02):
            pass  # the clients are starting
        _watch(handler.streamer, seconds, signals)
        answered = sum((Counter(client.end()) for client in clients), Counter())
        server.shutdown()
        server.server_close()  # waits for its threads
        handler.close()
        received = listener.end()
        agreed = _report(answered, server, received.get("rows"))
        if not server.records and not signals.number:
            print("there was no load: the clients have reached nothing")
            agreed = False
    if agreed:
        _print_commands()
    return signals.status() if agreed else 1


def _remove_earlier() -> None:
    path = Path(_FILE)
    if not path.exists():
        return
    place = path.resolve().as_uri()
    try:
        with closing(sqlite3.connect(f"{place}?mode=ro", uri=True)) as connection:
            keys = {key for (key,) in connection.execute("SELECT key FROM tsstreamer_storages")}
    except sqlite3.Error as error:
        raise _not_ours() from error
    if not keys <= {_KEY}:
        raise _not_ours()
    try:
        with closing(sqlite3.connect(f"{place}?mode=rw", uri=True, timeout=0.0)) as connection:
            # SQLite refuses to leave WAL as long as anybody else has the file open, even if he does nothing with it.
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        message = f"{_FILE} of an earlier demo cannot be replaced, another program has it open: {error}"
        raise StorageError(message) from error
    for suffix in ("", "-wal", "-shm"):
        Path(_FILE + suffix).unlink(missing_ok=True)
    print(f"replaced {_FILE} of an earlier demo")


def _not_ours() -> StorageError:
    return StorageError(
        f"{_FILE} in this folder is not from an earlier demo: move it away, or start the demo elsewhere"
    )


def _watch(streamer: SqliteDataStreamer, seconds: float, signals: EndSignals) -> None:
    """Show the progress until the time is over or a signal has come: in one changing line, or a line each second."""
    terminal = sys.stdout.isatty()
    pause = 0.2 if terminal else 1.0
    begun = before = time.monotonic()
    accepted = 0
    ended = False
    while not ended:
        ended = signals.wait(min(pause, begun + seconds - time.monotonic())) or time.monotonic() >= begun + seconds
        stats = streamer.stats()
        storage, stream = stats.storages[_KEY], stats.streams[_STREAM]
        now = time.monotonic()
        rate = (storage.accepted - accepted) / (now - before)
        before, accepted = now, storage.accepted
        line = (
            f"{now - begun:6.1f} s {rate:8,.0f} rows/s {storage.pending:6,} pending {storage.committed:10,} committed"
        )
        line += f" {stream.sentRows:8,} sent"
        if terminal:
            # The rest of the line is cleared; a line that wraps could not be overwritten.
            print("\r" + line[: shutil.get_terminal_size().columns - 1], end="\x1b[K", flush=True)
        else:
            print(line, flush=True)
    if terminal:
        print()


def _report(answered: Counter[str], server: _Server, received: int | None) -> bool:
    with closing(sqlite3.connect(_FILE)) as connection:
        stored = connection.execute(f"SELECT count(*), count(*) FILTER (WHERE {_FILTER}) FROM {_KEY}").fetchone()  # noqa: S608
    fine = answered[str(HTTPStatus.OK.value)]
    rows: list[tuple[str, list[int | None]]] = [
        ("requests", [answered.total(), server.records, stored[0]]),
        ("warnings", [answered.total() - fine, server.warnings, stored[1], received]),
    ]
    print(f"{'counted by':<12}{'the clients':>14}{'the server':>14}{'sqlite3':>14}{'the listener':>14}")
    for name, counts in rows:
        cells = [*("?" if count is None else f"{count:,}" for count in counts), ""][:4]
        verdict = "equal" if len(set(counts)) == 1 else "NOT EQUAL"
        print(f"{name:<12}" + "".join(f"{cell:>14}" for cell in cells) + f"   {verdict}")
    return all(len(set(counts)) == 1 for _, counts in rows)


def _print_commands() -> None:
    command = _command()
    query = shlex.quote(f"SELECT level, count(*) FROM {_KEY} GROUP BY level")  # noqa: S608  (shown, not run)
    plain = f"sqlite3 {_FILE} {query}"
    if shutil.which("sqlite3") is None:
        script = f"import sqlite3, sys; print(*sqlite3.connect('{_FILE}').execute(sys.argv[1]), sep='\\n')"
        plain = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} {query}"
    print(f"the rows are in {_FILE}; go on with")
    print(f"  {command} info {_FILE}")
    print(f"  {command} tail {_FILE} {_KEY} -n 5 --filter {shlex.quote(_FILTER)}")
    print(f"  {plain}")


def _command() -> str:
    """Return what the user must type to call this command from the current folder."""
    script = Path(sys.argv[0])
    if script.name != "tsstreamer" or not script.is_file():
        return f"{shlex.quote(sys.executable)} -m tsstreamer"
    found = shutil.which("tsstreamer")
    if found is not None and script.samefile(found):
        return "tsstreamer"
    path = script.absolute()
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


class _Server(ThreadingHTTPServer):
    """The web server; counts by itself what its threads log."""

    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._counting = threading.Lock()
        self.records = 0
        self.warnings = 0
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the DNS for the name of the address, which can take long where there is none.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def count(self, level: int) -> None:
        with self._counting:
            self.records += 1
            self.warnings += level >= logging.WARNING


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection in a thread of its own, and logs each request."""

    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True  # answers are short, and the client waits for each

    def do_GET(self) -> None:
        try:
            text = _PAGES[self.path]()
        except KeyError:
            self._answer(HTTPStatus.NOT_FOUND, "no such page\n")
        except Exception:  # noqa: BLE001  (as web servers do: the next request may do better)
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "the page is broken\n")
        else:
            self._answer(HTTPStatus.OK, text)

    def _answer(self, status: HTTPStatus, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002  (http.server's signature)
        broken = code == HTTPStatus.INTERNAL_SERVER_ERROR
        level = logging.ERROR if broken else logging.INFO if code == HTTPStatus.OK else logging.WARNING
        self.server.count(level)
        _log.log(level, "%s from port %d: %d", self.requestline, self.client_address[1], code, exc_info=broken)


_PAGES: dict[str, Callable[[], str]] = {"/fine": lambda: "fine\n", "/broken": lambda: str(1 // 0)}
