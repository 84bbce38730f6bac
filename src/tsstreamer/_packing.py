"""Turns committed rows into the data of one message: reads a chunk, formats it, keeps it within its budgets.

With a formatter of the package, SQLite builds the text of a chunk in one step and no row becomes a Python object; with
any other the chunk arrives as one JSON text and is decoded at once. Both give the GIL away once for a chunk instead of
once for a row. No lock is held and no read is open while the formatter runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tsstreamer import _options as options
from tsstreamer import _sql
from tsstreamer._database import TooLargeError
from tsstreamer.formatters import JsonFormatter, SqlFormatter

if TYPE_CHECKING:
    from tsstreamer._database import Database
    from tsstreamer._filter import Filter
    from tsstreamer._sql import Table

__all__ = ["Budget", "FormatError", "Horizon", "Packed", "Packer", "reason"]

Format = Callable[[list[list[Any]]], str | bytes]
_ALL = 2**63 - 1
_PLAIN = JsonFormatter()
"""Writes the rows for formatters that are plain functions; its arrays are decoded again."""


class FormatError(Exception):
    """The formatter failed; out of `pack`, for every row of a chunk: rather a broken formatter than bad rows."""


class _TogetherError(FormatError):
    """Each row alone can be formatted, but not all of them together."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one message may hold; one row may always go, however large."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Horizon:
    """The newest row at one moment, and the epochs ``(number, first id)`` of all rows up to it, in order."""

    last: int = -1
    epochs: tuple[tuple[int, int], ...] = ()

    def epoch(self, row: int) -> tuple[int, int]:
        """Return the epoch of a row, and the last id that may belong to it: a message never mixes epochs."""
        last = _ALL
        for number, start in reversed(self.epochs):
            if start <= row:
                return number, last
            last = start - 1
        message = f"row {row} belongs to no epoch"
        raise LookupError(message)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Rows as they were read, and the last id among them; `text` is None where only `plain` has all of them."""

    text: str | None
    rows: int
    reached: int
    size: int
    plain: list[Any]


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
        self._limit = options.PROBE_ROWS
        self._weight = 0.0  # bytes of data for each row of the last message
        self._scan_rows = max(options.SCAN_ROWS, budget.rows)
        writer = formatter if isinstance(formatter, SqlFormatter) else _PLAIN
        row = writer.sqlrow(table.quoted, table.affinities)
        if isinstance(formatter, SqlFormatter):
            self._head = formatter.head(nodename, table.columns)
            self._tail = formatter.tail()
            self._most_read = budget.bytes
        else:
            self._most_read = options.READ_AHEAD * budget.bytes
            # The ids come along, so that a row that cannot be formatted can be named.
            row = f"'['||id||','||{row}||']'"
        self._text = table.text_rows(row, writer.sqlexact(table.quoted, table.affinities), where)

    def horizon(self, known: Horizon) -> Horizon:
        """Look how far the rows reach now; `known` where that is no further. Raises StorageError."""
        ((last,),) = self._database.read(self._table.last_id)
        # Read afterwards: an epoch that begins meanwhile begins behind `last`.
        return (
            known if last == known.last else Horizon(last, tuple(self._database.read(_sql.EPOCHS, (self._table.key,))))
        )

    def repeat(self, after: int, upto: int, horizon: Horizon, *, give_up: bool = False) -> Packed:
        """Pack exactly the rows up to an id again, without budgets; otherwise as `pack`."""
        chunk = self._read(after, upto, _ALL) or self._read_plainly(after, upto, _ALL)
        data, dead = self._build(chunk, give_up=give_up)
        return Packed(data, chunk.rows - len(dead), horizon.epoch(after + 1)[0], upto, dead)

    def pack(self, after: int, horizon: Horizon, *, give_up: bool = False) -> Packed:
        """Pack the next rows after an id. Raises FormatError, StorageError.

        Args:
            after: Id of the last row that was looked at.
            horizon: The last row to look at.
            give_up: Take a formatter that fails for every row as a proof that every row is bad.
        """
        epoch, last = horizon.epoch(after + 1)
        end = min(horizon.last, last)
        if self._bounded:
            # So many rows at once, whether they pass or not.
            ((scanned,),) = self._database.read(self._table.scan, (after, end, self._scan_rows))
            end = end if scanned is None else scanned
        most, limit = self._budget.rows, min(self._limit, self._budget.rows)
        while True:
            chunk, limit = self._read_fairly(after, end, limit, most)
            most = min(most, limit)
            try:
                data, dead = self._build(chunk, give_up=give_up)
            except _TogetherError:
                if chunk.rows == 1:
                    raise
                most = limit = chunk.rows // 2
                continue
            size = _size(data)
            if chunk.rows <= 1 or size <= self._budget.bytes:
                break
            # By half at most: one huge row among small ones must not make messages of one row out of all of them.
            most = limit = max(chunk.rows // 2, min(chunk.rows - 1, chunk.rows * self._budget.bytes // size))
        if chunk.rows:
            self._weight = size / chunk.rows
            self._limit = self._fair(chunk.rows, chunk.size)
        # What the filter leaves out behind the last row that passes is done with, too.
        upto = end if self._bounded and chunk.rows < limit else chunk.reached
        return Packed(data, chunk.rows - len(dead), epoch, upto, dead)

    def _read_fairly(self, after: int, end: int, limit: int, most: int) -> tuple[_Chunk, int]:
        """Read at most `limit` rows, or up to `most` if they turn out short; return them and the limit that applied."""
        while True:
            read = self._read(after, end, limit)
            if read is None and limit > 1:
                most = limit = limit // options.READ_AHEAD or 1
                continue
            chunk = read or self._read_plainly(after, end, limit)
            fair = min(most, self._fair(chunk.rows, chunk.size))
            if chunk.rows == limit and fair >= 2 * limit:
                limit = fair
            elif chunk.rows > 1 and chunk.size > self._most_read:
                most = limit = max(chunk.rows // 2, min(chunk.rows - 1, fair))
            else:
                return chunk, limit

    def _fair(self, rows: int, size: int) -> int:
        """Return how many rows like these, of data like the last message's, may be read at once."""
        by_text = rows * self._most_read // size if size else self._budget.rows
        by_data = int(self._budget.bytes / self._weight) if self._weight else self._budget.rows
        return max(1, min(self._budget.rows, by_text, by_data))

    def _read(self, after: int, end: int, limit: int) -> _Chunk | None:
        """Read a chunk as one text; None when that is longer than SQLite or the memory can take."""
        separator = self._formatter.separator if isinstance(self._formatter, SqlFormatter) else ","
        values = (separator, after, end, *self._params, limit)
        try:
            ((text, count, reached, exact),) = self._database.read(self._text, values, bounded=self._bounded)
        except TooLargeError:
            return None
        if not count:
            return _Chunk(None, 0, end, 0, [])
        return _Chunk(text, count, reached, len(text), []) if exact else self._read_plainly(after, end, limit)

    def _read_plainly(self, after: int, end: int, limit: int) -> _Chunk:
        values = (after, end, *self._params, limit)
        rows = self._database.read(self._plain, values, bounded=self._bounded)
        size = sum(len(value) if isinstance(value, (str, bytes)) else 1 for row in rows for value in row)
        return _Chunk(None, len(rows), rows[-1][0] if rows else end, size, rows)

    def _build(
        self, chunk: _Chunk, *, give_up: bool
    ) -> tuple[str | bytes | None, tuple[tuple[int, list[Any], str], ...]]:
        """Return the data of a message, and the rows that could not be formatted."""
        formatter, text = self._formatter, chunk.text
        if not chunk.rows:
            return None, ()
        if isinstance(formatter, SqlFormatter):
            if text is not None:
                return self._head + formatter.finish(text) + self._tail, ()
            formatter = partial(formatter.format, self._nodename, self._table.columns)
        if text is None:
            found = [(number, row) for number, *row in chunk.plain]
        else:
            found = json.loads("[" + text + "]", object_hook=_bytes)
        return _format(formatter, found, give_up=give_up)


