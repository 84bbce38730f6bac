"""The writer thread: drains the backlogs, and commits rows and jobs in one transaction after the other.

Contract:

* Everything that changes the database is done by this thread: rows, the positions of streams, tables, retention. So
  SQLite's write lock is never contended within the process.
* What one statement can do is done by one, as a transaction of its own: each storage's rows, each position. Beside busy
  threads, BEGIN and COMMIT would each wait for the GIL as long as the rows do.
* A batch that cannot be written stays in memory and is tried again, whole, until it is committed: exactly once in the
  end. The thread survives every exception; what is wrong is in `state`, and `on_error` is told once for each change,
  outside all locks.
* Idle means asleep: the first row wakes the thread, which gathers for the flush interval and takes everything. Under
  load it does not sleep.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from tsstreamer import _options as options
from tsstreamer import _sql
from tsstreamer._database import storage_error
from tsstreamer._retention import Retention, Rule
from tsstreamer.errors import StorageError, TsStreamerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tsstreamer._backlog import Backlog
    from tsstreamer._database import Database
    from tsstreamer._rows import Row

__all__ = ["Job", "Writer"]


class Job:
    """Work for the writer's connection, done in its next transaction; made and waited for in any thread."""

    def __init__(self, work: Callable[[Database], Any], *, single: bool = False) -> None:
        """`work` gets the database inside a transaction; it may run again, and must raise before it writes.

        With `single` it changes the database by one statement only, so that it needs no transaction around it.
        """
        self.single = single
        self._work = work
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._state = "waiting"
        self._result: Any = None
        self._error: TsStreamerError | None = None

    def attempt(self, database: Database) -> None:
        """Run the work, in the writer's thread; what it raises of its own is the caller's, the world's faults pass."""
        with self._lock:
            if self._state == "cancelled":
                return
            self._state = "running"
        try:
            self._result, self._error = self._work(database), None
        except TsStreamerError as error:
            self._error = error

    def finish(self) -> None:
        """Hand the result over: the transaction is committed."""
        self._done.set()

    def postpone(self) -> None:
        """The transaction failed: the job waits for the next, or is cancelled."""
        with self._lock:
            if self._state == "running":
                self._state = "waiting"

    def fail(self, error: TsStreamerError) -> None:
        """End the job without a result: the writer stops."""
        self._error = error
        self._done.set()

    def result(self, seconds: float, why: Callable[[], str]) -> Any:  # noqa: ANN401  (whatever the work returns)
        """Wait for the commit; a job that was not begun by then is cancelled and will not be done.

        Raises:
            StorageError: It was not done in time; `why` gives the reason.
            TsStreamerError: What the work raised.
        """
        while not self._done.wait(seconds):
            with self._lock:
                if self._state == "waiting":
                    self._state = "cancelled"
                    message = f"not done within {seconds} s: {why() or 'the writer is busy'}"
                    raise StorageError(message)
            seconds = options.BUSY_SECONDS
        if self._error is not None:
            raise self._error
        return self._result


