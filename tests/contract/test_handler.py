"""`SqliteLogHandler`: what it stores, what it leaves to `handleError`, and when what it took is in the file."""

from __future__ import annotations

import logging
import logging.config
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import KEYS, rows_of, run_python, wait_until, write_lock
from tsstreamer import (
    BufferFullError,
    SchemaMismatchError,
    SqliteDataStreamer,
    SqliteLogHandler,
    StreamerClosedError,
    TsStreamerError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class NotingHandler(SqliteLogHandler):
    """Notes what goes to handleError instead of printing it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.errors: list[BaseException | None] = []

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  (logging's name)
        self.errors.append(sys.exc_info()[1])


@contextmanager
def logging_to(handler: logging.Handler, name: str = "agent") -> Iterator[logging.Logger]:
    """Give a logger that logs to `handler` only; close the handler at the end."""
    logger = logging.Logger(name)  # noqa: LOG001  (getLogger keeps loggers for ever)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()


def record_of(msg: object) -> logging.LogRecord:
    """Make a record past the loggers: those of Python 3.13.4 and 3.13.5 ignore what is logged while they log."""
    return logging.LogRecord("agent", logging.INFO, "f.py", 1, msg, None, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database is to be."""
    return tmp_path / "log.db"


def test_a_record_is_stored_in_seven_columns(path: Path) -> None:
    """The row has the record's time, name, thread, level, file and line, the message with arguments, no exception."""
    records: list[logging.LogRecord] = []
    handler = SqliteLogHandler(path)
    handler.addFilter(lambda record: not records.append(record))  # type: ignore[func-returns-value]
    with logging_to(handler) as logger:
        logger.warning("disk %s is %d %% full", "/var", 93)
    (record,) = records
    values = ("agent", "MainThread", 30, "test_handler.py", record.lineno, "disk /var is 93 % full", None)
    assert [(1, record.created, *values)] == rows_of(path, "logkey")


def test_the_columns_are_the_documented_ones(path: Path) -> None:
    """A program that adds the storage of the documented example finds the handler's rows in it."""
    SqliteLogHandler(path).close()
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage(
            "logkey", KEYS, ["VARCHAR", "VARCHAR", "INTEGER", "VARCHAR", "INTEGER", "VARCHAR", "VARCHAR"]
        )


def test_the_exception_is_stored_with_its_traceback(path: Path) -> None:
    """The column ``exception`` holds the traceback, and then the stack where one was asked for."""
    with logging_to(SqliteLogHandler(path)) as logger:
        try:
            int("x")
        except ValueError:
            logger.exception("failed")
        logger.info("here", stack_info=True)
    first, second = [row[-1] for row in rows_of(path, "logkey")]
    assert "Traceback (most recent call last):" == first.splitlines()[0]
    assert "ValueError: invalid literal for int() with base 10: 'x'" == first.splitlines()[-1]
    assert "Stack (most recent call last):" == second.splitlines()[0]


def test_a_formatter_shapes_tracebacks_only(path: Path) -> None:
    """The handler's formatter makes the text of exceptions; messages and other handlers' texts stay as they are."""

    class Short(logging.Formatter):
        def formatException(self, ei: Any) -> str:  # noqa: N802  (logging's name)
            return f"!{ei[0].__name__}"

    handler = SqliteLogHandler(path)
    handler.setFormatter(Short("%(asctime)s %(message)s"))
    record = logging.LogRecord("agent", 40, "f.py", 1, "failed", None, (ValueError, ValueError("x"), None))
    handler.handle(record)
    handler.close()
    assert ("failed", "!ValueError") == rows_of(path, "logkey")[0][-2:]
    assert record.exc_text is None


def test_a_traceback_that_is_text_already_is_kept(path: Path) -> None:
    """A record whose exception came as text only, as through a pickle, is stored with that text."""
    record = logging.makeLogRecord({"name": "far", "levelno": 40, "msg": "failed", "exc_text": "Traceback of another"})
    handler = SqliteLogHandler(path)
    handler.handle(record)
    handler.close()
    assert "Traceback of another" == rows_of(path, "logkey")[0][-1]


def test_dict_config_makes_one(path: Path) -> None:
    """`logging.config.dictConfig` passes key, level, retention and the streamer's options on."""
    handler = {
        "class": "tsstreamer.SqliteLogHandler",
        "sqlitename": str(path),
        "key": "applog",
        "level": "WARNING",
        "maxRows": 1000,
        "flushInterval": 0.01,
        "overflow": "dropOldest",
    }
    name = "tests.handler.config"
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"db": handler},
        "loggers": {name: {"handlers": ["db"], "level": "DEBUG", "propagate": False}},
    })  # fmt: skip
    logger = logging.getLogger(name)
    (made,) = logger.handlers
    logger.info("too low")
    logger.warning("stored")
    logger.removeHandler(made)
    made.close()
    assert ["stored"] == [row[-2] for row in rows_of(path, "applog")]


