"""Calls whose arguments are parameters, each between marks of its own, as Qwen3-Coder writes them.

    <function=sun>
    <parameter=city>
    Oslo
    </parameter>
    </function>

They are given on as the JSON of an object. A value is text where its schema says so; else it is
JSON, and text where it is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from typing import Any

from nsedge.api import Tool
from nsedge.runtime.text.answer.reading import NoCall, Pausing, Reading, check_name
from nsedge.runtime.text.answer.thoughts import half_mark

FUNCTION, END_FUNCTION = "<function=", "</function>"
PARAMETER, END_PARAMETER = "<parameter=", "</parameter>"
MAX_KEY = 256
_PYTHON = {"True": "true", "False": "false", "None": "null"}

IsText = Callable[[str, str], bool]
"""Whether the value of a tool's parameter, both by name, is text."""


class ParameterReading(Reading):
    """Reads such calls."""

    def _function(self, is_text: IsText) -> Pausing:
        """A function with its parameters; nothing behind it."""
        yield from self._mark(FUNCTION)
        name = yield from self._until(">")
        check_name(name)
        yield from self._blanks()
        before = "{"
        while not (yield from self._is_next(END_FUNCTION)):
            yield from self._mark(PARAMETER)
            key = yield from self._until(">")
            if before == "{":
                self._begin(name)
            self._drop()
            self._argue(f"{before}{json.dumps(key, ensure_ascii=False)}: ")
            before = ", "
            yield from self._value_between(is_text=is_text(name, key))
            yield from self._blanks()
        self._at += len(END_FUNCTION)
        if before == "{":
            self._begin(name)
            self._argue("{")
        self._drop()
        self._argue("}")
        self.is_open = False

    def _value_between(self, *, is_text: bool) -> Pausing:
        """A value and the mark behind it; a line end at either end of it is not part of it."""
        if (yield from self._peek()) == "\n":
            self._at += 1
        self._drop()
        if is_text:
            self._argue('"')
        while (end := self._text.find(END_PARAMETER, self._at)) < 0:
            if is_text:
                marks = (f"\n{END_PARAMETER}", END_PARAMETER)
                self._at += half_mark(self._text[self._at :], marks)
                self._argue(_escaped(self._drop()))
            if self._is_whole:
                raise NoCall
            yield
        self._at = end
        value = self._drop().removesuffix("\n")
        self._argue(f'{_escaped(value)}"' if is_text else _as_json(value.strip()))
        self._at += len(END_PARAMETER)
        self._drop()

    def _mark(self, mark: str) -> Pausing:
        if not (yield from self._is_next(mark)):
            raise NoCall
        self._at += len(mark)

    def _until(self, character: str) -> Generator[None, None, str]:
        """What stands before a character, which is read, too."""
        read = ""
        while (following := (yield from self._peek())) != character:
            if following in "\n<" or len(read) == MAX_KEY:
                raise NoCall
            read += following
            self._at += 1
        self._at += 1
        return read


def texts_of(tools: Sequence[Tool]) -> IsText:
    """Which parameters of `tools` are text; those that there are not are, too."""
    text = {
        (tool.name, key): is_text(schema)
        for tool in tools
        for key, schema in properties_of(tool).items()
    }
    return lambda name, key: text.get((name, key), True)


def properties_of(tool: Tool) -> dict[str, Any]:
    """The schemas of a tool's parameters, by name."""
    found = tool.parameters.get("properties")
    return found if isinstance(found, dict) else {}


def is_text(schema: Any) -> bool:
    """Whether a schema is of texts alone."""
    if not isinstance(schema, dict):
        return False
    if "enum" in schema:
        return all(isinstance(one, str) for one in schema["enum"])
    return schema.get("type") == "string"


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _as_json(value: str) -> str:
    value = _PYTHON.get(value, value)
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return json.dumps(value, ensure_ascii=False)
    return value
