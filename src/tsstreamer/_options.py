"""Every default and limit of the package in one place, with its unit and the reason for its value."""

from __future__ import annotations

# --- storing ---
FLUSH_INTERVAL = 0.05
"""Seconds between the first waiting row and its commit: the loss window of ``kill -9``, and twenty commits a second."""
MAX_PENDING = 1_000_000
"""Rows waiting in one storage: about 250 MB of log records, and two seconds of a producer at full speed."""
BLOCK_TIMEOUT = 30.0
"""Seconds that ``overflow="block"`` waits: longer than a checkpoint or a short lock, shorter than a watchdog."""
OVERFLOWS = ("block", "dropNewest", "dropOldest", "raise")
SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")

GATHER_ROWS = 2048
"""Waiting rows that end the gathering early: enough to make a commit cheap, few enough to keep the lag small."""
STATEMENT_ROWS = 16_380
"""Rows in one INSERT, and so in one transaction, at most (fewer where SQLite takes fewer variables): some 25 ms of
SQLite. Beside busy threads each statement waits for the GIL: with four of them a quarter of this falls behind 50 000
rows/s. Twice as many are slower, their values do not fit the processor's cache."""
TURN_SECONDS = 0.5
"""Time after which a producer that waits for its turn looks for room by itself: many times what a transaction takes."""
LOOK_SECONDS = 0.25
"""Time between looks whether the file is still in its place, while transactions follow each other without a pause:
beside busy threads a look costs as much as a transaction."""
HALVED_ROWS = 16
"""Rows of a batch that are refused until its other rows are inserted one by one: finding one by halves takes up to 28
statements."""
RECORD_SECONDS = 1.0
"""Time between entries of dropped rows in the ledger: they come with every transaction when they come."""

# --- SQLite ---
BUSY_SECONDS = 0.25
"""SQLite's own wait for a lock, which nothing can interrupt: short, the patient waiting is done outside."""
OPEN_SECONDS = 10.0
"""Patience with another process that holds the lock while the database is opened or a storage is added."""
RETRY_FIRST, RETRY_LAST = 0.05, 2.0
"""Seconds between tries to write a batch, doubling: soon after a hiccup, twice a second's trouble on a full disk."""
WAL_LIMIT_BYTES = 64 << 20
"""Size to which SQLite cuts the write-ahead log after a checkpoint: what one long reader may have made it grow."""
SEARCH_SECONDS = 5.0
"""Time that one read of a stream may take before it is interrupted."""
SEARCH_TRIES = 3
"""Reads in a row that may be interrupted before the filter counts as endless: a stalled process is none."""

# --- streaming ---
PERIOD = 1.0
MESSAGE_ROWS = 10_000
"""Rows in one message: about 1 MB of log records, some 20 ms to build."""
MESSAGE_BYTES = 4 << 20
"""Bytes in one message: far below the 4 GB of the wire format, small enough to hold several in memory."""
PROBE_ROWS = 64
"""Rows of the first read: enough to see how long rows are, before thousands of long ones are in memory."""
READ_AHEAD = 8
"""How much longer than `MESSAGE_BYTES` the rows may be that a formatter makes its data from: it may summarise."""
WINDOW = 4
"""Messages built ahead and, with acknowledging messengers, in flight: one position update for each window."""
PASS_MESSAGES = 16
"""Messages of one stream in one pass: what one stream may send before the others have their turn."""
SCAN_ROWS = 100_000
"""Rows that a filter looks at in one read: about 50 ms."""
PASS_SCANS = 20
"""Reads without a matching row in one pass: a filter that matches nothing yields after about a second."""
SCANNED_SECONDS = 10.0
"""Time after which the last id that a filter looked at is written down: retention may delete rows up to there."""
SAVE_SECONDS = 5.0
"""Patience of a stream with the writer before it backs off: more than a batch and a checkpoint take."""
ACK_TIMEOUT = 30.0
"""Seconds until an unresolved future counts as a failure."""
ACK_POLL = 0.1
"""Seconds until `doUpdates` wants to look at outstanding futures again: an answer waits for no period."""
BACKOFF_FIRST, BACKOFF_LAST = 0.1, 30.0
"""Seconds between tries to send, doubling, with jitter so that many senders do not come back at once."""
FORMAT_TRIES = 3
"""Tries of a formatter that fails for every row of a message, before the rows count as bad and not the formatter."""

# --- keeping ---
DEAD_LETTERS = 10_000
"""Dead letters kept; older ones are deleted, the count stays in the ledger."""
DEAD_TEXT = 2_000
"""Characters kept of a dead row's values."""
RETENTION_SECONDS = 1.0
"""Pause between looks for expired rows: once a second is soon enough, and within two idle wake-ups a second."""
RETENTION_ROWS = 1_000
"""Rows deleted in one transaction when idle: a few milliseconds that a new row may have to wait."""
EXIT_SECONDS = 30.0
"""Time that the interpreter's exit gives to commit what is waiting."""