def test_a_shared_streamer_stays_open(path: Path) -> None:
    """Closing the handler commits its rows, but closes only a streamer that it has opened itself."""
    with SqliteDataStreamer(path, flushInterval=30.0) as streamer:
        with logging_to(SqliteLogHandler(key="applog", streamer=streamer)) as logger:
            logger.error("one")
        assert ["one"] == [row[-2] for row in rows_of(path, "applog")]
        assert "running" == streamer.stats().state
    owned = SqliteLogHandler(path)
    owned.close()
    owned.close()
    assert "closed" == owned.streamer.stats().state


@pytest.mark.parametrize("arguments", ["nothing", "both", "options of an open streamer"])
def test_it_needs_one_streamer(path: Path, arguments: str) -> None:
    """Neither a path nor a streamer, both, or options for a streamer that is open already is a TypeError."""
    with SqliteDataStreamer(path) as streamer:
        given: dict[str, Any] = {
            "nothing": {},
            "both": {"sqlitename": path, "streamer": streamer},
            "options of an open streamer": {"streamer": streamer, "maxPending": 5},
        }[arguments]
        with pytest.raises(TypeError, match=r"needs either sqlitename=|options belong to the call.*maxPending"):
            SqliteLogHandler(**given)


def test_other_columns_leave_nothing_open(path: Path) -> None:
    """A storage with other columns is refused, and the streamer that was opened for it is closed again."""
    with SqliteDataStreamer(path) as streamer:
        streamer.addStorage("logkey", ["v"], ["INTEGER"])
    with pytest.raises(SchemaMismatchError):
        SqliteLogHandler(path)


def test_it_never_logs_into_itself(path: Path) -> None:
    """Records of the logger ``tsstreamer`` and of those below it are not stored; a name that only begins so is."""
    handler = SqliteLogHandler(path)
    for name in ("tsstreamer", "tsstreamer.writer", "tsstreamers"):
        handler.handle(logging.LogRecord(name, 30, "f.py", 1, "hello", None, None))
    handler.close()
    assert ["tsstreamers"] == [row[2] for row in rows_of(path, "logkey")]


def test_a_record_made_while_another_is_formatted_is_stored(path: Path) -> None:
    """An argument that logs while it becomes text, as a finalizer or signal handler may, costs no record."""

    class Chatty:
        def __str__(self) -> str:
            handler.handle(record_of("inner"))
            return "me"

    handler = SqliteLogHandler(path)
    with logging_to(handler) as logger:
        logger.info("outer %s", Chatty())
    assert ["inner", "outer me"] == [row[-2] for row in rows_of(path, "logkey")]


def test_a_record_that_logs_itself_ends(path: Path) -> None:
    """A message whose text logs the same message again ends in one call of handleError, and the program goes on."""

    class Endless:
        def __str__(self) -> str:
            handler.handle(record_of(self))
            return "me"

    handler = NotingHandler(path)
    with logging_to(handler) as logger:
        logger.info(Endless())
        logger.info("and on")
    assert [TsStreamerError] == [type(error) for error in handler.errors]
    assert "seems to log itself" in str(handler.errors[0])
    assert ["me", "me", "me", "and on"] == [row[-2] for row in rows_of(path, "logkey")]


def test_what_cannot_be_stored_goes_to_handle_error(path: Path) -> None:
    """Wrong arguments, an argument without a text and a value that SQLite cannot hold cost their own records only."""

    class Mute:
        def __str__(self) -> str:
            message = "no text"
            raise LookupError(message)

    handler = NotingHandler(path)
    with logging_to(handler) as logger:
        logger.info("%d rows", "many")
        logger.info(Mute())
        handler.handle(logging.makeLogRecord({"msg": "m", "levelno": 1 << 70}))
        logger.info("fine")
    assert [TypeError, LookupError, ValueError] == [type(error) for error in handler.errors]
    assert ["fine"] == [row[-2] for row in rows_of(path, "logkey")]


def test_a_full_or_closed_streamer_goes_to_handle_error(path: Path) -> None:
    """No room and a closed streamer are reported for each record, and raise nothing in the program that logs."""
    handler = NotingHandler(path, maxPending=3, overflow="raise")
    with logging_to(handler) as logger:
        with write_lock(path):
            wait_until(lambda: logger.info("row") or handler.errors)  # type: ignore[func-returns-value]
        assert isinstance(handler.errors[-1], BufferFullError)
        handler.close()
        logger.info("late")
        assert isinstance(handler.errors[-1], StreamerClosedError)


def test_standard_error_reporting_is_kept(tmp_path: Path) -> None:
    """Without a handleError of its own, the handler prints what `logging` prints for every handler, and goes on."""
    done = run_python(
        """
import logging, tsstreamer
handler = tsstreamer.SqliteLogHandler("log.db")
logging.getLogger().addHandler(handler)
logging.error("%d rows", "many")
handler.close()
print("goes on")
""",
        cwd=tmp_path,
    )
    assert (0, "goes on\n") == (done.returncode, done.stdout)
    assert "--- Logging error ---" == done.stderr.splitlines()[0]
    assert "Message: '%d rows'" in done.stderr


