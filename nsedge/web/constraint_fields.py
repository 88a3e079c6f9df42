"""Fields of a body that hold the answer to a grammar, by the names that clients know; pure.

OpenAI's `response_format`, vLLM's `structured_outputs` and the `guided_...` before it, llama.cpp's
`grammar` and `json_schema`, and SGLang's `regex` and `ebnf`. A body has one of them at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from nsedge.api import Constraint
from nsedge.api.constraint import MAX_CHOICES
from nsedge.errors import InvalidParameter
from nsedge.web.hints import NULL, UNSET, Rules, at_most_one, hint, named, one_of
from nsedge.web.request_fields import SchedulingBody

SchemaText = Annotated[str, hint(format="json-schema")]
"""A JSON schema as text."""
Schema = SchemaText | dict[str, Any] | bool
Regex = Annotated[str, hint(format="rust-regex")]
Grammar = Annotated[str, hint(format="grammar")]
"""In Lark's syntax as llguidance has it, or in GBNF."""
Choices = Annotated[list[Annotated[str, hint(minLength=1)]], hint(minItems=1, maxItems=MAX_CHOICES)]


_SCHEMA = {"type": ["object", "boolean"]}


class ResponseFormat(msgspec.Struct):
    """OpenAI's: `type` is text, json_object, or json_schema with a schema inside."""

    rules: ClassVar[Rules] = (
        {
            "if": {"properties": {"type": {"const": "json_schema"}}},
            "then": {
                "anyOf": [
                    {
                        "required": ["json_schema"],
                        "properties": {
                            "json_schema": named(schema={"type": ["object", "boolean"]})
                        },
                    },
                    {
                        "required": ["schema"],
                        "properties": {
                            "schema": _SCHEMA,
                            "json_schema": {"not": {"required": ["schema"]}},
                        },
                    },
                ]
            },
        },
    )
    type: Annotated[str, one_of(("text", "json_object", "json_schema"))]
    json_schema: dict[str, Any] | None = None
    schema: dict[str, Any] | bool | None = None
    """llama.cpp's, of type json_object."""


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True):
    """vLLM's; one of them is given."""

    rules: ClassVar[Rules] = (at_most_one("json", "regex", "choice", "grammar", json_object=UNSET),)
    json: Schema | None = None
    regex: Regex | None = None
    choice: Choices | None = None
    grammar: Grammar | None = None
    json_object: bool | None = None


_FIELDS = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_json_object",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "grammar",
    "json_schema",
    "regex",
    "ebnf",
)


_NO_TEXT = {"enum": ["", None]}
_NO_OUTPUTS = {
    "type": ["object", "null"],
    "properties": dict.fromkeys(StructuredOutputs.__struct_fields__, NULL) | {"json_object": UNSET},
}
_NOTHING: dict[str, dict[str, Any]] = {
    "response_format": {"type": ["object", "null"], "properties": {"type": {"const": "text"}}},
    "structured_outputs": _NO_OUTPUTS,
    "guided_json_object": UNSET,
    **dict.fromkeys(("guided_grammar", "grammar", "ebnf"), _NO_TEXT),
}
"""What asks for nothing, where it is more than null."""


class ConstraintFields(SchedulingBody, kw_only=True):
    """How a body that asks for text says what its answer must look like, too."""

    rules: ClassVar[Rules] = (at_most_one(*_FIELDS, **_NOTHING),)
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = None
    guided_json_object: bool | None = None
    guided_regex: Regex | None = None
    guided_choice: Choices | None = None
    guided_grammar: Grammar | None = None
    grammar: Grammar | None = None
    json_schema: Schema | None = None
    regex: Regex | None = None
    ebnf: Grammar | None = None

    @property
    def constrained_by(self) -> str | None:
        """The field that says what the answer must look like; None where none does."""
        return next((name for name in _FIELDS if getattr(self, name)), None)


def constraint(body: ConstraintFields) -> Constraint | None:
    """The constraint that a body asks for, checked; None where it asks for none.

    Raises:
        InvalidParameter: naming the field; there are two, or it is none that can be had.
    """
    found = dict(_found(body))
    if len(found) > 1:
        first, second = list(found)[:2]
        raise InvalidParameter(
            f"{first} and {second} both say what the answer must look like: give one of them",
            param=second,
        )
    for field, wanted in found.items():
        check(wanted, field)
        return wanted
    return None


def check(wanted: Constraint, field: str) -> None:
    """Raises InvalidParameter where `wanted`, of the field of that name, cannot be one."""
    try:
        wanted.check()
    except InvalidParameter as error:
        raise InvalidParameter(
            error.message.replace("constraint", field, 1), param=field
        ) from error


def schema_of(value: str | Mapping[str, Any] | bool) -> Constraint:
    """A JSON schema, in JSON or as a value."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return Constraint.json_schema(text)


def _found(body: ConstraintFields) -> Iterator[tuple[str, Constraint]]:
    """The constraints of a body, by their fields."""
    if body.response_format is not None:
        wanted = _of_format(body.response_format)
        if wanted is not None:
            yield "response_format", wanted
    if body.structured_outputs is not None:
        yield from _of_outputs(body.structured_outputs)
    for field, schema in (("guided_json", body.guided_json), ("json_schema", body.json_schema)):
        if schema is not None:
            yield field, schema_of(schema)
    if body.guided_json_object:
        yield "guided_json_object", Constraint.json_object()
    if body.guided_choice is not None:
        yield "guided_choice", Constraint.choice(body.guided_choice)
    for field, pattern in (("guided_regex", body.guided_regex), ("regex", body.regex)):
        if pattern is not None:
            yield field, Constraint.regex(pattern)
    for field in ("guided_grammar", "grammar", "ebnf"):
        text = getattr(body, field)
        if text:
            yield field, Constraint.grammar(text)


def _of_format(wanted: ResponseFormat) -> Constraint | None:
    match wanted.type:
        case "text":
            return None
        case "json_object":
            if wanted.schema is None:
                return Constraint.json_object()
            return schema_of(wanted.schema)
        case "json_schema":
            schema = (wanted.json_schema or {}).get("schema", wanted.schema)
            if not isinstance(schema, dict | bool):
                field = "response_format.json_schema.schema"
                raise InvalidParameter(f"{field} must be a JSON schema", param=field)
            return schema_of(schema)
    raise InvalidParameter(
        f"response_format.type must be text, json_object or json_schema, not {wanted.type[:64]!r}",
        param="response_format.type",
    )


def _of_outputs(wanted: StructuredOutputs) -> Iterator[tuple[str, Constraint]]:
    if wanted.json is not None:
        yield "structured_outputs.json", schema_of(wanted.json)
    if wanted.regex is not None:
        yield "structured_outputs.regex", Constraint.regex(wanted.regex)
    if wanted.choice is not None:
        yield "structured_outputs.choice", Constraint.choice(wanted.choice)
    if wanted.grammar is not None:
        yield "structured_outputs.grammar", Constraint.grammar(wanted.grammar)
    if wanted.json_object:
        yield "structured_outputs.json_object", Constraint.json_object()
