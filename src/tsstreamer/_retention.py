"""Deletes expired rows in small chunks, inside the writer's transactions, oldest first.

Rows go from the front of a table only: one whose timestamp is far in the future keeps its place until `maxRows` reaches
it, and a thousand such rows in a row keep those behind them as well. A row that a stream has still to send stays,
unless ``keepUnsent=False``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from tsstreamer import _options as options
from tsstreamer import _sql

if TYPE_CHECKING:
    from tsstreamer._backlog import Backlog
    from tsstreamer._database import Database

__all__ = ["Retention", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one storage keeps: rows younger than `max_age` seconds, `max_rows` of them; None keeps all."""

    backlog: Backlog
    max_age: float | None
    max_rows: int | None
    keep_unsent: bool

    def register(self, database: Database) -> None:
        """Write it down, so that other programs can show it."""
        database.execute(_sql.SET_STORAGE, (self.backlog.table.key, self.max_age, self.max_rows, self.keep_unsent))


class Retention:
    """The rules of all storages, and when to look again."""

    def __init__(self) -> None:
        """Begin without rules: nothing is ever deleted."""
        self.rules: tuple[Rule, ...] = ()
        self._next = 0.0
        self._behind = False
        self._chunk = options.RETENTION_ROWS

    def add(self, rule: Rule) -> None:
        """Set the rule of a storage."""
        self.rules = (*(old for old in self.rules if old.backlog is not rule.backlog), rule)

    def _active(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.max_age is not None or rule.max_rows is not None]

    def pause(self) -> float | None:
        """Return how long an idle writer may sleep, None for as long as it likes."""
        if not self._active():
            return None
        return 0.0 if self._behind else max(0.0, self._next - monotonic())

    def due(self) -> bool:
        """Say whether this transaction should delete: it is time to look, or the last look left some."""
        return bool(self._active()) and (self._behind or monotonic() >= self._next)

    def work(self, database: Database) -> list[tuple[Backlog, int, int]]:
        """Delete a chunk from each storage; return ``(backlog, deleted, deleted unsent)`` of those that lost rows."""
        self._next = monotonic() + options.RETENTION_SECONDS
        done = [(rule.backlog, *self._retire(database, rule)) for rule in self._active()]
        done = [entry for entry in done if entry[1]]
        self._behind = any(deleted >= self._chunk for _, deleted, _ in done)
        # Under load each transaction brings more rows than a small chunk takes away: take more until it keeps up.
        self._chunk = min(2 * self._chunk, options.STATEMENT_ROWS) if self._behind else options.RETENTION_ROWS
        return done

    def _retire(self, database: Database, rule: Rule) -> tuple[int, int]:
        table = rule.backlog.table
        ((unsent,),) = database.query(_sql.UNSENT, (table.key,))
        ((newest,),) = database.query(table.last_id)
        bound = newest if unsent is None or not rule.keep_unsent else min(newest, unsent)
        deleted = 0
        if rule.max_rows is not None:
            deleted += database.execute(table.delete_first, (min(bound, newest - rule.max_rows), self._chunk))
        if rule.max_age is not None:
            deleted += database.execute(table.delete_expired, (bound, self._chunk, time.time() - rule.max_age))
        if unsent is None or rule.keep_unsent or not deleted:
            return deleted, 0
        ((oldest,),) = database.query(table.first_id)
        gone = max(0, (newest if oldest is None else oldest - 1) - unsent)
        if gone:
            database.execute(_sql.SKIP_STREAMS, {"key": table.key, "upto": unsent + gone})
        return deleted, min(gone, deleted)
