"""How a row becomes text, twice: an SQL expression, and what Python writes for each type of value. Knows no connection.

The SQL counts: `json_array` writes text and integers of a whole row in one call, a CASE for each column takes twice the
time. Reals and bytes it cannot do: it prints 15 digits, and refuses bytes. What it gives for text is what
`json.encoder.encode_basestring` gives, NUL characters included.
"""

from __future__ import annotations

import binascii
import math
import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MOST_ARGUMENTS = 100
"""What `json_array` takes unless a build of SQLite has lowered its default."""

_ODD = {
    "TEXT": "{0}>=x''",
    # -2**63 is the one real that an INTEGER column keeps as such although it equals an integer.
    "INTEGER": f"{{0}}<>CAST({{0}} AS INTEGER) OR {{0}}<={-(2**63)}",
}
"""For the affinities under which reals are rare: is this value a real or bytes? Text sorts before all bytes."""

# Where long double is no longer than double, printf of SQLite before 3.43 gets the last digits wrong.
_PRINTF_IS_EXACT = "printf('%!.17g %!.17g',0.3,123.456)='0.29999999999999999 123.456'"

_UNPRINTABLE = "\x7f" + "".join(map(chr, range(0x80, 0xA0))) + "\u2028\u2029\ufeff\ufffe\uffff"
"""What JSON leaves as it stands, and YAML does not print or takes for a line break or byte order mark."""

_UNPRINTABLE_ANY = re.compile(f"[{_UNPRINTABLE}]")
_MARKED_BYTES = re.compile("\x01([0-9A-F]*)\x01")


