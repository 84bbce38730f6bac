"""Checks of the names a stream is sent under, made before anything is sent: what passes fits the testbed's wire format.

There, one byte holds the length of a name, and two bytes that of a message's header.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["check_destinations"]

_MAX_NAME_BYTES = 255
_MAX_HEADER_BYTES = 65_535
_FIXED_BYTES = 4 + 1 + 1 + 2 * (1 + 1 + 4)
"""Identifier, flags and content type; then sequence and timestamp, each with its type, its length and four bytes."""


def check_destinations(
    nodename: str,
    streamname: str,
    nodes: Iterable[str] | None,
    groups: Iterable[str] | None,
    docks: Iterable[str] | None,
) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return `nodes`, `groups` and `docks` as sets of names that fit into a message's header; None gives an empty set.

    Raises:
        TypeError: A name is not a str, or something else stands where a collection of names belongs.
        ValueError: A name is empty, not encodable, or longer than 255 bytes of UTF-8; or together they need a header of
            more than 65 535 bytes.
    """
    size = _FIXED_BYTES + _header_bytes("nodename", nodename) + _header_bytes("streamname", streamname)
    found = []
    for argument, names in (("dstnodes", nodes), ("dstgroups", groups), ("dstdocks", docks)):
        if isinstance(names, str | bytes) or not isinstance(names, Iterable | None):
            text = f"{argument} must be a collection of names, such as [{names!r}], got {names!r}"
            raise TypeError(text)
        sizes = {name: _header_bytes(argument, name) for name in names or ()}
        size += sum(sizes.values())
        found.append(frozenset(sizes))
    if size > _MAX_HEADER_BYTES:
        count = sum(map(len, found))
        text = f"{count} destinations need a header of {size} bytes, more than {_MAX_HEADER_BYTES}: address groups"
        raise ValueError(text)
    return found[0], found[1], found[2]


def _header_bytes(argument: str, name: object) -> int:
    """Return what one name takes in a header, with its type and length."""
    if not isinstance(name, str):
        text = f"{argument}: a name must be a str, got {name!r}"
        raise TypeError(text)
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        text = f"{argument}: not encodable in UTF-8: {name!r}"
        raise ValueError(text) from error
    if not 0 < size <= _MAX_NAME_BYTES:
        text = f"{argument}: a name must have 1 to {_MAX_NAME_BYTES} bytes in UTF-8, got {size}: {name!r}"
        raise ValueError(text)
    return 2 + size
