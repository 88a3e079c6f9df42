"""Fields of a body that hold the answer to a grammar, by the names that clients know; pure.

OpenAI's `response_format`, vLLM's `structured_outputs` and the `guided_...` before it, llama.cpp's
`grammar` and `json_schema`, and SGLang's `regex` and `ebnf`. A body has one of them at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from nsedge.api import Constraint
from nsedge.errors import InvalidParameter
from nsedge.web.request_fields import SchedulingBody


class ResponseFormat(msgspec.Struct):
    """OpenAI's: `type` is text, json_object, or json_schema with a schema inside."""

    type: str
    json_schema: dict[str, Any] | None = None
    schema: dict[str, Any] | bool | None = None
    """llama.cpp's, of type json_object."""


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True):
    """vLLM's; one of them is given."""

    json: str | dict[str, Any] | bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None


class ConstraintFields(SchedulingBody, kw_only=True):
    """How a body that asks for text says what its answer must look like, too."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: str | dict[str, Any] | bool | None = None
    guided_json_object: bool | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    grammar: str | None = None
    json_schema: str | dict[str, Any] | bool | None = None
    regex: str | None = None
    ebnf: str | None = None

    @property
    def constrained_by(self) -> str | None:
        """The field that says what the answer must look like; None where none does."""
        return next((name for name in _FIELDS if getattr(self, name)), None)


_FIELDS = ConstraintFields.__annotations__


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
