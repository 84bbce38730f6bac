"""Turns committed rows into the data of one message: reads a chunk, formats it, keeps it within its budgets.

With a formatter of the package, SQLite builds the text of a chunk in one step and no row becomes a Python object; with
any other the chunk arrives as one JSON text and is decoded at once. Both give the GIL away once for a chunk instead of
once for a row. No lock is held and no read is open while the formatter runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tsstreamer import _options as options
from tsstreamer import _sql
from tsstreamer.formatters import SqlFormatter

if TYPE_CHECKING:
    from tsstreamer._database import Database
    from tsstreamer._filter import Filter
    from tsstreamer._sql import Table

__all__ = ["Budget", "FormatError", "Packed", "Packer"]

Format = Callable[[list[list[Any]]], str | bytes]
_ALL = 2**63 - 1


class FormatError(Exception):
    """The formatter failed for every row of a chunk: rather a broken formatter than bad rows."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one message may hold; one row may always go, however large."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Packed:
    """Data for one message, complete for ``id <= upto``; `data` is None when no row there passes the filter."""

    data: str | bytes | None
    rows: int
    epoch: int
    upto: int
    dead: tuple[tuple[int, list[Any], str], ...] = ()


class Packer:
    """Packs the rows of one stream."""

    def __init__(
        self,
        database: Database,
        table: Table,
        condition: Filter,
        formatter: SqlFormatter | Format,
        *,
        nodename: str,
        budget: Budget,
    ) -> None:
        """Prepare the statements."""
        self._database = database
        self._table = table
        self._budget = budget
        self._params = condition.params
        self._bounded = bool(condition.sql)
        self._formatter = formatter
        self._nodename = nodename
        where = f" AND ({condition.sql}\n)" if condition.sql else ""
        self._plain = table.plain_rows(where)
        self._scan_rows = max(options.SCAN_ROWS, budget.rows) if condition.sql else budget.rows
        if isinstance(formatter, SqlFormatter):
            self._head = formatter.head(nodename, table.columns)
            self._tail = formatter.tail()
            self._text = table.text_rows(formatter.sqlrow(table.quoted), formatter.sqlexact(table.quoted), where)
        else:
            # The ids come along, so that a row that cannot be formatted can be named.
            self._text = table.text_rows("'['||id||','||" + table.json_row + "||']'", table.json_exact, where)

    def pack(self, after: int, upto: int | None = None, *, give_up: bool = False) -> Packed | None:
        """Pack the next rows after an id; None when there are none. Raises FormatError, StorageError.

        Args:
            after: Id of the last row that was looked at.
            upto: Repeat a message: exactly the rows up to this id, without budgets.
            give_up: Take a formatter that fails for every row as a proof that every row is bad.
        """
        ((end,),) = self._database.read(
            self._table.scan, (after, _ALL if upto is None else upto, self._scan_rows if upto is None else _ALL)
        )
        if end is None and upto is None:
            return None
        epoch, last = self._epoch(after + 1)
        end = upto if upto is not None else min(end, last)
        limit = self._budget.rows if upto is None else _ALL
        while True:
            data, rows, reached, dead = self._build(after, end, limit, give_up=give_up)
            size = 0 if data is None else len(data)
            if upto is not None or rows <= 1 or size <= self._budget.bytes:
                break
            limit = max(1, min(rows - 1, rows * self._budget.bytes // size))
        complete = upto is not None or rows < limit
        return Packed(data, rows - len(dead), epoch, end if complete else reached, dead)

    def _epoch(self, row: int) -> tuple[int, int]:
        """Return the epoch of a row, and the last id that may belong to it: a message never mixes epochs."""
        epochs = self._database.read(_sql.EPOCHS, (self._table.key,))
        epoch, last = self._database.epoch, _ALL
        for number, start in reversed(epochs):
            if start <= row:
                return number, last
            epoch, last = number, start - 1
        return epoch, last

    def _build(
        self, after: int, end: int, limit: int, *, give_up: bool
    ) -> tuple[str | bytes | None, int, int, tuple[tuple[int, list[Any], str], ...]]:
        """Return data, number of rows read, last id read, dead rows."""
        formatter = self._formatter
        separator = formatter.separator if isinstance(formatter, SqlFormatter) else ","
        values = (separator, after, end, *self._params, limit)
        ((text, count, reached, exact),) = self._database.read(self._text, values, bounded=self._bounded)
        if not count:
            return None, 0, end, ()
        if isinstance(formatter, SqlFormatter):
            if not exact:
                rows = self._database.read(self._plain, values[1:], bounded=self._bounded)
                text = separator.join([formatter.row(row[1:]) for row in rows])
            return self._head + text + self._tail, count, reached, ()
        if exact:
            ids, data = _unzip(json.loads("[" + text + "]", object_hook=_bytes))
        else:
            found = self._database.read(self._plain, values[1:], bounded=self._bounded)
            ids, data = [row[0] for row in found], [list(row[1:]) for row in found]
        formatted, dead = _format(formatter, ids, data, give_up=give_up)
        return formatted, count, reached, dead


def _unzip(found: list[list[Any]]) -> tuple[list[int], list[list[Any]]]:
    return [row[0] for row in found], [row[1] for row in found]


def _bytes(value: dict[str, str]) -> bytes:
    return bytes.fromhex(value["b"])


def _format(
    function: Format, ids: list[int], data: list[list[Any]], *, give_up: bool
) -> tuple[str | bytes | None, tuple[tuple[int, list[Any], str], ...]]:
    """Call the user's function; where it fails, find the rows that it fails for."""
    try:
        return _checked(function, [list(row) for row in data]), ()
    except Exception as error:
        if len(data) == 1 and not give_up:
            raise FormatError(_reason(error)) from error
    good, dead, reason = [], [], ""
    for number, row in zip(ids, data, strict=True):
        try:
            _checked(function, [list(row)])
        except Exception as error:  # noqa: BLE001  (as above)
            reason = _reason(error)
            dead.append((number, row, reason))
        else:
            good.append(row)
    if not good and not give_up:
        raise FormatError(reason)
    try:
        return (_checked(function, good) if good else None), tuple(dead)
    except Exception as error:
        raise FormatError(_reason(error)) from error


def _checked(function: Format, data: list[list[Any]]) -> str | bytes:
    result = function(data)
    if not isinstance(result, (str, bytes)):
        message = f"the formatter must return str or bytes, got {type(result).__name__}"
        raise TypeError(message)
    return result


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
