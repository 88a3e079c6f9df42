"""How models write tool calls, and which of these forms a chat template asks for."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

from nsedge.api import ToolFormat


class Body(enum.Enum):
    """What stands behind the mark of a call."""

    JSON = enum.auto()
    """A call as an object with its name and arguments, or an array of such."""
    HEADED = enum.auto()
    """The name, what ends it, and the arguments."""
    EITHER = enum.auto()
    PARAMETERS = enum.auto()
    """A function and its parameters, each between marks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFormat:
    """One form.

    - begins: the marks that a call, or an array of calls, begins with.
    - end: the mark behind it, where there is one.
    - header_ends: behind the name of a call that is headed by it; none is right before `{`.
    - bare: calls without a mark, as objects, at the beginning of an answer. They have to name a
      tool that there is.
    - unmarked: they are read so, too, and in a code block, since models forget the mark.
    - arguments: what the object of a call has its arguments under.
    - in_array: calls stand in an array, be it one; where not, `between` parts two of them.
    - short_ids: ids of calls have nine letters and digits, and the template refuses others.
    """

    name: ToolFormat
    begins: tuple[str, ...]
    end: str | None = None
    body: Body = Body.JSON
    header_ends: tuple[str, ...] = ()
    bare: bool = False
    unmarked: bool = False
    arguments: str = "arguments"
    in_array: bool = False
    between: str = "\n"
    short_ids: bool = False

    def written(self, name: str, arguments: str) -> str:
        """A call in this form."""
        if self.body is Body.PARAMETERS:
            return f"{self.begins[0]}\n{_parameters(name, arguments)}\n{self.end}"
        if self.body is Body.HEADED:
            return f"{self.begins[0]}{name}{self.header_ends[0]}{arguments}{self.end or ''}"
        call = f'{{"name": {json.dumps(name)}, "{self.arguments}": {arguments}}}'
        if self.bare:
            return call
        if self.in_array:
            return f"{self.begins[0]}[{call}]{self.end or ''}"
        return f"{self.begins[0]}\n{call}\n{self.end}"

    @property
    def marks(self) -> tuple[str, ...]:
        """All that may be special tokens of a tokenizer, which have no text otherwise."""
        more = () if self.end is None else (self.end,)
        return (*self.begins, *more, *self.header_ends)


HERMES = CallFormat(
    name=ToolFormat.HERMES, begins=("<tool_call>",), end="</tool_call>", unmarked=True
)
LLAMA = CallFormat(
    name=ToolFormat.LLAMA,
    begins=("<|python_tag|>",),
    bare=True,
    unmarked=True,
    arguments="parameters",
    between="; ",
)
MISTRAL = CallFormat(
    name=ToolFormat.MISTRAL,
    begins=("[TOOL_CALLS]",),
    body=Body.EITHER,
    header_ends=("[ARGS]",),
    in_array=True,
    between="",
    short_ids=True,
)
PHI = CallFormat(
    name=ToolFormat.PHI,
    begins=("<|tool_call|>", "functools"),
    end="<|/tool_call|>",
    in_array=True,
)
FUNCTIONARY = CallFormat(
    name=ToolFormat.FUNCTIONARY,
    begins=("<function=",),
    end="</function>",
    body=Body.HEADED,
    header_ends=(">",),
    between="",
)
PARAMETERS = CallFormat(
    name=ToolFormat.PARAMETERS,
    begins=("<tool_call>",),
    end="</tool_call>",
    body=Body.PARAMETERS,
)
_ALL = (HERMES, LLAMA, MISTRAL, PHI, FUNCTIONARY, PARAMETERS)
FORMATS = {one.name: one for one in _ALL}
"""The forms by name; a model is held to one by the setting `models.tool_formats`."""
_TELLING = (
    ("[TOOL_CALLS]", MISTRAL),
    ("<|tool_call|>", PHI),
    ("<|tool|>", PHI),
    ("<parameter=", PARAMETERS),
    ("<tool_call>", HERMES),
    ("<function=", FUNCTIONARY),
    ("<|python_tag|>", LLAMA),
    ('"parameters": dictionary of argument name', LLAMA),
)
"""What a template with that form has in it; the first that is found tells."""


@dataclass(frozen=True, slots=True)
class ThoughtMarks:
    """What stands around what a model thinks."""

    begin: str
    end: str


_THOUGHTS = (ThoughtMarks("<think>", "</think>"), ThoughtMarks("[THINK]", "[/THINK]"))


def format_of(template: str) -> CallFormat:
    """The form that a template asks for; Hermes' where it asks for none."""
    for mark, found in _TELLING:
        if mark in template:
            return found
    return HERMES


def thoughts_of(template: str) -> ThoughtMarks | None:
    """The marks of thoughts that a template knows, if any."""
    return next((marks for marks in _THOUGHTS if marks.end in template), None)


def _parameters(name: str, arguments: str) -> str:
    """A function with its parameters; arguments that are no JSON of an object are one of them."""
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        found = None
    given = found if isinstance(found, dict) else {"arguments": arguments}
    lines = [f"<function={name}>"]
    for key, value in given.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines += [f"<parameter={key}>", text, "</parameter>"]
    return "\n".join([*lines, "</function>"])
