"""The names by which clients ask for an answer of a certain form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nsedge.api import Constraint
from nsedge.errors import InvalidParameter
from nsedge.web.bodies import decode
from nsedge.web.constraint_fields import ConstraintFields, constraint

SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}}
GBNF = 'root ::= "yes" | "no"'
LARK = 'start: "yes" | "no"'


def asked(**fields: Any) -> Constraint | None:
    return constraint(decode(json.dumps(fields).encode(), ConstraintFields))


@pytest.mark.parametrize(
    "fields",
    [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
            }
        },
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"structured_outputs": {"json": SCHEMA}},
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA)},
        {"json_schema": SCHEMA},
    ],
)
def test_a_schema_by_any_name_keeps_the_order_of_its_properties(fields: dict[str, Any]) -> None:
    wanted = asked(**fields)
    assert wanted is not None
    assert wanted.kind == "json_schema"
    assert json.loads(wanted.value) == SCHEMA
    assert list(json.loads(wanted.value)["properties"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, None),
        ({"response_format": None, "grammar": "", "guided_json_object": False}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Constraint.json_object()),
        ({"structured_outputs": {"json_object": True}}, Constraint.json_object()),
        ({"guided_json_object": True}, Constraint.json_object()),
        ({"structured_outputs": {"regex": "a+"}}, Constraint.regex("a+")),
        ({"guided_regex": "a+"}, Constraint.regex("a+")),
        ({"regex": "a+"}, Constraint.regex("a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, Constraint.choice(["a", "b"])),
        ({"guided_choice": ["a", "b"]}, Constraint.choice(["a", "b"])),
        ({"structured_outputs": {"grammar": GBNF}}, Constraint.gbnf(GBNF)),
        ({"guided_grammar": LARK}, Constraint.lark(LARK)),
        ({"grammar": GBNF}, Constraint.gbnf(GBNF)),
        ({"ebnf": GBNF}, Constraint.gbnf(GBNF)),
        (
            {"grammar": '%llguidance {}\nstart: "::="'},
            Constraint.lark('%llguidance {}\nstart: "::="'),
        ),
    ],
)
def test_each_name_is_understood(fields: dict[str, Any], wanted: Constraint | None) -> None:
    assert asked(**fields) == wanted


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        (
            {"response_format": {"type": "json_object"}, "guided_regex": "a"},
            "guided_regex",
            "response_format and guided_regex both say",
        ),
        (
            {"structured_outputs": {"json": True, "regex": "a"}},
            "structured_outputs.regex",
            "structured_outputs.json and structured_outputs.regex both",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type", "not 'xml'"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
            "must be a JSON schema",
        ),
        ({"guided_json": "{"}, "guided_json", "guided_json: is not JSON"),
        ({"guided_json": "3"}, "guided_json", "a JSON schema is an object"),
        ({"guided_choice": []}, "guided_choice", "an array of 1 to"),
        ({"guided_choice": ["a", ""]}, "guided_choice", "choice[1] must be a text"),
        ({"guided_regex": "a" * 300_000}, "guided_regex", "the limit is 262144"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs", "structural_tag"),
    ],
)
def test_what_is_none_is_refused_by_the_name_it_came_under(
    fields: dict[str, Any], param: str, told: str
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        asked(**fields)
    assert caught.value.param == param
    assert told in caught.value.message
