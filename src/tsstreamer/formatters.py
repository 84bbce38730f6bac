"""Formatters whose text SQLite itself can build, a chunk of rows in one step: no row becomes a Python object.

`YamlFormatter` and `JsonFormatter` write what reads back to exactly the stored values. Each knows two ways to the text
of a row: `row` makes it from Python values, `sqlrow` is an SQL expression for it. Both give the same text, but for
reals that need more than six decimals and are no times from 2001 to 2106: Python writes the fewest digits that will do,
SQLite 17 or 20. Either is read back as the same number.

Formatters do not change once made: any thread may use them, several at the same time. SQL needs SQLite 3.38, the first
with JSON by default; 3.37 will do where JSON was compiled in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, ClassVar

from tsstreamer import _text
from tsstreamer.model import CONTENTTYPE_YAML

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["JsonFormatter", "SqlFormatter", "YamlFormatter"]

_CONTENTTYPE_TEXT = 2
"""The testbed's number for plain text; it has none for JSON."""

_YAML_LONGEST_KEY = 1_000
"""Characters of a key that need no ``? `` before it; YAML 1.1 allows 1 024."""


class SqlFormatter(ABC):
    """A formatter that can leave the work to SQLite; derive from it to add one.

    A document is ``head + separator.join(rows) + tail``. A stream takes the text of many rows from `sqlrow` and gives
    it to `finish`; where `sqlexact` is 0 for one of them it calls `row` for each instead.

    Args:
        contenttype: Number of the kind of data in messages, where the class's own will not do.

    Attributes:
        contenttype: That number.
        separator: The text between two rows.
    """

    contenttype: int = _CONTENTTYPE_TEXT
    separator: str = ""

    def __init__(self, *, contenttype: int | None = None) -> None:
        if contenttype is not None:
            self.contenttype = contenttype

    @abstractmethod
    def head(self, nodename: str, columns: Sequence[str]) -> str:
        """Return the text before the first row; `columns` are plain names, ``time`` first."""

    @abstractmethod
    def tail(self) -> str:
        """Return the text after the last row."""

    @abstractmethod
    def row(self, row: Sequence[object]) -> str:
        """Return the text of one row of None, int, float, str and bytes.

        Raises:
            TypeError: A value is of another type, be it derived from one of these.
        """

    @abstractmethod
    def sqlrow(self, columns: Sequence[str], affinities: Sequence[str] | None = None) -> str:
        """Return an SQL expression for the text of one row; it must never be NULL.

        Args:
            columns: The names, quoted for SQL.
            affinities: SQLite's affinity of each column in the very table that is read: ``TEXT``, ``INTEGER``,
                ``REAL``, ``NUMERIC`` or ``BLOB``. Without them any column may hold anything, at half the speed.
        """

    def sqlexact(self, columns: Sequence[str], affinities: Sequence[str] | None = None) -> str:  # noqa: ARG002  (for others)
        """Return an SQL expression: 0 for a row whose text must come from `row`, otherwise 1. Here it is always 1.

        The arguments are those of `sqlrow`.
        """
        return "1"

    def finish(self, text: str) -> str:
        """Return the final form of what `sqlrow` gave, for one row or for many with separators. Here it is the same."""
        return text

    def format(self, nodename: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
        """Return a whole document, made in Python.

        Raises:
            TypeError: As for `row`.
        """
        return self.head(nodename, columns) + self.separator.join(map(self.row, rows)) + self.tail()


class _ArrayFormatter(SqlFormatter):
    """Rows as arrays, with text and integers as in JSON."""

    _notation: ClassVar[_text.Notation]
    _writers: ClassVar[Mapping[type, Callable[..., str]]]

    def row(self, row: Sequence[object]) -> str:
        """Return the text of one row, see `SqlFormatter.row`."""
        writers = self._writers
        try:
            text = self._notation.opening + ",".join([writers[type(value)](value) for value in row]) + "]"
        except KeyError as error:
            message = f"a value must be None, int, float, str or bytes, got {error.args[0].__name__}"
            raise TypeError(message) from error
        # What needs no finish is seen here at once: the calls would take a tenth of the row's time.
        return text if text.isascii() and "\x7f" not in text else self.finish(text)

    def sqlrow(self, columns: Sequence[str], affinities: Sequence[str] | None = None) -> str:
        """Return an SQL expression for the text of one row, see `SqlFormatter.sqlrow`."""
        return self._notation.row(columns, affinities)

    def sqlexact(self, columns: Sequence[str], affinities: Sequence[str] | None = None) -> str:
        """Return an SQL expression: 0 where reals cannot be written by this SQLite, see `SqlFormatter.sqlexact`."""
        return _text.exact(columns, affinities)


class YamlFormatter(_ArrayFormatter):
    r"""A flow-style YAML 1.1 document with a line for each row; PyYAML's safe loaders read the stored values back.

    ::

        {"node": {"index": ["time", "msg"], "data": [
        [1700000000.25,"text"],
        [1700000001.5,null]
        ]}}

    =======  ==========================================================================================================
    NULL     ``null``
    INTEGER  its digits
    REAL     digits with a point, and an exponent with its sign where needed: ``0.1``, ``1.0e+22``; ``.inf``, ``-.inf``
    TEXT     in double quotes, with JSON's escapes, and ``\uXXXX`` for what YAML cannot print; all else as it stands
    BLOB     ``!!binary "base64"``
    =======  ==========================================================================================================

    Names are written like TEXT. There are no anchors, aliases, comments or directives, and no other tags. NaN, which
    SQLite does not hold, is ``.nan``.
    """

    contenttype = CONTENTTYPE_YAML
    separator = ",\n"
    _notation = _text.Notation("[", ".inf", _text.YAML_MARKS)
    _writers: ClassVar[Mapping[type, Callable[..., str]]] = {
        str: encode_basestring,
        int: int.__repr__,
        float: _text.yaml_real,
        bytes: _text.yaml_bytes,
        type(None): lambda _: "null",
    }

    def head(self, nodename: str, columns: Sequence[str]) -> str:
        """Return the text before the first row, up to the line break."""
        node, *index = (self.finish(encode_basestring(name)) for name in (nodename, *columns))
        key = node if len(node) <= _YAML_LONGEST_KEY else f"? {node}"
        return f'{{{key}: {{"index": [{", ".join(index)}], "data": [\n'

    def tail(self) -> str:
        """Return the closing line."""
        return "\n]}}\n"

    def finish(self, text: str) -> str:
        """Write the bytes in a text of SQLite as base64, and escape what YAML cannot print."""
        return _text.yaml_finish(text)


class JsonFormatter(_ArrayFormatter):
    r"""JSON lines: an object that tells node and columns, then an array for each row; `json.loads` reads every line.

    ::

        {"node":"node","index":["time","msg"]}
        [1700000000.25,"text"]
        [1700000001.5,null]

    =======  ==========================================================================================================
    NULL     ``null``
    INTEGER  its digits: 64 bits, of which JavaScript keeps 53
    REAL     digits with a point, and an exponent where needed: ``0.1``, ``1.0e+22``. JSON has no word for infinity: it
             is ``1e999`` or ``-1e999``, which Python, JavaScript and SQLite read as such
    TEXT     in double quotes; these, backslashes, control characters up to U+001F and the line separators U+0085,
             U+2028 and U+2029 are escaped, all else as it stands
    BLOB     ``{"hex":"00FF"}``, in capital hexadecimal digits; no other value is an object
    =======  ==========================================================================================================

    NaN, which SQLite does not hold, is ``null``.
    """

    contenttype = _CONTENTTYPE_TEXT
    # The line break belongs to the row: so a document without rows has no empty line.
    separator = ""
    _notation = _text.Notation("\n[", "1e999", ('{"hex":"', '"}'))
    _writers: ClassVar[Mapping[type, Callable[..., str]]] = {
        str: encode_basestring,
        int: int.__repr__,
        float: _text.json_real,
        bytes: _text.json_bytes,
        type(None): lambda _: "null",
    }

    def head(self, nodename: str, columns: Sequence[str]) -> str:
        """Return the first line without its end."""
        node, *index = (self.finish(encode_basestring(name)) for name in (nodename, *columns))
        return f'{{"node":{node},"index":[{",".join(index)}]}}'

    def tail(self) -> str:
        """Return the end of the last line."""
        return "\n"

    def finish(self, text: str) -> str:
        """Escape what some readers take for the end of a line."""
        return _text.json_finish(text)
