"""Makes SQLite's system calls fail without root or a mock: through the table that SQLite keeps for its own tests.

`sqlite3_vfs.xSetSystemCall` (https://sqlite.org/c3ref/vfs.html) of the very library that the sqlite3 module is linked
to. Calls to ``fsync`` and ``fdatasync`` are not in that table.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POINTER = ctypes.c_void_p
_SLOTS = (
    *("xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose", "xRandomness"),
    *("xSleep", "xCurrentTime", "xGetLastError", "xCurrentTimeInt64"),
)


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", _POINTER),
        ("zName", ctypes.c_char_p),
        ("pAppData", _POINTER),
        *((slot, _POINTER) for slot in _SLOTS),
        ("xSetSystemCall", ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_char_p, _POINTER)),
        ("xGetSystemCall", ctypes.CFUNCTYPE(_POINTER, _POINTER, ctypes.c_char_p)),
    )


_INT, _SIZE, _OFFSET = ctypes.c_int, ctypes.c_size_t, ctypes.c_longlong
_SIGNATURES: dict[str, Any] = {
    "open": ctypes.CFUNCTYPE(_INT, ctypes.c_char_p, _INT, _INT, use_errno=True),
    "pread64": ctypes.CFUNCTYPE(ctypes.c_ssize_t, _INT, _POINTER, _SIZE, _OFFSET, use_errno=True),
    "pwrite64": ctypes.CFUNCTYPE(ctypes.c_ssize_t, _INT, _POINTER, _SIZE, _OFFSET, use_errno=True),
    "ftruncate": ctypes.CFUNCTYPE(_INT, _INT, _OFFSET, use_errno=True),
    "unlink": ctypes.CFUNCTYPE(_INT, ctypes.c_char_p, use_errno=True),
}
CALLS = tuple(_SIGNATURES)


def _library() -> ctypes.CDLL:
    """Return the SQLite that is loaded in this process already: another copy would have another table."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").split()
    loaded = sorted({path for path in maps if "libsqlite3.so" in path})
    if not loaded:
        pytest.skip("the sqlite3 module has its own copy of SQLite, which cannot be reached")
    return ctypes.CDLL(loaded[0])


def _find_vfs(name: bytes | None = None) -> Any:
    find = _library().sqlite3_vfs_find
    find.restype, find.argtypes = ctypes.POINTER(_Vfs), [ctypes.c_char_p]
    return find(name)


class Fault:
    """Decides for each call whether it fails; counts the calls it saw and those it failed.

    Any thread may call it: SQLite calls from whichever thread runs a statement.
    """

    def __init__(self, error: int, fails: Callable[[int], bool], where: Callable[[object], bool]) -> None:
        self.seen = self.failed = 0
        self.error = error
        self._fails = fails
        self._where = where
        self._lock = threading.Lock()
        self._active = True

    def hit(self, target: object) -> bool:
        with self._lock:
            if not self._active or not self._where(target):
                return False
            self.seen += 1
            fails = self._fails(self.seen)
            self.failed += fails
            return fails

    def clear(self) -> None:
        """Let everything pass from now on."""
        with self._lock:
            self._active = False


@contextmanager
def failing(
    call: str, error: int, fails: Callable[[int], bool], where: Callable[[object], bool] = lambda _: True
) -> Iterator[Fault]:
    """Let a system call of SQLite fail with `error` whenever ``fails(n)`` is true of its number (1, 2, 3 …).

    `where` narrows it: it gets the call's first argument, a descriptor or a path.
    """
    vfs = _find_vfs()
    here = ctypes.cast(vfs, _POINTER)
    signature = _SIGNATURES[call]
    original = signature(vfs.contents.xGetSystemCall(here, call.encode()))
    fault = Fault(error, fails, where)

    def replacement(*arguments: Any) -> int:
        if fault.hit(arguments[0]):
            ctypes.set_errno(fault.error)
            return -1
        result: int = original(*arguments)
        return result

    callback = signature(replacement)
    assert not vfs.contents.xSetSystemCall(here, call.encode(), ctypes.cast(callback, _POINTER))
    try:
        yield fault
    finally:
        fault.clear()
        vfs.contents.xSetSystemCall(here, call.encode(), None)  # None: the original


def is_file(path: Path) -> Callable[[object], bool]:
    """Say of a descriptor whether it is the file at `path`."""
    return lambda descriptor: Path(f"/proc/self/fd/{descriptor}").readlink() == path


@contextmanager
def default_vfs(name: str) -> Iterator[None]:
    """Let SQLite open files through another of its file systems."""
    register = _library().sqlite3_vfs_register
    register.argtypes = [ctypes.POINTER(_Vfs), _INT]
    before = _find_vfs()
    assert register(_find_vfs(name.encode()), 1) == 0
    try:
        yield
    finally:
        register(before, 1)


def calls_of(fault: Fault) -> str:
    """Describe what was seen, for a failure's text."""
    return f"{fault.failed} of {fault.seen} calls failed with {os.strerror(fault.error)}"
