"""Names of destinations: what passes fits a message header, what does not is an error that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tsstreamer._destinations import check_destinations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NONE = frozenset[str]()


@pytest.mark.parametrize("collection", [list, tuple, set, frozenset, iter, dict.fromkeys])
def test_any_collection_becomes_a_frozenset(collection: Callable[[list[str]], Iterable[str]]) -> None:
    """Lists, sets and iterators are taken; a name given twice is one name."""
    expected = frozenset({"n1", "n2"}), frozenset({"g"}), frozenset({"data", "log"})
    names = collection(["n1", "n2", "n1"]), collection(["g"]), collection(["data", "log"])
    assert expected == check_destinations("node", "log", *names)


@pytest.mark.parametrize("nothing", [None, [], frozenset()])
def test_nothing_is_an_empty_set(nothing: list[str] | None) -> None:
    """None and an empty collection address nobody."""
    assert (NONE, NONE, NONE) == check_destinations("node", "log", nothing, nothing, nothing)


@pytest.mark.parametrize("argument", ["dstnodes", "dstgroups", "dstdocks"])
@pytest.mark.parametrize("wrong", ["data", b"data", 5])
def test_a_name_instead_of_a_collection_is_a_type_error(argument: str, wrong: object) -> None:
    """A plain str is not taken for its characters; the error names the argument and shows the right form."""
    given: Any = {"nodes": None, "groups": None, "docks": None, argument.removeprefix("dst"): wrong}
    with pytest.raises(TypeError) as caught:
        check_destinations("node", "log", **given)
    assert f"{argument} must be a collection of names, such as [{wrong!r}], got {wrong!r}" == str(caught.value)


@pytest.mark.parametrize("wrong", [None, 5, b"n1", ["n1"]])
def test_a_name_must_be_a_str(wrong: object) -> None:
    """A name of another type is a TypeError that shows it, wherever it stands."""
    name: Any = wrong
    with pytest.raises(TypeError) as caught:
        check_destinations("node", "log", None, ["g", name], None)
    assert f"dstgroups: a name must be a str, got {wrong!r}" == str(caught.value)
    with pytest.raises(TypeError, match="nodename"):
        check_destinations(name, "log", None, None, None)


@pytest.mark.parametrize("wrong", ["", "x" * 256, "é" * 128, "\ud800"])
@pytest.mark.parametrize("argument", ["nodename", "streamname", "dstnodes", "dstgroups", "dstdocks"])
def test_a_name_that_does_not_fit_is_a_value_error(argument: str, wrong: str) -> None:
    """Empty names, names over 255 bytes and names outside Unicode are refused, with the name in the text."""
    given: dict[str, Any] = {"nodename": "node", "streamname": "log", "nodes": None, "groups": None, "docks": None}
    given |= {argument: wrong} if argument in given else {argument.removeprefix("dst"): [wrong]}
    with pytest.raises(ValueError, match=f"^{argument}: ") as caught:
        check_destinations(**given)
    assert repr(wrong) in str(caught.value)


def test_the_longest_names_pass() -> None:
    """255 bytes are not too long, in any alphabet."""
    name, accented = "x" * 255, "é" * 127 + "x"
    expected = frozenset({accented}), NONE, NONE
    assert expected == check_destinations(name, name, [accented], None, None)


def test_a_full_header_passes_and_one_byte_more_does_not() -> None:
    """65 535 bytes of header are the limit: 18 fixed, and 2 more than its length for each name."""
    # 18 + (2 + 4) + (2 + 3) + 256 * (2 + 252) = 65 053; one more name of 480 - 2 bytes is too long, so two of them.
    nodes = [f"{number:0252d}" for number in range(256)]
    groups = ["g" * 250, "h" * 228]
    assert frozenset(nodes) == check_destinations("node", "log", nodes, groups, None)[0]
    with pytest.raises(ValueError, match="258 destinations need a header of 65536 bytes, more than 65535"):
        check_destinations("node", "log2", nodes, groups, None)


def test_a_name_given_twice_counts_once() -> None:
    """What is sent once needs its room once."""
    assert frozenset({"n"}) == check_destinations("node", "log", ["n"] * 65_536, None, None)[0]
