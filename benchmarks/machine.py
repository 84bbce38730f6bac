"""What the figures were measured on: cores, Python and its GIL, SQLite, file system, load, versions of the peers."""

import datetime as dt
import importlib.metadata
import os
import platform
import sqlite3
import sys
import time
from pathlib import Path

from benchmarks.peers import SUBJECTS

MOUNTS = Path("/proc/mounts")
STAT = Path("/proc/stat")


class OtherLoad:
    """Watches how much processor time other processes take while something is measured.

    It matters: where another process keeps a core busy, the threads of a subject share one core, and the GIL then
    changes hands at other moments than on a quiet machine.
    """

    def __init__(self) -> None:
        """Start watching."""
        self._begin = time.perf_counter()
        self._others = self._used_by_others()

    def percent(self) -> float:
        """Return what others took since the start, in percent of one core; 0 on a system without /proc/stat."""
        return 100 * max(0.0, self._used_by_others() - self._others) / (time.perf_counter() - self._begin)

    @staticmethod
    def _used_by_others() -> float:
        """Return the processor seconds of everybody but this process and the children that it has waited for."""
        if not STAT.exists():
            return 0.0
        user, nice, system, _, _, irq, softirq, *_ = map(
            int, STAT.read_text(encoding="ascii").splitlines()[0].split()[1:]
        )
        own = os.times()
        ticks = user + nice + system + irq + softirq
        return ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system - own.children_user - own.children_system


def describe(folder: Path) -> dict[str, str]:
    """Return the facts about this machine; databases are written below `folder`."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": f"{_usable_cores()} usable of {os.cpu_count()}",
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": _gil(),
        "sqlite": sqlite3.sqlite_version,
        "file system": _file_system(folder),
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown",
        "versions": ", ".join(_versions()),
    }


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gil() -> str:
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    return f"on, switch interval {sys.getswitchinterval() * 1000:g} ms" if enabled else "off (free-threaded)"


def _file_system(folder: Path) -> str:
    """Return the type of the file system that holds `folder`: that of the longest mount point above it."""
    if not MOUNTS.exists():
        return "unknown"
    best, kind = "", "unknown"
    for line in MOUNTS.read_text(encoding="utf-8").splitlines():
        _, point, name, *_ = line.split()
        if len(point) >= len(best) and folder.resolve().is_relative_to(point):
            best, kind = point, name
    return kind


def _versions() -> list[str]:
    versions = []
    for package in dict.fromkeys(
        [*(spec.package for spec in SUBJECTS.values() if spec.package), "PyYAML", "matplotlib"]
    ):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} missing")
    return versions
