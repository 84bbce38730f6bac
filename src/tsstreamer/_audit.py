"""Reports on a whole database: what is in it (`info`), and whether it is sound (`verify`).

Each report comes from one read transaction, so that a row written meanwhile cannot contradict what was read before it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tsstreamer import _sql
from tsstreamer._inspect import show, show_time
from tsstreamer.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tsstreamer._inspect import Database


def info(database: Database, now: float) -> Iterator[str]:
    """Yield lines that describe the file, its storages and its streams; `now` is what lags are counted from."""
    with database.snapshot():
        meta = database.meta
        state = "closed cleanly" if meta.get("clean") else "in use, or not closed cleanly"
        yield f"database {show(database.path)}: {_bytes(database.path)}, log {_bytes(database.path + '-wal')}"
        yield f"  identity {meta.get('dbid')}, epoch {meta.get('epoch')}, {state}"
        for key, *bounds in database.query(
            "SELECT key, maxage, maxrows, keepunsent FROM tsstreamer_storages ORDER BY key"
        ):
            yield from _describe_storage(database, key, *bounds)
        streams = database.query("SELECT name, storage, position, sequence FROM tsstreamer_streams ORDER BY name")
        for name, storage, position, sequence in streams:
            yield f"stream {show(name)} of {show(storage)}: {sequence:,} messages, position {position}"
            yield f"  {_lag(database, storage, position, now)}"
        letters = database.query("SELECT storage, count(*) FROM tsstreamer_dead GROUP BY storage ORDER BY storage")
        yield "dead letters: " + (", ".join(f"{count:,} of {show(storage)}" for storage, count in letters) or "none")


def _describe_storage(
    database: Database, key: str, max_age: float | None, max_rows: int | None, keep_unsent: int
) -> Iterator[str]:
    columns = ", ".join(f"{name} {declared}".rstrip() for name, declared in database.columns(key))
    span = f"SELECT count(*), min(id), max(id), min(time), max(time) FROM {_sql.quote(key)}"  # noqa: S608  (quoted)
    count, first, last, earliest, latest = database.query(span)[0]
    yield f"storage {show(key)}: {count:,} rows" + (f", ids {first} to {last}" if count else "")
    if count:
        yield f"  time {show_time(earliest)} to {show_time(latest)}"
    yield f"  columns {show(columns)}"
    ledger = [f"{reason} {number:,}" for reason, number in _ledger(database, key).items()]
    yield f"  ledger {', '.join(ledger)}"
    age = "" if max_age is None else f"{max_age:g} s"
    rows = "" if max_rows is None else f"{max_rows:,} rows"
    if age or rows:
        unsent = "and what a stream has still to send" if keep_unsent else "sent or not"
        yield f"  keeps at most {' and '.join(filter(None, (age, rows)))}, {unsent}"


def _ledger(database: Database, key: str) -> dict[str, int]:
    """Return the rows of a storage by what became of them; ids have no gaps, so the last one counts the committed."""
    entries = database.query("SELECT reason, rows FROM tsstreamer_ledger WHERE storage = ? ORDER BY reason", (key,))
    return {**dict(entries), "committed": database.last_id(key)}


def _lag(database: Database, storage: str, position: int, now: float) -> str:
    if storage not in database.storages():
        return "its storage is gone"
    after = f"SELECT count(*), min(time) FROM {_sql.quote(storage)} WHERE id > ?"  # noqa: S608  (quoted)
    count, oldest = database.query(after, (position,))[0]
    if not count:
        return "no rows after its position"
    return f"{count:,} rows after its position" + (f", {now - oldest:.1f} s old" if isinstance(oldest, float) else "")


def verify(database: Database) -> Iterator[str]:
    """Yield what is wrong with the file's pages, ids, positions and ledger; nothing if all is well."""
    try:
        with database.snapshot():
            for (line,) in database.query("PRAGMA integrity_check"):
                if line != "ok":
                    yield f"integrity: {line}"
            storages = set(database.storages())
            for key in sorted(storages):
                yield from _verify_storage(database, key)
            yield from _verify_streams(database, storages)
            for (key,) in database.query("SELECT DISTINCT storage FROM tsstreamer_ledger ORDER BY storage"):
                if key not in storages:
                    yield f"ledger: it has entries of {key!r}, which is no storage"
    except StorageError as error:
        yield f"integrity: {error}"


def _verify_storage(database: Database, key: str) -> Iterator[str]:
    if [name for name, _ in database.columns(key)][:2] != ["id", "time"]:
        yield f"storage {key!r}: its table is missing, or does not begin with id and time"
        return
    table = _sql.quote(key)
    span = f"SELECT count(*), coalesce(min(id), 1), coalesce(max(id), 0) FROM {table}"  # noqa: S608  (quoted)
    count, first, last = database.query(span)[0]
    if first < 1:
        yield f"ids: storage {key!r} has a row with id {first}, ids start at 1"
    if last > (given := database.last_id(key)):
        yield f"ids: storage {key!r} has a row with id {last}, but the greatest id it has given is {given}"
    strange = f"SELECT count(*) FROM {table} WHERE typeof(time) NOT IN ('real', 'integer')"  # noqa: S608  (quoted)
    if wrong := database.query(strange)[0][0]:
        yield f"storage {key!r}: {wrong} rows have no number as their time"
    ledger = _ledger(database, key)
    for reason, rows in ledger.items():
        if rows < 0:
            yield f"ledger: storage {key!r} counts {rows} rows as {reason}"
    committed, deleted, unsent = (ledger.get(reason, 0) for reason in ("committed", "deleted", "deletedUnsent"))
    if committed != count + deleted:
        yield f"ledger: storage {key!r} committed {committed} rows, but holds {count} and has deleted {deleted}"
    if unsent > deleted:
        yield f"ledger: storage {key!r} deleted {deleted} rows, but {unsent} unsent ones"


def _verify_streams(database: Database, storages: set[str]) -> Iterator[str]:
    streams = "SELECT name, storage, position, scanned, sequence, inflight FROM tsstreamer_streams ORDER BY name"
    for name, storage, position, scanned, sequence, inflight in database.query(streams):
        if storage not in storages:
            yield f"stream {name!r}: its storage {storage!r} does not exist"
            continue
        last = database.last_id(storage)
        for what, number in (("position", position), ("look-ahead", scanned)):
            if not 0 <= number <= last:
                yield f"stream {name!r}: its {what} is {number}, but storage {storage!r} has given ids to {last} only"
        if sequence < 0:
            yield f"stream {name!r}: it has sent {sequence} messages"
        try:
            json.loads(inflight or "[]")
        except ValueError:
            yield f"stream {name!r}: its list of messages in flight cannot be read: {inflight!r}"


def _bytes(path: str) -> str:
    return f"{Path(path).stat().st_size:,} bytes" if Path(path).exists() else "none"
