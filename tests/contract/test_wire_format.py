"""The attributes of `Message` are enough for the testbed's wire format, shown by an encoder and a decoder.

Big-endian: total length 4 bytes (what follows it), header length 2 (what follows it, up to the data), identifier 4,
flags 1, content type 1; then options, each with type 1, length 1 and value; then the data.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from types import SimpleNamespace

from tsstreamer._destinations import check_destinations
from tsstreamer.model import CONTENTTYPE_YAML, Message
from tsstreamer.receiver import Receiver, Verdict

NUMBERS = {1: "sequence", 2: "timestamp"}
TEXTS = {20: "src", 21: "srcdock"}
SETS = {50: "dstnodes", 51: "dstgroups", 52: "dstdocks"}
IDENTITY = 200
"""An option type that the testbed does not use, and skips: here the identity that a `Receiver` needs."""

MESSAGE = Message(
    dstnodes=frozenset({"n1", "nœud"}),
    dstgroups=frozenset({"__ALL__"}),
    dstdocks=frozenset({"data", "log"}),
    data="n1:\n  data: []\n",
    contenttype=CONTENTTYPE_YAML,
    src="sender",
    sequence=7,
    timestamp=1_700_000_000.75,
    stream="logkey",
    storage="logkey",
    dbid="3f2b8c0e5a",
    epoch=2,
    after=40,
    upto=42,
    rows=2,
)


def option(kind: int, value: bytes) -> bytes:
    """One option of the header."""
    return struct.pack(">BB", kind, len(value)) + value


def pack(message: Message, identifier: int, *, identity: bool = False) -> bytes:
    """Encode a message as the testbed does; with `identity`, one option more."""
    header = struct.pack(">IBB", identifier, 0, message.contenttype)
    header += option(1, struct.pack(">I", message.sequence)) + option(2, struct.pack(">I", int(message.timestamp)))
    header += option(20, message.src.encode()) + option(21, message.stream.encode())
    for kind, name in SETS.items():
        header += b"".join(option(kind, text.encode()) for text in sorted(getattr(message, name)))
    if identity:
        numbers = struct.pack(">QQQQ", message.epoch, message.after, message.upto, message.rows)
        header += option(IDENTITY, numbers + message.dbid.encode())
    data = message.data.encode() if isinstance(message.data, str) else message.data
    return struct.pack(">IH", 2 + len(header) + len(data), len(header)) + header + data


def unpack(packet: bytes) -> SimpleNamespace:
    """Decode a packet; unknown options are skipped."""
    total, length, identifier, flags, contenttype = struct.unpack_from(">IHIBB", packet)
    found = SimpleNamespace(
        total=total, identifier=identifier, flags=flags, contenttype=contenttype, data=packet[6 + length :]
    )
    for name in SETS.values():
        setattr(found, name, set())
    at = 12
    while at < 6 + length:
        kind, size = packet[at : at + 2]
        value = packet[at + 2 : at + 2 + size]
        at += 2 + size
        if kind in NUMBERS:
            setattr(found, NUMBERS[kind], int.from_bytes(value))
        elif kind in TEXTS:
            setattr(found, TEXTS[kind], value.decode())
        elif kind in SETS:
            getattr(found, SETS[kind]).add(value.decode())
        elif kind == IDENTITY:
            found.epoch, found.after, found.upto, found.rows = struct.unpack_from(">QQQQ", value)
            found.dbid, found.stream = value[32:].decode(), found.srcdock
    return found


def test_a_message_becomes_these_bytes() -> None:
    """A small message, packed by hand."""
    small = replace(MESSAGE, dstnodes=frozenset({"n1"}), dstgroups=frozenset(), dstdocks=frozenset({"d"}), data=b"x: 1")
    expected = (
        b"\x00\x00\x00\x2f\x00\x29\x00\x00\x00\x09\x00\x05"
        b"\x01\x04\x00\x00\x00\x07\x02\x04\x65\x53\xf1\x00"
        b"\x14\x06sender\x15\x06logkey\x32\x02n1\x34\x01d"
        b"x: 1"
    )
    assert expected == pack(small, 9)


def test_a_message_is_packed_and_unpacked() -> None:
    """Every attribute that the testbed knows arrives as it was; the timestamp in whole seconds."""
    packet = pack(MESSAGE, 77)
    expected = {
        "total": len(packet) - 4,
        "identifier": 77,
        "flags": 0,
        "contenttype": 5,
        "sequence": 7,
        "timestamp": 1_700_000_000,
        "src": "sender",
        "srcdock": "logkey",
        "dstnodes": {"n1", "nœud"},
        "dstgroups": {"__ALL__"},
        "dstdocks": {"data", "log"},
        "data": b"n1:\n  data: []\n",
    }
    assert expected == vars(unpack(packet))


def test_a_receiver_needs_one_option_more() -> None:
    """Database, epoch, range and row count fit into an option of the header, and tell a repeat at the other end."""
    receiver = Receiver()
    receiver.take(unpack(pack(replace(MESSAGE, after=0, upto=40, rows=40), 1, identity=True)))
    message = unpack(pack(MESSAGE, 2, identity=True))
    assert [Verdict(kind="new"), Verdict(kind="repeat", skip=2)] == [receiver.take(message), receiver.take(message)]


def test_destinations_that_are_accepted_can_be_packed() -> None:
    """A header as large as `check_destinations` lets through fills its two bytes of length exactly."""
    nodes, groups, docks = check_destinations(
        MESSAGE.src, MESSAGE.stream, [f"{number:0252d}" for number in range(256)], ["g" * 250], ["d" * 223]
    )
    packet = pack(replace(MESSAGE, dstnodes=nodes, dstgroups=groups, dstdocks=docks), 1)
    assert b"\xff\xff" == packet[4:6]
    found = unpack(packet)
    assert (nodes, groups, docks) == (found.dstnodes, found.dstgroups, found.dstdocks)
