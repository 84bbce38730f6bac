"""Types as users see them: the installed package is typed, and `typing_sample` is what users write."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import tsstreamer
from tests import typing_sample

MYPY = "mypy"


def test_the_package_says_that_it_is_typed() -> None:
    """The installed package holds the marker that makes type checkers believe its annotations."""
    assert (Path(tsstreamer.__path__[0]) / "py.typed").exists()


def test_what_users_write_runs(tmp_path: Path) -> None:
    """The code that the type checker accepts also does what it says."""
    typing_sample.log(tmp_path)
    report = typing_sample.store_and_stream(tmp_path)
    assert (report.stored, report.rejected, dict(report.dropped)) == (1, 0, {})


@pytest.mark.skipif(find_spec(MYPY) is None, reason="needs mypy, see the extra lint")
def test_what_users_write_type_checks(tmp_path: Path) -> None:
    """Strict mypy finds the planted mistakes and nothing else, in the package as installed."""
    shutil.copy(typing_sample.__file__, tmp_path)
    command = [sys.executable, "-m", MYPY, "--strict", "--cache-dir", str(tmp_path), "typing_sample.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=55, check=False)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
