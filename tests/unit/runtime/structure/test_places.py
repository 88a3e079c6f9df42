"""Where in a schema the fault lies that it is refused for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsedge.api import Constraint
from nsedge.errors import InvalidParameter
from nsedge.runtime.structure.grammars import Grammars
from nsedge.runtime.structure.placing import LARGEST, TRIES, place_of
from tests.unit.runtime.structure.vocabularies import END, SIZE, printable

GRAMMARS = Grammars(printable(), size=SIZE, end_ids=(END,))
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"not": {}}, '"not"'),
    ({"if": {}, "then": {}}, '"if"'),
    ({"type": "array", "uniqueItems": True}, '"uniqueItems"'),
    ({"type": "array", "contains": {}}, '"contains"'),
    ({"type": "object", "dependentSchemas": {}}, '"dependentSchemas"'),
    ({"type": "object", "unevaluatedProperties": False}, '"unevaluatedProperties"'),
    ({"type": "objekt"}, "objekt"),
    ({"type": "string", "format": "colour"}, "colour"),
    ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    ({"type": "string", "minLength": -1}, "minLength"),
    ({"$ref": "https://example.com/a.json"}, "example.com"),
    ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, "oneOf"),
]
"""Schemas that are refused, and what is told of each."""
PLACES: dict[str, Any] = {
    "#": lambda fault: fault,
    "#/items": lambda fault: {"type": "array", "items": fault},
    "#/prefixItems/1": lambda fault: {"type": "array", "prefixItems": [{}, fault], "minItems": 2},
    "#/anyOf/1": lambda fault: {"anyOf": [{"type": "null"}, fault]},
    "#/allOf/0": lambda fault: {"allOf": [fault]},
    "#/additionalProperties": lambda fault: {"type": "object", "additionalProperties": fault},
    "#/properties/a b~1~0": lambda fault: {
        "type": "object",
        "properties": {"first": {"type": "integer"}, "a b/~": fault},
        "required": ["a b/~"],
    },
    "#/properties/a/items/properties/b": lambda fault: {
        "properties": {"a": {"items": {"properties": {"b": fault}}}}
    },
    "#/$defs/b": lambda fault: {
        "properties": {"a": {"$ref": "#/$defs/b"}},
        "required": ["a"],
        "$defs": {"a": {"type": "integer"}, "b": fault},
    },
}


def refused(schema: dict[str, Any]) -> str:
    with pytest.raises(InvalidParameter) as caught:
        GRAMMARS.guide(Constraint.json_schema(schema))
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("fault", "told"), FAULTS, ids=[told for _, told in FAULTS])
def test_the_reason_and_the_place_are_told(fault: dict[str, Any], told: str, place: str) -> None:
    message = refused(PLACES[place](fault))
    assert message.startswith("constraint (json_schema): ")
    assert told in message
    assert message.endswith(")")
    assert f"(at {place}" in message


def test_a_place_behind_a_reference_is_that_of_the_definition_or_of_what_names_it() -> None:
    schema = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {}}}, "$ref": "#/$defs/a"}
    assert "(at #/$defs/" in refused(schema)


def test_a_long_schema_is_refused_without_a_place() -> None:
    schema = {"description": "x" * LARGEST, "properties": {"a": {"not": {}}}}
    message = refused(schema)
    assert '"not"' in message
    assert "(at " not in message


def test_no_more_parts_are_looked_at_than_is_allowed() -> None:
    asked: list[dict[str, Any]] = []

    def why(schema: dict[str, Any]) -> str | None:
        asked.append(schema)
        return "no" if len(asked) == 1 else None

    properties = {f"p{number}": {"type": "integer"} for number in range(2 * TRIES)}
    assert place_of({"properties": properties}, why) is None
    assert len(asked) == 2 + TRIES  # the whole, and what holds the parts
    asked.clear()
    assert place_of({"properties": properties}, why, enough=lambda: True) is None
    assert len(asked) == 2
    assert place_of({"type": "integer"}, lambda _: None) is None


INNER = st.recursive(
    st.sampled_from([fault for fault, _ in FAULTS]),
    lambda inner: st.one_of(
        inner.map(lambda one: {"type": "array", "items": one, "minItems": 1}),
        inner.map(lambda one: {"anyOf": [{"type": "boolean"}, one]}),
        inner.map(lambda one: {"type": "object", "properties": {"k": one}, "required": ["k"]}),
    ),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None)
@given(schema=INNER)
def test_whatever_is_wrong_somewhere_is_refused_in_one_line_with_its_place(
    schema: dict[str, Any],
) -> None:
    message = refused(schema)
    place = message.rpartition("(at #")[2].removesuffix(")")
    found: Any = schema
    for step in place.split("/")[1:]:
        found = found[int(step)] if isinstance(found, list) else found[step]
    assert any(found == fault for fault, _ in FAULTS)


CHAIN = {f"a{n}": {"items": {"$ref": f"#/$defs/a{n + 1}"}} for n in range(500)} | {"a500": {}}
HUGE: list[Any] = [
    {"enum": list(range(20_000))},
    {"type": "string", "pattern": "(a|b|ab){1000}"},
    {"type": "string", "pattern": "((a{100}){100}){100}"},
    {"type": "string", "minLength": 10**6},
    {"type": "array", "items": {"type": "integer"}, "minItems": 10**6},
    {"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(3000)}},
    {"type": "integer", "multipleOf": 7919, "minimum": 1, "maximum": 10**15},
    {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}},
    {"$ref": "#/$defs/a0", "$defs": CHAIN},
]
"""Schemas that would take for ever, or all memory, where nothing bounded them."""
BEYOND: list[tuple[Any, str]] = [
    ({"allOf": [{"properties": {f"p{n}": {"minimum": n}}} for n in range(300)]}, "too large"),
    ({"anyOf": [{"const": f"{n}" * 40} for n in range(2000)]}, "the limit is 262144"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "tokens can write"),
]
"""Those that are beyond a bound, and what is told of it."""


@pytest.mark.parametrize("number", range(len(HUGE)))
def test_what_is_huge_is_compiled_within_bounds(number: int) -> None:
    constraint = Constraint.json_schema(HUGE[number])
    constraint.check()
    guide = GRAMMARS.guide(constraint)
    guide.fill()
    assert guide.mask().any()


@pytest.mark.parametrize("number", range(len(BEYOND)))
def test_what_is_beyond_a_bound_is_refused_by_it(number: int) -> None:
    schema, told = BEYOND[number]

    def compiled() -> None:
        constraint = Constraint.json_schema(schema)
        constraint.check()
        GRAMMARS.guide(constraint)

    with pytest.raises(InvalidParameter, match=told) as caught:
        compiled()
    assert "\n" not in caught.value.message
