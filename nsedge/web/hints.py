"""What schemas tell beyond types: bounds, names, forms, and rules that fields have together. The
code that reads a body holds it to them, and names what is wrong better than a type could.

A rule that JSON Schema has no words for is told by a `format` of our own, of which docs/http.md has
the list.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from msgspec import Meta

from nsedge.api.tools import NAME

KEY = "x-hint"
"""Where a schema carries its hints until they are merged into it."""
GIVEN: dict[str, Any] = {"not": {"type": "null"}}
"""What a field is that says something."""
NULL: dict[str, Any] = {"type": "null"}
Filled = Annotated[str, Meta(extra_json_schema={KEY: {"minLength": 1}})]
"""A text that is not empty."""
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


def at_most_one(*names: str, **given: dict[str, Any]) -> dict[str, Any]:
    """The rule that of some fields one at most is given; `given` says of which what that is."""
    told = dict.fromkeys(names, GIVEN) | given
    return {
        "not": {
            "anyOf": [
                {"required": [one, other], "properties": {one: told[one], other: told[other]}}
                for one, other in itertools.combinations(told, 2)
            ]
        }
    }


def of_type(**fields: str) -> dict[str, Any]:
    """The rule that an object has the field that its `type` asks for."""
    return {
        "anyOf": [
            {
                "required": ["type", name],
                "properties": {"type": {"const": kind}, name: GIVEN},
            }
            for kind, name in fields.items()
        ]
    }


def not_all(**fields: Any) -> dict[str, Any]:
    """The rule that the fields are not all as their schemas say at once."""
    return {"not": {"required": list(fields), "properties": fields}}


def wants(field: str, when: Mapping[str, Any], /, **others: Any) -> dict[str, Any]:
    """The rule that where `field` is as `when` says, others are as theirs say."""
    return {
        "if": {"required": [field], "properties": {field: dict(when)}},
        "then": {"required": list(others), "properties": others},
    }


def merged(schema: Any) -> Any:
    """A schema, with all hints in their places."""
    if isinstance(schema, list):
        return [merged(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    whole = schema | schema.get(KEY, {})
    return {name: merged(one) for name, one in whole.items() if name != KEY}
