"""Fields of requests, queries and commands that the protocol does not have.

A misspelt one changes nothing, which nobody would notice: it is refused by its name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import inspect

from nsedge.api import Tool
from nsedge.config.spelling import nearest
from nsedge.errors import BadMessage, UnsupportedVersion
from nsedge.ipc import protocol

SINCE = 4
"""The minor version that refuses them: older clients were told that they are passed over."""
MAX_SHOWN = 64
"""Characters of a name that are shown."""
_PASSED_OVER: dict[type, tuple[str, ...]] = {Tool: ("type",)}
"""Fields without meaning here that are often there: OpenAI's tools have a `type`."""

_HOLDING = (dict, list, tuple)
"""Types that hold maps, or are maps."""
Find = Callable[[Any], Iterator[tuple[str, Iterable[str]]]]
"""Gives the paths of unknown fields in a value, each with the names that there are."""


def check_fields(payload: Any, kind: type, *, minor: int = protocol.MINOR) -> None:
    """Refuse a payload with fields that a message of type `kind`, or a map in it, does not have.
    `minor`: the client speaks protocol 1.`minor`.

    Raises:
        BadMessage: naming the first of them.
        UnsupportedVersion: the same, of a client of a later version, which may know it.
    """
    find = _finder(kind)
    if minor < SINCE or find is None:
        return
    for path, known in find(payload):
        shown = path if len(path) <= MAX_SHOWN else f"{path[:MAX_SHOWN]}..."
        what = f"{shown!a} is no field of protocol {protocol.VERSION}"
        if minor > protocol.MINOR:
            raise UnsupportedVersion(f"{what}; this client said 1.{minor}", param=shown)
        meant = nearest(path.rpartition(".")[2], known) if shown is path else ""
        raise BadMessage(f"{what}{meant}", param=shown)


@functools.cache
def _finder(kind: type) -> Find | None:
    """A finder of unknown fields in messages of a type."""
    return _find_in(inspect.type_info(kind))


def _find_in(kind: inspect.Type) -> Find | None:
    """The same for any type; None where it has none."""
    match kind:
        case inspect.Metadata():
            return _find_in(kind.type)
        case inspect.StructType() | inspect.DataclassType():
            return _find_in_map(kind)
        case inspect.VarTupleType() | inspect.ListType():
            return _find_in_each(kind.item_type)
        case inspect.UnionType():
            return _find_in_either(kind.types)
        case _:
            return None


def _find_in_map(kind: inspect.StructType | inspect.DataclassType) -> Find:
    inner = {field.encode_name: _find_in(field.type) for field in kind.fields}
    known = tuple(inner)
    passed_over = [*_PASSED_OVER.get(kind.cls, ())]
    if isinstance(kind, inspect.StructType) and kind.tag_field is not None:
        passed_over.append(kind.tag_field)

    def find(value: Any) -> Iterator[tuple[str, Iterable[str]]]:
        if not isinstance(value, dict):
            return
        for name, held in value.items():
            if name not in inner:
                if name not in passed_over:
                    yield str(name), known
            elif (within := inner[name]) is not None:
                for path, names in within(held):
                    yield f"{name}{path}" if path.startswith("[") else f"{name}.{path}", names

    return find


def _find_in_each(item: inspect.Type) -> Find | None:
    within = _find_in(item)
    if within is None:
        return None

    def find(value: Any) -> Iterator[tuple[str, Iterable[str]]]:
        if isinstance(value, list | tuple):
            for number, one in enumerate(value):
                for path, names in within(one) if isinstance(one, _HOLDING) else ():
                    yield f"[{number}].{path}", names

    return find


def _find_in_either(kinds: Iterable[inspect.Type]) -> Find | None:
    """Of several types: structs by their tags, and what else has maps in it."""
    tagged: dict[Any, Find] = {}
    others: list[Find] = []
    for kind in kinds:
        if isinstance(kind, inspect.StructType) and kind.tag is not None:
            tagged[kind.tag] = _find_in_map(kind)
        elif (find := _find_in(kind)) is not None:
            others.append(find)
    if not tagged:
        return others[0] if others else None

    def find_tagged(value: Any) -> Iterator[tuple[str, Iterable[str]]]:
        found = tagged.get(value.get("type")) if isinstance(value, dict) else None
        for each in [found] if found is not None else others:
            yield from each(value)

    return find_tagged
