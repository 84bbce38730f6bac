"""Rules for every test: nothing is left behind, what is random can be repeated, long soaks run on request only.

Environment variables: ``TSSTREAMER_SOAK=1`` runs the tests marked `soak`; ``TSSTREAMER_SEED=n`` repeats a failure.
"""

from __future__ import annotations

import gc
import os
import random
import sqlite3
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import tsstreamer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

SOAK = os.environ.get("TSSTREAMER_SOAK") == "1"
# The quick tests are the same on every run; a soak looks for what they have not seen.
SEED = int(os.environ.get("TSSTREAMER_SEED") or (time.time_ns() % 1_000_000 if SOAK else 1))
GRACE_SECONDS = 5.0
"""What a thread may take to end after its test: a slow machine's worst, far below the time-out of a test."""

_FAILED = pytest.StashKey[bool]()

settings.register_profile("quick", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("soak", settings.get_profile("quick"), derandomize=False, max_examples=10_000)
settings.load_profile("soak" if SOAK else "quick")


def pytest_report_header() -> list[str]:
    """Say what is tested: the wheel or a source tree, and with which seed."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return [
        f"tsstreamer: {tsstreamer.__path__[0]}, SQLite {sqlite3.sqlite_version}, GIL {'on' if gil else 'off'}",
        f"TSSTREAMER_SEED={SEED}, soaks {'on' if SOAK else 'off'}",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the long tests unless they are asked for."""
    for item in items:
        if not SOAK and item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: set TSSTREAMER_SOAK=1"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the seed with each failure, and remember it for the look at what is left behind."""
    report = yield
    if report.failed:
        report.sections.append(("Seed", f"TSSTREAMER_SEED={SEED}"))
        item.stash[_FAILED] = True
    return report


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of this test's own, the same for the same seed whatever other tests ran."""
    return random.Random(f"{SEED} {request.node.nodeid}")


@dataclass(frozen=True)
class _World:
    """What a test can leave behind."""

    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[str, str]]

    @classmethod
    def now(cls) -> _World:
        # Frozen objects are those of before: out of the sight of `_open_connections`, which has few left to look at.
        gc.freeze()
        return cls(frozenset(threading.enumerate()), frozenset(_descriptors()))

    def left_behind(self) -> list[str]:
        """Describe what is there now and was not there then."""
        leaks = []
        for thread in set(threading.enumerate()) - self.threads:
            frame = sys._current_frames().get(thread.ident or 0)
            stack = "".join(traceback.format_stack(frame)[-3:]) if frame else ""
            leaks.append(f"thread {thread.name!r} (daemon={thread.daemon})\n{stack}".rstrip())
        leaks += [f"descriptor {number} -> {target}" for number, target in set(_descriptors()) - self.descriptors]
        leaks += [f"open {connection!r}" for connection in _open_connections()]
        return leaks


def _descriptors() -> Iterator[tuple[str, str]]:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            yield entry.name, str(entry.readlink())
        except FileNotFoundError:
            continue  # the descriptor of the listing itself


def _open_connections() -> Iterator[sqlite3.Connection]:
    for connection in [each for each in gc.get_objects() if isinstance(each, sqlite3.Connection)]:
        try:
            connection.total_changes  # noqa: B018  (the cheapest question that only an open connection answers)
        except sqlite3.ProgrammingError:
            continue
        yield connection


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, a descriptor or an open SQLite connection behind.

    A connection that was lost unclosed fails the test from Python 3.13 on: the collection lets its ResourceWarning out.
    """
    before = _World.now()
    yield
    failed = request.node.stash.get(_FAILED, False)
    deadline = time.monotonic() + (0 if failed else GRACE_SECONDS)
    gc.collect()
    while (leaks := before.left_behind()) and time.monotonic() < deadline:
        time.sleep(0.01)
        gc.collect()
    if leaks:
        text = "left behind:\n" + "\n".join(leaks)
        if failed:
            print(text)  # noqa: T201  (the failure itself may be the reason)
        else:
            pytest.fail(text, pytrace=False)
