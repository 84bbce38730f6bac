"""Every exception that tsstreamer raises on purpose; each says whose move it is.

The world's faults are `StorageError` and `MessengerError`; all others are the caller's. Where a built-in class already
means the same (`KeyError`, `ValueError`), the exception is also one of those, so existing handlers keep working.
"""

from __future__ import annotations

__all__ = [
    "BufferFullError",
    "FilterError",
    "MessengerError",
    "SchemaMismatchError",
    "StorageError",
    "StreamExistsError",
    "StreamerClosedError",
    "TsStreamerError",
    "UnknownStorageError",
    "UnknownStreamError",
]


class TsStreamerError(Exception):
    """Base of every error raised by this package."""


class StreamerClosedError(TsStreamerError):
    """The streamer is closed, or belongs to another process (after `os.fork`); nothing was stored."""


class BufferFullError(TsStreamerError):
    """The backlog of a storage is full and its overflow policy refused the row; nothing was stored.

    Raised by ``overflow="raise"`` at once, and by ``overflow="block"`` after ``blockTimeout`` seconds.
    """


class _MissingNameError(TsStreamerError, KeyError):
    """A name that is not known; prints its text plainly, where `KeyError` alone would print its repr."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class UnknownStorageError(_MissingNameError):
    """No storage of that key was added; call ``addStorage`` first."""


class UnknownStreamError(_MissingNameError):
    """No stream of that name is running."""


class StreamExistsError(TsStreamerError):
    """A stream of that name is running already; stop it first or give this one a ``name=``."""


class SchemaMismatchError(TsStreamerError, ValueError):
    """The storage exists with other columns; the text shows the columns asked for and the columns found."""


class FilterError(TsStreamerError, ValueError):
    """A ``sqlfilter`` is not a plain condition over the storage's columns; the text says what is wrong, and where."""


class StorageError(TsStreamerError):
    """SQLite or the file system said no; the cause is chained, and the text ends in a hint where there is one."""


class MessengerError(TsStreamerError):
    """A message could not be handed over, or another sender has taken the stream over."""
