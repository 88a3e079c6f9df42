"""What schemas tell beyond types: bounds, names, forms, and rules that fields have together. The
code that reads a body holds it to them, and names what is wrong better than a type could.

A rule that JSON Schema has no words for is told by a `format` of our own, of which docs/http.md has
the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from msgspec import Meta

from nsedge.api.tools import NAME

KEY = "x-hint"
"""Where a schema carries its hints until they are merged into it."""
GIVEN: dict[str, Any] = {"not": {"type": "null"}}
"""What a field is that says something."""
NULL: dict[str, Any] = {"type": "null"}
UNSET: dict[str, Any] = {"enum": [False, None]}
"""What a switch is that is not on."""
Filled = Annotated[str, Meta(extra_json_schema={KEY: {"minLength": 1}})]
"""A text that is not empty."""
Picture = Annotated[str, Meta(extra_json_schema={KEY: {"format": "picture"}})]
"""A picture as a data URL, or in base64; or where it is fetched from."""
Sound = Annotated[str, Meta(extra_json_schema={KEY: {"format": "sound"}})]
"""Sound as a data URL; or where it is fetched from."""
Film = Annotated[str, Meta(extra_json_schema={KEY: {"format": "film"}})]
"""A film as a data URL, or in base64; or where it is fetched from."""
SpokenLanguage = Annotated[str, Meta(extra_json_schema={KEY: {"format": "language"}})]
"""A language by its code, or its English name; an empty text is none."""
Rules = tuple[dict[str, Any], ...]
"""Schemas that a body fits beside its own: the class variable `rules` of its type."""


FUNCTION: dict[str, Any] = {
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": f"^{NAME}$"},
        "description": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null", "array"], "maxItems": 0},
    },
}
"""What a tool says of itself."""

NEEDS_TOOLS: dict[str, Any] = {
    "if": {
        "required": ["tool_choice"],
        "properties": {"tool_choice": {"not": {"enum": ["none", "auto", None]}}},
    },
    "then": {
        "required": ["tools"],
        "properties": {"tools": {"type": "array", "minItems": 1}},
    },
}
"""The rule that who wants a call gives tools."""


def named(**fields: Any) -> dict[str, Any]:
    """An object that has these fields."""
    return {"type": "object", "required": list(fields), "properties": fields}


def hint(**schema: Any) -> Meta:
    """Keywords of JSON Schema for a field."""
    return Meta(extra_json_schema={KEY: schema})


def one_of(names: Iterable[Any]) -> Meta:
    """The values that there are."""
    return hint(enum=list(names))


def between(bounds: tuple[float, float]) -> Meta:
    """The least and the greatest number."""
    low, high = bounds
    return hint(minimum=low, maximum=high)


def at_most_one(*names: str, **nothing: dict[str, Any]) -> dict[str, Any]:
    """The rule that of some fields one at most asks for something; `nothing` says of which what
    asks for nothing, where that is more than null."""
    empty = dict.fromkeys(names, NULL) | nothing
    return {
        "anyOf": [
            {"properties": {other: told for other, told in empty.items() if other != name}}
            for name in empty
        ]
    }


def of_type(**fields: str) -> dict[str, Any]:
    """The rule that an object has the field that its `type` asks for; `type` stands for none."""
    return {
        "anyOf": [
            {
                "required": list(dict.fromkeys(("type", name))),
                "properties": {name: GIVEN, "type": {"const": kind}},
            }
            for kind, name in fields.items()
        ]
    }


def not_all(**fields: Any) -> dict[str, Any]:
    """The rule that the fields are not all as their schemas say at once."""
    return {"not": {"required": list(fields), "properties": fields}}


def wants(field: str, when: Mapping[str, Any], /, **others: Any) -> dict[str, Any]:
    """The rule that where `field` is as `when` says, others are there, and as theirs say."""
    rule = allows(field, when, **others)
    rule["then"]["required"] = list(others)
    return rule


def allows(field: str, when: Mapping[str, Any], /, **others: Any) -> dict[str, Any]:
    """The rule that where `field` is as `when` says, others are as theirs say, or absent."""
    return {
        "if": {"required": [field], "properties": {field: dict(when)}},
        "then": {"properties": others},
    }


def merged(schema: Any) -> Any:
    """A schema, with all hints in their places."""
    if isinstance(schema, list):
        return [merged(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    whole = schema | schema.get(KEY, {})
    return {name: merged(one) for name, one in whole.items() if name != KEY}
