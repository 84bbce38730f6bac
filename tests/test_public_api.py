"""The public names and signatures, one by one: what is pinned here changes on purpose only."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections import defaultdict
from types import ModuleType
from typing import Any

import pytest

import tsstreamer

ERRORS = {
    "BufferFullError": (),
    "FilterError": (ValueError,),
    "MessengerError": (),
    "SchemaMismatchError": (ValueError,),
    "StorageError": (),
    "StreamExistsError": (),
    "StreamerClosedError": (),
    "TsStreamerError": (),
    "UnknownStorageError": (KeyError,),
    "UnknownStreamError": (KeyError,),
}
"""Every error, and the built-in classes that it is one of."""

NAMES = {
    "CallMessenger",
    "CloseReport",
    "JsonFormatter",
    "Message",
    "Messenger",
    "Receiver",
    "SqlFormatter",
    "SqliteDataStreamer",
    "SqliteLogHandler",
    "Stats",
    "StorageStats",
    "StreamMessenger",
    "StreamStats",
    "YamlFormatter",
    *ERRORS,
}

MODULES = ("errors", "formatters", "handler", "messengers", "model", "protocols", "receiver", "testing")

METHODS = {
    "__init__": "(sqlitename, threadHack=True, *, nodename=None, flushInterval=0.05, maxPending=1000000, "
    "overflow='block', blockTimeout=30.0, synchronous='NORMAL', onError=None)",
    "addStorage": "(key, keys, types, *, maxAge=None, maxRows=None, keepUnsent=True)",
    "close": "(timeout=None)",
    "doUpdates": "(now, messenger)",
    "flush": "(timeout=None)",
    "startUpdates": "(messenger)",
    "stats": "()",
    "stopStream": "(name)",
    "stopUpdates": "(timeout=None)",
    "storeData": "(key, timestamp, *values)",
    "stream": "(key, dstnodes=None, dstgroups=None, dstdocks=None, period=1.0, formatter=None, *, sqlfilter=None, "
    "sqlfile=None, sqlparams=(), userdata=None, name=None, since=None, contenttype=None, maxRows=10000, "
    "maxBytes=4194304, window=4, ackTimeout=30.0)",
}
"""The methods of the documented class, without annotations."""

FIELDS = {
    "CloseReport": "stored rejected dropped unsent",
    "Message": "dstnodes dstgroups dstdocks data contenttype src sequence timestamp "
    "stream storage dbid epoch after upto rows",
    "Stats": "state reason since storages streams commits walBytes databaseBytes",
    "StorageStats": "accepted committed pending rejected dropped refused highWater deleted deletedUnsent",
    "StreamStats": "storage state since lastError position sentRows sentMessages inFlight deadRows lagRows lagSeconds",
}


def signature_of(method: Any) -> str:
    """Show the parameters of a method without self and annotations."""
    _, *parameters = inspect.signature(method).parameters.values()
    return str(inspect.Signature([each.replace(annotation=inspect.Parameter.empty) for each in parameters]))


def public_names_of(thing: object) -> set[str]:
    """The names that a class or module defines itself and that do not begin with an underscore."""
    return {name for name in vars(thing) if not name.startswith("_")}


def test_all_is_exact() -> None:
    """`__all__` holds these names, each once, in order."""
    assert sorted(NAMES) == tsstreamer.__all__


def test_nothing_else_is_public() -> None:
    """The package offers the names of `__all__` and its public modules, and no name by accident."""
    names = {name for name in public_names_of(tsstreamer) if not isinstance(getattr(tsstreamer, name), ModuleType)}
    assert NAMES == names - {"annotations"}


@pytest.mark.parametrize("name", MODULES)
def test_all_of_a_module_resolves(name: str) -> None:
    """Each public module lists its names, all of them exist, and those made elsewhere are not listed."""
    module = importlib.import_module(f"tsstreamer.{name}")
    made_here = {each for each, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__}
    assert set() == set(module.__all__) - public_names_of(module)
    assert set() == {each for each in made_here if not each.startswith("_")} - set(module.__all__)


def test_methods_of_the_streamer() -> None:
    """`SqliteDataStreamer` has these public methods, with these parameters and defaults."""
    streamer = tsstreamer.SqliteDataStreamer
    assert METHODS == {name: signature_of(getattr(streamer, name)) for name in public_names_of(streamer) | {"__init__"}}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_the_values(name: str) -> None:
    """The values that users read have these fields, and cannot be changed."""
    value = getattr(tsstreamer, name)
    assert FIELDS[name].split() == [field.name for field in dataclasses.fields(value)]
    assert value.__dataclass_params__.frozen


@pytest.mark.parametrize("name", ERRORS)
def test_kinds_of_errors(name: str) -> None:
    """Every error is a `TsStreamerError`, and of the built-in class that says the same."""
    error = getattr(tsstreamer, name)
    assert issubclass(error, tsstreamer.TsStreamerError)
    assert ERRORS[name] == tuple(each for each in (KeyError, ValueError) if issubclass(error, each))


def test_one_spelling_of_a_name() -> None:
    """Methods, attributes and parameters are camelCase, and none comes in a second spelling."""
    names = set()
    for module in (importlib.import_module(f"tsstreamer.{name}") for name in MODULES):
        for public in (getattr(module, name) for name in module.__all__):
            for member in public_names_of(public) if inspect.isclass(public) else ():
                names.add(member)
    for method in METHODS:
        names |= inspect.signature(getattr(tsstreamer.SqliteDataStreamer, method)).parameters.keys()
    spellings = defaultdict(set)
    for name in names:
        spellings[name.replace("_", "").lower()].add(name)
    assert {} == {key: found for key, found in spellings.items() if len(found) > 1}
    assert set() == {name for name in names if "_" in name}
