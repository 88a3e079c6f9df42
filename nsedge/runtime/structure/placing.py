"""Where in a JSON schema the fault lies that it is refused for; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

TRIES = 64
"""Parts that are looked at by themselves, before the place is left untold."""
LARGEST = 32 << 10
"""Characters of a schema beyond which it is left untold: each part is compiled with the whole."""
SHOWN = 200
"""Characters of a place that are told."""

_ONE = (
    "additionalProperties",
    "items",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
)
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_ROOT = "the.whole"
"""The definition that the whole schema is, where one of its parts is compiled."""

Why = Callable[[dict[str, Any]], str | None]
"""Why a schema cannot be compiled; None where it can."""


def place_of(
    schema: Mapping[str, Any], why: Why, *, enough: Callable[[], bool] = lambda: False
) -> str | None:
    """The JSON pointer of the innermost part that is refused for what the whole is refused for,
    such as `#/properties/age`; None where it cannot be told, or not before it took `enough`."""
    reason = why(dict(schema))
    if reason is None:
        return None
    definitions = {**_map(schema, "definitions"), **_map(schema, "$defs")}
    rest = {"$defs": {**definitions, _ROOT: schema}, "definitions": definitions}
    if why(rest) is not None:  # whatever is asked for of it: a reference cannot be followed
        return _shown(_naming(schema, reason))

    def refuses(pointer: str) -> bool:
        told = why({"$ref": quote(f"#/$defs/{_ROOT}{pointer}", safe="#/$~"), **rest})
        return told == reason

    return _shown(_innermost(schema, refuses, enough))


def _innermost(
    schema: Mapping[str, Any], refuses: Callable[[str], bool], enough: Callable[[], bool]
) -> str | None:
    """The pointer of the innermost part that `refuses`, definitions that are named included; None
    where there are too many parts to look at."""
    inner: Any = schema
    at, left, seen = "", TRIES, {""}
    while True:
        for step, part in (*_parts(inner), *_named(schema, inner)):
            pointer = step if step.startswith("#") else at + step
            pointer = pointer.removeprefix("#")
            if pointer in seen:
                continue
            if not left or enough():
                return None
            left -= 1
            if refuses(pointer):
                inner, at = part, pointer
                seen.add(pointer)
                break
        else:
            return at


def _shown(pointer: str | None) -> str | None:
    if pointer is None or len(pointer) <= SHOWN:
        return None if pointer is None else f"#{pointer}"
    return f"#{pointer[:SHOWN]} ..."


def _named(schema: Mapping[str, Any], part: Any) -> Iterator[tuple[str, Any]]:
    """What a part that is a reference names, with its pointer."""
    name = part.get("$ref") if isinstance(part, dict) else None
    if not isinstance(name, str) or not name.startswith("#/"):
        return
    found: Any = schema
    for step in unquote(name).split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or key not in found:
            return
        found = found[key]
    yield unquote(name), found


def _naming(schema: Mapping[str, Any], reason: str) -> str | None:
    """The pointer of the first part with a reference that `reason` names."""
    left: list[tuple[str, Any]] = [("", schema)]
    while left:
        at, part = left.pop(0)
        name = part.get("$ref") if isinstance(part, dict) else None
        if isinstance(name, str) and name in reason:
            return at
        left += [(at + step, inner) for step, inner in _parts(part)]
    return None


def _map(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = schema.get(name)
    return found if isinstance(found, dict) else {}


def _parts(schema: Any) -> Iterator[tuple[str, Any]]:
    """The schemas right within one, each with what leads to it."""
    if not isinstance(schema, dict):
        return
    for name in _ONE:
        if isinstance(schema.get(name), dict):
            yield f"/{name}", schema[name]
    for name in _LISTS:
        if isinstance(schema.get(name), list):
            for number, one in enumerate(schema[name]):
                yield f"/{name}/{number}", one
    for name in _MAPS:
        for key, one in _map(schema, name).items():
            yield f"/{name}/{_escaped(key)}", one


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
