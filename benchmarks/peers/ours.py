"""tsstreamer as a subject: the same calls as the peers."""

import functools
from importlib import import_module
from pathlib import Path

from benchmarks.workload import KEY, KEYS, TYPES, Store


class TsStreamer:
    """A `SqliteDataStreamer` with its defaults, apart from the bound."""

    table = KEY
    database: Path
    store: Store

    def start(self, folder: Path, bound: int) -> None:
        """Open the database and add the storage."""
        self.database = folder / "rows.db"
        self.streamer = import_module("tsstreamer").SqliteDataStreamer(
            str(self.database), maxPending=bound, overflow="block"
        )
        self.streamer.addStorage(KEY, KEYS, TYPES)
        self.store = functools.partial(self.streamer.storeData, KEY)

    def finish(self) -> None:
        """Flush."""
        self.streamer.flush()