def _size(data: str | bytes | None) -> int:
    """Return the bytes that the data will take on its way."""
    if isinstance(data, str) and not data.isascii():
        return len(data.encode("utf-8", "surrogatepass"))
    return 0 if data is None else len(data)


def _bytes(value: dict[str, str]) -> bytes:
    return bytes.fromhex(value["hex"])


def _format(
    function: Format, found: list[tuple[int, list[Any]]], *, give_up: bool
) -> tuple[str | bytes | None, tuple[tuple[int, list[Any], str], ...]]:
    """Call the user's function; where it fails, find the rows that it fails for."""
    try:
        return _checked(function, [row for _, row in found]), ()
    except FormatError:
        if len(found) == 1 and not give_up:
            raise
    good, dead, why = [], [], ""
    for number, row in found:
        try:
            _checked(function, [row])
        except FormatError as error:
            why = str(error)
            dead.append((number, row, why))
        else:
            good.append(row)
    if not good and not give_up:
        raise FormatError(why)
    try:
        return (_checked(function, good) if good else None), tuple(dead)
    except FormatError as error:
        raise _TogetherError(str(error)) from error


def _checked(function: Format, data: list[list[Any]]) -> str | bytes:
    try:
        result = function([list(row) for row in data])  # its own copy: it may change it, and be called again
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: it must not end the stream's thread
        raise FormatError(reason(error)) from error
    if not isinstance(result, (str, bytes)):
        message = f"the formatter must return str or bytes, got {type(result).__name__}"
        raise FormatError(message)
    return result


def reason(error: BaseException) -> str:
    """Describe what user code raised; its own ``__str__`` may be broken too."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  (as said)
        return type(error).__name__
