"""tsstreamer: thread-safe storage of rows in SQLite, and streaming of what was stored to other nodes."""

from tsstreamer._streamer import SqliteDataStreamer
from tsstreamer.errors import (
    BufferFullError,
    FilterError,
    MessengerError,
    SchemaMismatchError,
    StorageError,
    StreamerClosedError,
    StreamExistsError,
    TsStreamerError,
    UnknownStorageError,
    UnknownStreamError,
)
from tsstreamer.formatters import JsonFormatter, SqlFormatter, YamlFormatter
from tsstreamer.handler import SqliteLogHandler
from tsstreamer.messengers import CallMessenger, StreamMessenger
from tsstreamer.model import CloseReport, Message, Stats, StorageStats, StreamStats
from tsstreamer.protocols import Messenger
from tsstreamer.receiver import Receiver

__all__ = [
    "BufferFullError",
    "CallMessenger",
    "CloseReport",
    "FilterError",
    "JsonFormatter",
    "Message",
    "Messenger",
    "MessengerError",
    "Receiver",
    "SchemaMismatchError",
    "SqlFormatter",
    "SqliteDataStreamer",
    "SqliteLogHandler",
    "Stats",
    "StorageError",
    "StorageStats",
    "StreamExistsError",
    "StreamMessenger",
    "StreamStats",
    "StreamerClosedError",
    "TsStreamerError",
    "UnknownStorageError",
    "UnknownStreamError",
    "YamlFormatter",
]