def test_lone_surrogates_are_stored_readably(path: Path) -> None:
    """Text that UTF-8 cannot hold is stored with escapes in every column of text, other text as it is."""
    with logging_to(SqliteLogHandler(path), name="käse \udc80") as logger:
        logger.info("file \udcff, façade \U0001f600, NUL \0")
    row = rows_of(path, "logkey")[0]
    assert ("käse \\udc80", "file \\udcff, façade \U0001f600, NUL \0") == (row[2], row[-2])


def test_filters_decide_and_may_replace(path: Path) -> None:
    """A filter of the handler can refuse a record; where Python lets it put another in its place, that is stored."""
    handler = SqliteLogHandler(path)

    def choose(record: logging.LogRecord) -> Any:
        if record.msg == "secret":
            return False
        changed = logging.makeLogRecord(vars(record) | {"msg": "other"})
        return changed if sys.version_info >= (3, 12) else True

    handler.addFilter(choose)
    with logging_to(handler) as logger:
        logger.info("secret")
        logger.info("one")
    expected = ["other" if sys.version_info >= (3, 12) else "one"]
    assert expected == [row[-2] for row in rows_of(path, "logkey")]


def test_threads_do_not_wait_for_each_other(path: Path) -> None:
    """While one thread is held in the middle of its record, another stores its own: there is no lock around `emit`."""
    inside, go_on = threading.Event(), threading.Event()

    class Slow:
        def __str__(self) -> str:
            inside.set()
            go_on.wait(10)
            return "slow"

    with logging_to(SqliteLogHandler(path)) as logger:
        held = threading.Thread(target=logger.info, args=(Slow(),))
        held.start()
        assert inside.wait(10)
        quick = threading.Thread(target=logger.info, args=("quick",))
        quick.start()
        quick.join(5)
        waited = quick.is_alive()
        go_on.set()
        held.join()
        quick.join()
    assert not waited
    assert ["quick", "slow"] == [row[-2] for row in rows_of(path, "logkey")]


def test_records_of_many_threads_are_all_stored(path: Path) -> None:
    """Each record of each thread is stored once, those of one thread in their order."""
    with logging_to(SqliteLogHandler(path)) as logger:

        def work() -> None:
            for number in range(500):
                logger.info("%d", number)

        threads = [threading.Thread(target=work, name=f"worker {n}") for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = rows_of(path, "logkey")
    for thread in threads:
        assert [str(number) for number in range(500)] == [row[-2] for row in rows if row[3] == thread.name]


def test_logging_does_not_wait_for_a_lock(path: Path) -> None:
    """While another process holds the write lock records are taken, and stored when it is gone."""
    with logging_to(SqliteLogHandler(path)) as logger:
        with write_lock(path):
            for number in range(1000):
                logger.info("%d", number)
            assert [] == rows_of(path, "logkey")
        logger.handlers[0].flush()
        assert 1000 == len(rows_of(path, "logkey"))


_EXITING = """
import logging, sys, threading, time, tsstreamer
logging.getLogger().addHandler(tsstreamer.SqliteLogHandler("log.db", flushInterval=30.0))
logging.error("main")
main = threading.main_thread()
def late():
    main.join()
    logging.error("late")
threading.Thread(target=late).start()
ENDING
"""


@pytest.mark.parametrize(
    ("ending", "status"), [("pass", 0), ("sys.exit(3)", 3), ("logging.shutdown()", 0), ("raise OSError", 1)]
)
def test_exit_stores_everything(tmp_path: Path, ending: str, status: int) -> None:
    """However the interpreter ends by itself, what was logged is stored; also by threads that outlive the main one."""
    expected = ["main"] if "shutdown" in ending else ["main", "late"]
    done = run_python(_EXITING.replace("ENDING", ending), cwd=tmp_path)
    assert status == done.returncode
    assert expected == [row[-2] for row in rows_of(tmp_path / "log.db", "logkey")]
    assert ("Logging error" in done.stderr) == ("late" not in expected)


def test_a_forked_child_goes_on_without_it(tmp_path: Path) -> None:
    """In a forked child records go to handleError, nothing hangs, and the parent's rows are stored once."""
    done = run_python(
        """
import logging, os, tsstreamer, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads: it is what is tried here
logging.getLogger().addHandler(tsstreamer.SqliteLogHandler("log.db"))
logging.error("parent")
child = os.fork()
logging.error("after")
if child:
    assert os.waitpid(child, 0)[1] == 0
""",
        cwd=tmp_path,
    )
    assert 0 == done.returncode, done.stderr
    assert 1 == done.stderr.count("StreamerClosedError")
    assert ["parent", "after"] == [row[-2] for row in rows_of(tmp_path / "log.db", "logkey")]