@dataclass(frozen=True)
class Notation:
    """What differs from one language with JSON's arrays, text and integers to another.

    Attributes:
        opening: The text before the first value of a row.
        infinity: The word for positive infinity; with a minus sign before it the negative one.
        blob: The texts before and after the hexadecimal digits of bytes.
    """

    opening: str
    infinity: str
    blob: tuple[str, str]

    def row(self, columns: Sequence[str], affinities: Sequence[str] | None) -> str:
        """Return an expression for a row's text; it is never NULL. Names are quoted for SQL already."""
        starts = [self.opening, *[","] * (len(columns) - 1)]
        singly = _tree("||", [*map(self._value, columns, starts), "']'"])
        if affinities is None or len(columns) >= _MOST_ARGUMENTS:
            return singly
        pairs = list(zip(columns, affinities, strict=True))
        odd = [_ODD[affinity].format(column) for column, affinity in pairs if affinity in _ODD]
        if not odd:
            return singly
        return f"CASE WHEN {_tree(' OR ', odd)} THEN {singly} ELSE {_tree('||', list(self._runs(pairs)))} END"

    def _runs(self, pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
        """Yield expressions whose texts together are a row without odd values, neighbouring columns in one array."""
        runs = [(plain, [name for name, _ in run]) for plain, run in groupby(pairs, lambda pair: pair[1] in _ODD)]
        for number, (plain, names) in enumerate(runs):
            start = "," if number else self.opening
            last = number == len(runs) - 1
            if not plain:
                yield from map(self._value, names, [start, *[","] * (len(names) - 1)])
            else:
                # "[0,1,2]" without its first two characters goes on where another value ended.
                array = f"json_array(0,{','.join(names)})"
                array = array if last else f"rtrim({array},']')"
                yield from [f"substr({array},3)"] if number else [_literal(start), f"substr({array},4)"]
            if last and not plain:
                yield "']'"

    def _value(self, column: str, start: str) -> str:
        """Return an expression for `start` and a value of any type."""
        before, after = _literal(start + self.blob[0]), _literal(self.blob[1])
        return (
            f"CASE typeof({column}) WHEN 'real' THEN {self._real(column, start)} "
            f"WHEN 'blob' THEN {before}||hex({column})||{after} ELSE {_literal(start)}||json_quote({column}) END"
        )

    def _real(self, column: str, start: str) -> str:
        """Return an expression for `start` and a real.

        * Where ``round(c * 1e6) / 1e6`` gives c back, six decimals do: both operands are integers below 2**53, so the
          division rounds just as reading the decimals does. These have 15 digits at most, 16 from 1e9 on.
        * From 1e9 to 2**32 (times: each row has one) seven decimals tell a real from its neighbours. They are exact:
          the fraction has at most 23 bits, its product with 1e7 at most 40, and adding 2**52 rounds as `repr` does.
        * All else has 17 digits, or 20 where printf scales by a power of ten that is not exact itself.
        """
        six = f"round({column}*1e6)/1e6={column}"
        seventh = f"CAST(({column}-CAST({column} AS INTEGER))*1e7+{2**52}.0 AS INTEGER)-{2**52}"
        return (
            f"CASE WHEN {column} BETWEEN 1e9 AND {2**32 - 1}.0 THEN CASE WHEN {six} "
            f"THEN printf('{start}%!.16g',{column}) ELSE printf('{start}%d.%07d',{column},{seventh}) END "
            f"WHEN {six} AND {column} BETWEEN -1e9 AND 1e9 THEN printf('{start}%!.15g',{column}) "
            f"WHEN {column} BETWEEN 1e-7 AND 1e22 OR {column} BETWEEN -1e22 AND -1e-7 "
            f"THEN printf('{start}%!.17g',{column}) "
            f"WHEN {column}=9e999 THEN '{start}{self.infinity}' WHEN {column}=-9e999 THEN '{start}-{self.infinity}' "
            f"ELSE printf('{start}%!.20g',{column}) END"
        )


def exact(columns: Sequence[str], affinities: Sequence[str] | None) -> str:
    """Return an expression that is 0 for a row of which SQLite cannot write the reals, otherwise 1.

    SQLite 3.40 prints -0.0 as 0.0. Only a column that does not compare numerically with text can hold it.
    """
    zeros = [
        f"{column}=0 AND typeof({column})='real' AND {column}<>'0'"
        for column, affinity in zip(columns, affinities or ["BLOB"] * len(columns), strict=True)
        if affinity == "BLOB"
    ]
    return f"CASE WHEN {_tree(' OR ', [f'NOT {_PRINTF_IS_EXACT}', *zeros])} THEN 0 ELSE 1 END"


def yaml_real(value: float) -> str:
    """Write a real with the fewest digits; the point is always there, as YAML 1.1 takes 1e+22 for text."""
    text = repr(value)
    if "e" in text:
        return text if "." in text else text.replace("e", ".0e")
    return text if math.isfinite(value) else text.replace("inf", ".inf").replace("nan", ".nan")


def json_real(value: float) -> str:
    """Write a real as YAML does, but for what is not finite."""
    if math.isfinite(value):
        return yaml_real(value)
    return "null" if math.isnan(value) else "1e999" if value > 0 else "-1e999"


def yaml_bytes(value: bytes) -> str:
    """Write bytes under the tag that PyYAML's safe loaders know."""
    return f'!!binary "{binascii.b2a_base64(value, newline=False).decode()}"'


YAML_MARKS = ("\x01", "\x01")
"""Around hexadecimal digits from SQLite, which has no base64; control characters never stand in a text otherwise."""


def yaml_finish(text: str) -> str:
    """Write marked bytes as base64, and escape what YAML cannot print."""
    if YAML_MARKS[0] in text:
        text = _MARKED_BYTES.sub(lambda found: yaml_bytes(bytes.fromhex(found[1])), text)
    if text.isascii():
        return text.replace("\x7f", "\\u007f")
    # A search for each character takes a tenth of the pattern's time, and mostly finds none.
    if any(map(text.__contains__, _UNPRINTABLE)):
        text = _UNPRINTABLE_ANY.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text


def json_finish(text: str) -> str:
    """Escape what JSON leaves as it stands but `str.splitlines` and JavaScript take for the end of a line."""
    if not text.isascii():
        for character in "\x85\u2028\u2029":
            text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def json_bytes(value: bytes) -> str:
    """Write bytes as an object, which no other value is."""
    return f'{{"hex":"{value.hex().upper()}"}}'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _tree(operator: str, terms: Sequence[str]) -> str:
    """Join terms in a balanced way: SQLite limits the depth of an expression."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return f"({_tree(operator, terms[:half])}{operator}{_tree(operator, terms[half:])})"