class Writer:
    """The thread that owns the writing side of a database."""

    def __init__(
        self, database: Database, flush_interval: float, on_error: Callable[[TsStreamerError], object] | None
    ) -> None:
        """Make it; `start` starts the thread."""
        self._database = database
        self._flush_interval = flush_interval
        self._on_error = on_error
        self._backlogs: tuple[Backlog, ...] = ()
        self._mailbox: SimpleQueue[Job | None] = SimpleQueue()  # None: look at the backlogs
        self._retention = Retention()
        self._ledger: dict[tuple[str, str], int] = {}  # what the database's ledger has of each storage's counters
        self._recorded_at = -math.inf  # when that was last brought up to date
        self._jobs: list[Job] = []  # those that are not done
        self._looked_at = -math.inf  # when the file was last seen in its place
        self._unseen = False  # whether rows were committed without such a look before them, or one since
        self._astray = False  # tables may be missing: the file was opened anew, or somebody dropped one
        self._closing = False
        self._hurry = threading.Event()
        self._stop_at = float("inf")
        self._settled = threading.Condition()
        self._flushing = 0  # callers that wait in `flush`
        self.commits = 0
        self.state, self.reason, self.since = "running", "", time.time()
        self.thread = threading.Thread(target=self._run, name="tsstreamer-writer", daemon=True)

    # --- any thread ---

    def wake(self) -> None:
        """Have the backlogs looked at; re-entrant, never blocks."""
        self._mailbox.put(None)

    def submit(self, work: Callable[[Database], Any], *, single: bool = False) -> Job:
        """Queue work for the next transaction; for `single` see `Job`."""
        job = Job(work, single=single)
        if self.state in ("failed", "closed"):
            job.fail(StorageError(f"the writer is {self.state}: {self.reason}"))
        self._mailbox.put(job)
        return job

    def run(
        self, work: Callable[[Database], Any], seconds: float = options.OPEN_SECONDS, *, single: bool = False
    ) -> Any:  # noqa: ANN401  (whatever the work returns)
        """Do work in the next transaction and wait for its commit; see `Job` and `Job.result`."""
        return self.submit(work, single=single).result(seconds, lambda: self.reason)

    def flush(self, timeout: float | None, *, patient: bool = True) -> bool:
        """Wait until the rows stored before the call are accounted for; False if that did not happen.

        Without `patient` a degraded writer is not waited for. The writer's own thread never waits.
        """
        marks = [(backlog, backlog.offered()) for backlog in self._backlogs]

        def done() -> bool:
            return not self._unseen and all(backlog.settled() >= mark for backlog, mark in marks)

        if done():
            return True
        if self.is_current():
            return False  # called from `on_error`: nobody else would write

        def over() -> bool:
            hopeless = self.state in ("failed", "closed") or (self.state == "degraded" and not patient)
            return hopeless or done()

        with self._settled:
            self._flushing += 1  # no gathering until it is over: the rows may take several transactions
            self.wake()
            try:
                self._settled.wait_for(over, timeout)
            finally:
                self._flushing -= 1
        return self.state != "failed" and done()

    def add(self, rule: Rule) -> None:
        """Drain the backlog of a rule from now on, and keep what the rule says."""
        self._retention.add(rule)
        if rule.backlog not in self._backlogs:
            self._backlogs = (*self._backlogs, rule.backlog)
        self.wake()  # a writer that sleeps knows neither the backlog nor when to look for what the rule lets go

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self.thread.start()

    def finish(self, timeout: float | None) -> bool:
        """Commit what is waiting, end the thread; False if it is still running after `timeout` seconds."""
        if timeout is not None:
            self._stop_at = monotonic() + timeout
        self._closing = True
        self._hurry.set()
        self.wake()
        # The writer looks at the time between tries; a try takes a busy wait.
        self.thread.join(None if timeout is None else timeout + 4 * options.BUSY_SECONDS)
        return not self.thread.is_alive()

    def is_current(self) -> bool:
        """Say whether the caller runs in the writer's thread: then waiting for it would be for ever."""
        return threading.current_thread() is self.thread

    # --- the thread ---

    def _run(self) -> None:
        try:
            while self._work():
                if self._closing and not self._jobs and all(backlog.seal() for backlog in self._backlogs):
                    self._write([], [], due=bool(self._dropped()))
                    self._end("closed", "")
                    return
            for backlog in self._backlogs:
                while not backlog.seal():
                    backlog.drain(options.STATEMENT_ROWS)
                backlog.abandon()
            self._end("closed", self.reason)
        except BaseException as error:  # noqa: BLE001  (nothing may end the thread unseen)
            failure = storage_error(error, "the writer ended", self._database.name)
            for backlog in self._backlogs:
                backlog.refuse(lambda: StorageError(str(failure)))
            self._end("failed", str(failure))
            self._report(failure)

    def _work(self) -> bool:
        """Wait for something to write, and write it; False if the streamer closes and that did not work."""
        self._jobs = self._wait()
        if self._database.synced:
            # Each commit waits for the disk: one for all.
            batches = [(backlog, self._drain(backlog)) for backlog in self._backlogs]
            return self._write(batches, self._jobs, due=self._due()) and self._write([], [])
        for backlog in self._backlogs:
            if not self._write([(backlog, self._drain(backlog))], []):
                return False
        while self._jobs:
            if not self._write([], self._jobs[:1]):
                return False
        return self._write([], [], due=self._due())

    def _drain(self, backlog: Backlog) -> list[Row]:
        return backlog.drain(self._database.most_rows(backlog.table))

    def _due(self) -> bool:
        """Say whether there is something to do besides rows and jobs."""
        late = monotonic() - self._recorded_at >= options.RECORD_SECONDS
        return self._retention.due() or (late and bool(self._dropped()))

    def _dropped(self) -> dict[tuple[str, str], int]:
        """Return the dropped rows that the database's ledger does not have yet, by storage and reason."""
        changes = {}
        for backlog in self._backlogs:
            for reason, rows in backlog.dropped().items():
                place = (backlog.table.key, reason)
                if rows != self._ledger.get(place, 0):
                    changes[place] = rows - self._ledger.get(place, 0)
        return changes

    def _end(self, state: str, reason: str) -> None:
        self._enter(state, reason)
        for unfinished in self._jobs:
            unfinished.fail(StorageError(f"the writer is {state}: {reason}"))
        while True:
            try:
                job = self._mailbox.get_nowait()
            except Empty:
                return
            if job is not None:
                job.fail(StorageError(f"the writer is {state}: {reason}"))

    def _wait(self) -> list[Job]:
        """Sleep until there is something to write, gather; return the jobs that came meanwhile."""
        jobs = self._collect()
        waiting = self._waiting()
        if jobs or self._closing or self._ripe() or (waiting and self._flushing):
            return jobs
        if not waiting:
            for backlog in self._backlogs:
                backlog.sleep()
            # A put between the look above and `sleep` has not woken anybody: look again.
            if not self._waiting():
                jobs = self._receive(options.RECORD_SECONDS if self._dropped() else self._retention.pause())
        if not jobs and not self._closing:
            for backlog in self._backlogs:
                backlog.gather()
            if not self._flushing and self._waiting() and not self._ripe():
                jobs = self._receive(self._flush_interval)
        return jobs + self._collect()

    def _waiting(self) -> int:
        return sum(backlog.queue.qsize() for backlog in self._backlogs)

    def _ripe(self) -> bool:
        """Say whether enough rows wait for a good batch, or so many that a producer has to wait for room."""
        return any(backlog.ripe() for backlog in self._backlogs)

    def _receive(self, seconds: float | None) -> list[Job]:
        self._looked_at = -math.inf
        try:
            job = self._mailbox.get(timeout=seconds)
        except Empty:
            return []
        return [] if job is None else [job]

    def _collect(self) -> list[Job]:
        jobs = []
        for _ in range(self._mailbox.qsize()):
            job = self._mailbox.get()
            if job is not None:
                jobs.append(job)
        return jobs

    def _write(self, batches: list[tuple[Backlog, list[Row]]], jobs: list[Job], *, due: bool = False) -> bool:
        """Commit one transaction, however many tries it takes; False when the streamer closes and time is up."""
        batches = [(backlog, rows) for backlog, rows in batches if rows]
        if not (batches or jobs or due) and (not self._unseen or self._ripe()):
            return True
        delay = options.RETRY_FIRST
        while True:
            try:
                refused, retired = self._transact(batches, jobs, due=due)
            except Exception as error:  # noqa: BLE001  (whatever it is, the rows are still here)
                due = False
                self._degrade(error)
                if not self._postpone(jobs, delay):
                    return False
                delay = min(2 * delay, options.RETRY_LAST)
            else:
                break
        for backlog, rows in batches:
            bad = len(refused.get(backlog, ()))
            backlog.settle(len(rows) - bad, bad)
        for backlog, deleted, unsent in retired:
            backlog.retired(deleted, unsent)
        self.commits += bool(batches or jobs or due)
        self._enter("running", "")
        self._jobs = [job for job in self._jobs if job not in jobs]
        for job in jobs:
            job.finish()
        return True

    def _postpone(self, jobs: list[Job], delay: float) -> bool:
        """Wait until the next try; False if the streamer closes and there is no time for one."""
        for job in jobs:
            job.postpone()
        for backlog in self._backlogs:
            backlog.let_in()  # nobody else does, as long as nothing is drained
        if monotonic() + delay > self._stop_at:
            for job in jobs:
                job.fail(StorageError(f"closed before it was done: {self.reason}"))
            return False
        if self._hurry.wait(delay):
            time.sleep(min(delay, options.BUSY_SECONDS))  # closing: no more long pauses
        return True

    def _transact(
        self, batches: list[tuple[Backlog, list[Row]]], jobs: list[Job], *, due: bool
    ) -> tuple[dict[Backlog, list[tuple[Row, str]]], list[tuple[Backlog, int, int]]]:
        """Return the rows that were refused, with the reasons, and ``(backlog, deleted, deleted unsent)``."""
        database = self._database
        self._look(owed=not (batches or jobs or due))
        if not (batches or jobs or due):
            return {}, []
        if not due and not database.synced and len(batches) + len(jobs) == 1 and self._step(batches, jobs):
            return {}, []
        refused: dict[Backlog, list[tuple[Row, str]]] = {}
        retired: list[tuple[Backlog, int, int]] = []
        with database.writing():
            for backlog, rows in batches:
                if not database.insert(backlog.table, rows):
                    refused[backlog] = bad = database.insert_apart(backlog.table, rows)
                    key = backlog.table.key
                    database.bury([(key, None, None, row[0], reason, row[1:]) for row, reason in bad])
            for job in jobs:
                job.attempt(database)
            if due:
                retired = self._retention.work(database)
            changes = self._changes(refused, retired)
            for (key, reason), number in changes.items():
                database.execute(_sql.ADD_LEDGER, (key, reason, number))
        for place, number in changes.items():
            self._ledger[place] = self._ledger.get(place, 0) + number
        self._recorded_at = monotonic()
        return refused, retired

    def _step(self, batches: list[tuple[Backlog, list[Row]]], jobs: list[Job]) -> bool:
        """Do the one thing that there is by one statement; False if it takes more, and then nothing was done."""
        with self._database.writing(alone=True):
            for backlog, rows in batches:
                return self._database.insert(backlog.table, rows)
            if jobs[0].single:
                jobs[0].attempt(self._database)
            return jobs[0].single

    def _changes(
        self, refused: dict[Backlog, list[tuple[Row, str]]], retired: list[tuple[Backlog, int, int]]
    ) -> dict[tuple[str, str], int]:
        """Return what this transaction adds to the database's ledger; the ids, without gaps, count committed rows."""
        changes = self._dropped()
        for backlog, bad in refused.items():
            changes[backlog.table.key, "rejected"] = len(bad)
        for backlog, deleted, unsent in retired:
            changes[backlog.table.key, "deleted"] = deleted
            changes[backlog.table.key, "deletedUnsent"] = unsent
        return {place: number for place, number in changes.items() if number}

    def _look(self, *, owed: bool) -> None:
        """See that the file is in its place; go on in a new one where it is not.

        Before each transaction, but for those that follow another without a pause while nobody waits: there only now
        and then, and once after the last of them, which is `owed`.
        """
        late = owed or self._flushing or monotonic() - self._looked_at >= options.LOOK_SECONDS
        if self._astray or (late and self._database.moved()):
            self._looked_at = -math.inf
            self._follow()
        if late:
            self._looked_at = monotonic()
        self._unseen = not late

    def _follow(self) -> None:
        """The path leads elsewhere: go on in a new file there, rather than where nobody looks."""
        database = self._database
        if database.truncated():
            message = f"{database.name!r} was cut to nothing while open: move it away, with its -wal and -shm"
            raise StorageError(message)
        if database.moved():
            message = (
                f"{database.name!r}, or its -wal or -shm, was deleted, moved or replaced while open: going on there"
            )
            self._degrade(StorageError(message))
            self._astray = True
            database.reopen()
        with database.writing():
            for rule in self._retention.rules:
                database.add_table(rule.backlog.table)
                rule.register(database)
        self._astray = False

    # --- state ---

    def _degrade(self, error: Exception) -> None:
        failure = (
            error if isinstance(error, TsStreamerError) else storage_error(error, "cannot write", self._database.name)
        )
        if "no such table" in str(error):
            self._astray = True  # somebody dropped one: it is made again, and the others go on
        if self.state != "degraded":
            self._enter("degraded", str(failure))
            self._report(failure)
        self.reason = str(failure)

    def _enter(self, state: str, reason: str) -> None:
        recovered = state == "running" and self.state == "degraded"
        with self._settled:
            if state != self.state:
                self.state, self.since = state, time.time()
            self.reason = reason
            self._settled.notify_all()
        if recovered:
            self._report(None)

    def _report(self, error: TsStreamerError | None) -> None:
        if self._on_error is None:
            return
        try:
            self._on_error(error)  # type: ignore[arg-type]
        except BaseException:  # noqa: BLE001  (a callback must not end the writer, and logging may lead back here)
            traceback.print_exc()
