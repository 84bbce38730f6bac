"""The layers of the package, read from its import statements; those for type checking and in functions count too."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import tsstreamer

VALUES = "errors model protocols _options"
TEXTS = "_sql _filter _rows"

# From the bottom to the top: a module may import what stands in its line, and only what stands above it.
MAY_IMPORT = {
    "errors": "",
    "model": "",
    "_options": "",
    "protocols": "model",
    # texts and values, without connections and threads
    "_sql": "",
    "_filter": "errors",
    "_rows": "_sql",
    "_destinations": "",
    "_verdict": "",
    # storing: hand-over, database, writer
    "_backlog": "_options _rows _sql errors model",
    "_database": f"_options {TEXTS} errors",
    "_retention": "_backlog _database _options _sql errors",
    "_writer": "_backlog _database _options _retention _rows _sql errors",
    # sending: rows to messages, messages to messengers
    "_text": "",
    "formatters": f"{VALUES} _text",
    "_packing": f"{VALUES} _database _filter _sql formatters",
    "_sender": f"{VALUES} _database _packing _sql _writer",
    "_scheduler": f"{VALUES} _sender",
    # the class that puts them together
    "_process": "_database",
    "_streamer": f"{VALUES} {TEXTS} _destinations _backlog _database _retention _writer "
    "formatters _packing _sender _scheduler _process",
    # what users take along with it
    "messengers": VALUES,
    "receiver": f"{VALUES} _verdict",
    "testing": VALUES,
    "handler": f"{VALUES} _streamer",
    "__init__": f"{VALUES} _streamer formatters messengers receiver handler",
    # the commands
    "_inspect": f"{VALUES} {TEXTS} _database",
    "_audit": "_inspect _sql errors",
    "_signals": "",
    "_record": "__init__ _signals",
    "_demo_child": "__init__",
    "_demo": "__init__ _signals _demo_child",
    "_cli": "__init__ _inspect _audit _record _demo",
    "__main__": "_cli",
}

SIBLINGS = [
    {"formatters", "messengers", "receiver", "testing", "handler"},
    {"_backlog", "_database"},
    {"_filter", "_rows"},
    {"_inspect", "_record", "_demo"},
]
"""Parts that must not know each other, in either direction."""

MAY_KNOW = {
    "sqlite3": "_database _filter receiver _inspect _demo",
    "threading": "_backlog _database _writer _sender _scheduler _process _streamer "
    "messengers testing handler _demo _demo_child",
    "yaml": "_demo_child",
}
"""Modules from outside, and the only parts that may import them."""

FOLDER = Path(tsstreamer.__path__[0])
SOURCES = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}


def imports_of(source: str) -> tuple[set[str], set[str]]:
    """Return the modules of the package and the top-level modules from outside that `source` imports."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "tsstreamer." * bool(node.level) + (node.module or "")
            names = [f"{base.rstrip('.')}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package != "tsstreamer":
                outside.add(package)
            else:
                module = rest.partition(".")[0]
                inside.add(module if module in SOURCES else "__init__")
    return inside, outside


def test_the_reader_of_imports_sees_every_form() -> None:
    """Plain, aliased, relative, conditional and late imports are all found."""
    source = """
import sqlite3 as db, os.path
import tsstreamer.errors
from tsstreamer import model, SqliteDataStreamer
from tsstreamer._sql import Table
from . import protocols
from ._rows import Row
if TYPE_CHECKING:
    def late():
        from tsstreamer._options import PERIOD
"""
    expected = {"errors", "model", "__init__", "_sql", "protocols", "_rows", "_options"}, {"sqlite3", "os"}
    assert expected == imports_of(source)


def test_every_module_has_its_place() -> None:
    """The table names exactly the modules of the package."""
    assert set(MAY_IMPORT) == {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.py")}


def test_the_table_goes_one_way() -> None:
    """Each line of the table names only lines above it, so there is no cycle."""
    above: set[str] = set()
    for module, allowed in MAY_IMPORT.items():
        assert set() == set(allowed.split()) - above, module
        above.add(module)


def test_siblings_do_not_know_each_other() -> None:
    """No line of the table lets a module import one of its siblings."""
    for siblings in SIBLINGS:
        for module in siblings:
            assert set() == set(MAY_IMPORT[module].split()) & siblings, module


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_what_it_may(module: str) -> None:
    """A module imports no part of the package that its line does not name."""
    inside, _ = imports_of(SOURCES[module].read_text("utf-8"))
    assert set() == inside - set(MAY_IMPORT[module].split())


@pytest.mark.parametrize("known", MAY_KNOW)
def test_only_some_may_know(known: str) -> None:
    """SQLite, threads and YAML stay where they belong."""
    knowing = {module for module, path in SOURCES.items() if known in imports_of(path.read_text("utf-8"))[1]}
    assert set() == knowing - set(MAY_KNOW[known].split())


def test_nothing_else_is_needed() -> None:
    """Beside the standard library the package imports PyYAML only."""
    outside = {name for path in SOURCES.values() for name in imports_of(path.read_text("utf-8"))[1]}
    assert {"yaml"} == outside - sys.stdlib_module_names
