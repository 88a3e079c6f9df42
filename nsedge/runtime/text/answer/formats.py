"""How models write tool calls, and which of these forms a chat template asks for."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, replace
from typing import Any

from nsedge.api import ToolFormat

CONSTRAIN = "<|constrain|>"
CHANNEL_MARKS = ("<|start|>", "<|end|>", "<|return|>", CONSTRAIN)
"""Those of channels, beside the marks of a call on one."""


class Body(enum.Enum):
    """What stands behind the mark of a call."""

    JSON = enum.auto()
    """A call as an object with its name and arguments, or an array of such."""
    HEADED = enum.auto()
    """The name, what ends it, and the arguments."""
    EITHER = enum.auto()
    PARAMETERS = enum.auto()
    """A function and its parameters, each between marks."""
    PYTHON = enum.auto()
    """Calls as Python writes them, in a list; or as `JSON`."""
    CHANNELS = enum.auto()
    """Messages to recipients, on channels: calls, thoughts and text alike."""


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
    - section: the marks around all calls of an answer.
    - fenced: a headed call is a `function`, behind that its name, and its arguments are in a code
      block. Those that are not are read, too.
    - numbered: a headed call is named `functions.NAME:NUMBER`, which is its id.
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
    section: tuple[str, str] | None = None
    fenced: bool = False
    numbered: bool = False

    def written(self, name: str, arguments: str) -> str:
        """A call in this form."""
        if self.body is Body.PARAMETERS:
            return f"{self.begins[0]}\n{_parameters(name, arguments)}\n{self.end}"
        if self.body is Body.PYTHON:
            return f"{self.begins[0]}[{python_call(name, arguments)}]{self.end}"
        if self.body in (Body.HEADED, Body.CHANNELS):
            return self._headed(name, arguments)
        call = f'{{"name": {json.dumps(name)}, "{self.arguments}": {arguments}}}'
        if self.bare:
            return call
        if self.in_array:
            return f"{self.begins[0]}[{call}]{self.end or ''}"
        return f"{self.begins[0]}\n{call}\n{self.end}"

    def _headed(self, name: str, arguments: str) -> str:
        head, end = self.header_ends[0], self.end or ""
        if self.body is Body.CHANNELS:
            call = f"commentary to=functions.{name} {CONSTRAIN}json{head}{arguments}"
        elif self.fenced:
            call = f"function{head}{name}\n```json\n{arguments}\n```"
        else:
            call = (
                f"functions.{name}:0{head}{arguments}"
                if self.numbered
                else f"{name}{head}{arguments}"
            )
        begin, close = self.section or ("", "")
        return f"{begin}{self.begins[0]}{call}{end}{close}"

    @property
    def marks(self) -> tuple[str, ...]:
        """All that may be special tokens of a tokenizer, which have no text otherwise."""
        more = () if self.end is None else (self.end,)
        others = CHANNEL_MARKS if self.body is Body.CHANNELS else self.section or ()
        return (*self.begins, *more, *self.header_ends, *others)


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
LFM2 = CallFormat(
    name=ToolFormat.LFM2,
    begins=("<|tool_call_start|>",),
    end="<|tool_call_end|>",
    body=Body.PYTHON,
    in_array=True,
)
_DEEPSEEK_SECTION = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
DEEPSEEK = CallFormat(
    name=ToolFormat.DEEPSEEK,
    begins=("<｜tool▁call▁begin｜>",),
    end="<｜tool▁call▁end｜>",
    body=Body.HEADED,
    header_ends=("<｜tool▁sep｜>",),
    section=_DEEPSEEK_SECTION,
    fenced=True,
)
DEEPSEEK_V3_1 = replace(DEEPSEEK, name=ToolFormat.DEEPSEEK_V3_1, between="", fenced=False)
KIMI = CallFormat(
    name=ToolFormat.KIMI,
    begins=("<|tool_call_begin|>",),
    end="<|tool_call_end|>",
    body=Body.HEADED,
    header_ends=("<|tool_call_argument_begin|>",),
    section=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    between="",
    numbered=True,
)
HARMONY = CallFormat(
    name=ToolFormat.HARMONY,
    begins=("<|channel|>",),
    end="<|call|>",
    body=Body.CHANNELS,
    header_ends=("<|message|>",),
    between="<|start|>assistant",
)
_ALL = (
    *(HERMES, LLAMA, MISTRAL, PHI, FUNCTIONARY, PARAMETERS),
    *(LFM2, DEEPSEEK, DEEPSEEK_V3_1, KIMI, HARMONY),
)
FORMATS = {one.name: one for one in _ALL}
"""The forms by name; a model is held to one by the setting `models.tool_formats`."""
_TELLING: tuple[tuple[tuple[str, ...], CallFormat], ...] = (
    (("[TOOL_CALLS]",), MISTRAL),
    (("<|channel|>",), HARMONY),
    (("<|tool_call_start|>",), LFM2),
    (("<|tool_list_start|>",), LFM2),
    (("List of tools: [",), LFM2),
    (("<|tool_call_begin|>",), KIMI),
    (("tool_declare<|im_middle|>",), KIMI),
    (
        (
            "<｜tool▁call▁begin｜>",
            "```json",
        ),
        DEEPSEEK,
    ),
    (("<｜tool▁call▁begin｜>",), DEEPSEEK_V3_1),
    (("<|tool_call|>",), PHI),
    (("<|tool|>",), PHI),
    (("<parameter=",), PARAMETERS),
    (("<tool_call>",), HERMES),
    (("<function=",), FUNCTIONARY),
    (("<|python_tag|>",), LLAMA),
    (('"parameters": dictionary of argument name',), LLAMA),
)
"""What a template with that form has in it, all of it; the first that is found tells."""


@dataclass(frozen=True, slots=True)
class ThoughtMarks:
    """What stands around what a model thinks."""

    begin: str
    end: str


_THOUGHTS = (ThoughtMarks("<think>", "</think>"), ThoughtMarks("[THINK]", "[/THINK]"))


def format_of(template: str) -> CallFormat:
    """The form that a template asks for; Hermes' where it asks for none."""
    for marks, found in _TELLING:
        if all(mark in template for mark in marks):
            return found
    return HERMES


def thoughts_of(template: str) -> ThoughtMarks | None:
    """The marks of thoughts that a template knows, if any."""
    return next((marks for marks in _THOUGHTS if marks.end in template), None)


def python_call(name: str, arguments: str) -> str:
    """A call as Python writes it; its strings are those of JSON."""
    given = ", ".join(f"{key}={_python(value)}" for key, value in _given(arguments).items())
    return f"{name}({given})"


def _python(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    if isinstance(value, dict):
        inside = (
            f"{json.dumps(key, ensure_ascii=False)}: {_python(one)}" for key, one in value.items()
        )
        return f"{{{', '.join(inside)}}}"
    words = {True: "True", False: "False", None: "None"}
    if value is None or isinstance(value, bool):
        return words[value]
    return json.dumps(value, ensure_ascii=False)


def _given(arguments: str) -> dict[str, Any]:
    """Arguments by name; what is no JSON of an object is one of them."""
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"arguments": arguments}


def _parameters(name: str, arguments: str) -> str:
    """A function with its parameters."""
    lines = [f"<function={name}>"]
    for key, value in _given(arguments).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines += [f"<parameter={key}>", text, "</parameter>"]
    return "\n".join([*lines, "</function>"])
