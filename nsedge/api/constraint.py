"""What an answer must look like: a grammar that every token is held to while it is chosen."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nsedge.errors import InvalidParameter

MAX_CONSTRAINT_BYTES = 256 << 10
"""The longest text of a constraint, in UTF-8."""
MAX_CHOICES = 4096
PARAM = "constraint"
_LARK_MARK = "%llguidance"


class ConstraintKind(enum.StrEnum):
    """How `Constraint.value` is to be read."""

    JSON_SCHEMA = "json_schema"
    """A JSON schema (draft 2020-12), as JSON: an object or a boolean."""
    JSON_OBJECT = "json_object"
    """Any JSON object; the value is empty."""
    REGEX = "regex"
    """A regular expression that the whole answer matches (Rust's syntax; no look-around)."""
    CHOICE = "choice"
    """A JSON array of texts, of which the answer is one."""
    LARK = "lark"
    """A grammar in Lark's syntax, as llguidance has it."""
    GBNF = "gbnf"
    """A grammar in llama.cpp's syntax."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """Holds an answer to a grammar. Hashable, so that what it compiles to can be kept.

    Tokens that the grammar does not allow get no probability, and the end of sequence only comes
    where the answer is complete; so a whole answer always fits. One that is cut off does not: it
    says so (`length`), as do stop strings, which end an answer wherever it stands.

    The Lark syntax is llguidance's (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md)
    and can do all that the others do; inline, `%json {...}` is a JSON schema. For calls of tools:

    - A special token is written by its name: `start: <tool_call> call </tool_call>`, where
      `call: %json {...}`. Every added token of the tokenizer that is special, or has the form
      `<...>`, can be named so; the text of no other token can make one up. `<[123]>` is a token by
      its id.
    - A grammar that begins at a trigger ("lazy") is one whose start is free text up to it. Where
      the trigger is a special token: `start: TEXT (<tool_call> call </tool_call> TEXT)*` with
      `TEXT: /(.|\\n)*/`, as no text contains the token. Where it is ordinary text:

          start: (call)* TAIL
          call: head %json {...} "</tool_call>"
          head[lazy]: TAIL "<tool_call>"
          TAIL: /(.|\\n)*/

      `lazy` ends a lexeme at the first `<tool_call>`, and from there on the schema holds.
    """

    kind: ConstraintKind
    value: str = ""

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | bool | str) -> Constraint:
        """JSON that fits a schema, which may be given as JSON itself."""
        text = schema if isinstance(schema, str) else _to_json(schema)
        return cls(kind=ConstraintKind.JSON_SCHEMA, value=text)

    @classmethod
    def json_object(cls) -> Constraint:
        """Any JSON object."""
        return cls(kind=ConstraintKind.JSON_OBJECT)

    @classmethod
    def regex(cls, pattern: str) -> Constraint:
        """What `pattern` matches as a whole."""
        return cls(kind=ConstraintKind.REGEX, value=pattern)

    @classmethod
    def choice(cls, choices: Iterable[str]) -> Constraint:
        """One of `choices`."""
        return cls(kind=ConstraintKind.CHOICE, value=_to_json(list(choices)))

    @classmethod
    def lark(cls, grammar: str) -> Constraint:
        """What a grammar in Lark's syntax gives."""
        return cls(kind=ConstraintKind.LARK, value=grammar)

    @classmethod
    def gbnf(cls, grammar: str) -> Constraint:
        """What a grammar in llama.cpp's syntax gives."""
        return cls(kind=ConstraintKind.GBNF, value=grammar)

    @classmethod
    def grammar(cls, text: str) -> Constraint:
        """What a grammar gives, in whichever syntax: llama.cpp's has a `::=`, Lark's has none, or
        begins with `%llguidance`."""
        if "::=" not in text or text.lstrip().startswith(_LARK_MARK):
            return cls.lark(text)
        return cls.gbnf(text)

    def check(self) -> None:
        """Refuse a constraint that cannot be one; whether it compiles shows with the model.

        Raises:
            InvalidParameter: naming what is wrong, and where.
        """
        try:
            size = len(self.value.encode())
        except UnicodeEncodeError as error:
            raise _refused(f"holds a lone surrogate at character {error.start}") from error
        if size > MAX_CONSTRAINT_BYTES:
            raise _refused(f"has {size} bytes; the limit is {MAX_CONSTRAINT_BYTES}")
        if self.kind is ConstraintKind.JSON_OBJECT:
            if self.value:
                raise _refused("json_object takes no value")
        elif not self.value.strip():
            raise _refused(f"{self.kind} is empty")
        elif self.kind is ConstraintKind.JSON_SCHEMA:
            if not isinstance(_parsed(self.value), dict | bool):
                raise _refused("a JSON schema is an object, true or false")
        elif self.kind is ConstraintKind.CHOICE:
            self.choices()

    def choices(self) -> tuple[str, ...]:
        """The texts of a `choice`.

        Raises:
            InvalidParameter: they are not an array of texts, none of them empty.
        """
        found = _parsed(self.value)
        if not isinstance(found, list) or not 1 <= len(found) <= MAX_CHOICES:
            raise _refused(f"choice must be an array of 1 to {MAX_CHOICES} texts")
        for number, text in enumerate(found):
            if not isinstance(text, str) or not text:
                raise _refused(f"choice[{number}] must be a text that is not empty")
        return tuple(found)


def _to_json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(f"cannot be written as JSON: {error}") from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _refused(f"is not JSON: {error}") from error
    except RecursionError as error:
        raise _refused("its JSON is nested too deep") from error


def _refused(what: str) -> InvalidParameter:
    return InvalidParameter(f"{PARAM}: {what}", param=PARAM)
