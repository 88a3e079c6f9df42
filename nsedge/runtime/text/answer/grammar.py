"""Grammars of tool calls: what holds an answer to them, in the syntax of llguidance's Lark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nsedge.api import Chat, Constraint, ConstraintKind, Tool, ToolChoice
from nsedge.errors import InvalidParameter
from nsedge.runtime.text.answer.formats import Body, CallFormat, ThoughtMarks
from nsedge.runtime.text.answer.parameters import (
    END_FUNCTION,
    END_PARAMETER,
    FUNCTION,
    PARAMETER,
    is_text,
    properties_of,
)

_SHARED = ("$defs", "definitions")
TIGHT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Arguments as Python writes JSON: a small model cannot lose itself in blanks."""
MORE = "{0,15}"
"""Calls behind the first that an answer may have where it is nothing else."""
FENCED, FENCE_END = "\n```json\n", "\n```"
_OBJECT = '{"type": "object"}'
_OTHER = r"([^{` \n]|`[^`]|``[^`]|```([a-ik-zA-Z]|j[^s]|js[^o]|jso[^n]))(.|\n)*"
"""Text that begins neither as an object nor as a block of JSON, which would be a call."""
ANY = "TEXT: /(.|\\n)*/"
BLANK = "BLANK: /[ \\n]{0,4}/"
JSON = (ConstraintKind.JSON_SCHEMA, ConstraintKind.JSON_OBJECT)


def is_held(task: object) -> bool:
    """Whether answers to `task` are held to a grammar."""
    if getattr(task, "constraint", None) is not None:
        return True
    return isinstance(task, Chat) and (
        task.tool_choice is ToolChoice.REQUIRED or any(tool.strict for tool in task.usable_tools)
    )


def may_think(task: Chat) -> bool:
    """Whether an answer may begin with a thought: where its own constraint is to fit all that is
    said, it may not, unless the constraint can be told from a thought."""
    own = task.constraint
    if own is None or task.tool_choice is ToolChoice.REQUIRED:
        return True
    return own.kind in JSON and (task.split_reasoning or bool(task.usable_tools))


def schemas_of(task: Chat) -> Iterator[tuple[int, Constraint]]:
    """The schemas that calls in an answer to `task` are held to, each by itself, with the places of
    their tools in the request."""
    strict = task.tool_choice is ToolChoice.REQUIRED
    for number, tool in enumerate(task.usable_tools):
        if task.tool_name in (None, tool.name):
            yield number, Constraint.json_schema(arguments_schema(tool, strict=strict))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallGrammars:
    """Writes the grammars of one model. token_of: the id of a text that is one token, which no
    other text can make up; None where it is ordinary text."""

    calls: CallFormat
    thoughts: ThoughtMarks | None
    token_of: Callable[[str], int | None]

    def constraint(self, task: Chat, *, in_thought: bool) -> Constraint | None:
        """What an answer to `task` is held to; None where it is free.

        Where a tool is required, it is calls and nothing else but a thought. Else text is free,
        and calls are held to the schemas of those tools that are strict; or, where the answer has
        a constraint of its own, it fits that, or is calls.

        Raises:
            InvalidParameter: the task's own constraint does not go with tools.
        """
        tools = task.usable_tools
        if not is_held(task):
            return None
        if not tools:
            return self._own(task, in_thought)
        if task.tool_name is not None:
            tools = tuple(tool for tool in tools if tool.name == task.tool_name)
        several = not task.has_one_call
        if task.tool_choice is ToolChoice.REQUIRED:
            rules = [f"answer: {self._calls(several)}"]
        elif task.constraint is not None:
            rules = [f"answer: {self._calls(several)} | said", said_rule(task.constraint)]
        else:
            rules = list(self._among_text(several))
        rules += self._thought(in_thought)
        rules += self._call_rules(tools, strict=task.tool_choice is ToolChoice.REQUIRED)
        return Constraint.lark("\n".join([*rules, ANY, BLANK]))

    def _own(self, task: Chat, in_thought: bool) -> Constraint | None:
        """The constraint of a task without tools; a thought may stand before JSON."""
        own = task.constraint
        if own is None or self.thoughts is None or not may_think(task):
            return own
        rules = ["answer: said", said_rule(own), *self._thought(in_thought), ANY, BLANK]
        return Constraint.lark("\n".join(rules))

    def _thought(self, in_thought: bool) -> Iterator[str]:
        """The rule `start`: a thought, where there can be one, and the answer."""
        if self.thoughts is None:
            yield "start: answer"
            return
        begin, end = self._mark(self.thoughts.begin), self.thoughts.end
        if self.token_of(end) is None:
            yield f"thought[lazy]: TEXT {json.dumps(end)}"
        else:
            yield f"thought: TEXT {self._mark(end)}"
        yield f"start: {'thought' if in_thought else f'({begin} thought)?'} BLANK answer"

    @property
    def _in_array(self) -> bool:
        """Whether the calls of an answer are one array."""
        form = self.calls
        headed = form.body is Body.EITHER and self.token_of(form.header_ends[0]) is not None
        return form.in_array and not headed

    def _calls(self, several: bool) -> str:
        """Calls that are the whole answer."""
        if self._in_array:
            return f"{self._mark(self.calls.begins[0])} {self._array(several)}"
        if self.calls.section:
            return f"{self._mark(self.calls.section[0])} {self._section(several)}"
        return self._further(several)

    def _further(self, several: bool) -> str:
        """Calls, one after the other."""
        between = json.dumps(self.calls.between) if self.calls.between else ""
        return f"call ({between} call){MORE}" if several else "call"

    def _section(self, several: bool) -> str:
        """What follows the mark of a section of calls."""
        end = "" if self.calls.section is None else self._mark(self.calls.section[1])
        return f"{self._further(several)} {end}"

    def _array(self, several: bool) -> str:
        """What follows the mark of an array of calls."""
        more = f'(", " object){MORE}' if several else ""
        end = "" if self.calls.end is None else self._mark(self.calls.end)
        return f'"[" object {more} "]" {end}'

    def _among_text(self, several: bool) -> Iterator[str]:
        """The rules of an answer that is text with calls in it."""
        form, begin = self.calls, self.calls.begins[0]
        calls = self._array(several) if self._in_array else "rest"
        if form.section:
            begin, calls = form.section[0], self._section(several)
        again = "*" if several else "?"
        token = self.token_of(begin) is not None
        yield f"among: head {calls}"
        yield (
            f"head: TEXT {self._mark(begin)}" if token else f"head[lazy]: TEXT {json.dumps(begin)}"
        )
        if not form.unmarked:
            yield f"answer: among{again} TEXT"
            return
        more = '("; " object)' if form.bare else '("\\n" object)'
        objects = f"object {more}{MORE}" if several else "object"
        rest = "among* TEXT" if several else "TEXT"
        yield f"OTHER: /{_OTHER}/"
        if token:
            yield f"answer: {objects} | OTHER? | OTHER? {self._mark(begin)} {calls} {rest}"
        else:
            yield f"answer: {objects} | OTHER? | first {calls} {rest}"
            yield f"first[lazy]: /({_OTHER})?/ {json.dumps(begin)}"

    def _call_rules(self, tools: Sequence[Tool], *, strict: bool) -> Iterator[str]:
        form = self.calls
        names = range(len(tools))
        yield "object: " + " | ".join(f"object{number}" for number in names)
        yield "rest: " + " | ".join(f"rest{number}" for number in names)
        yield "call: object" if form.bare else f"call: {self._mark(form.begins[0])} rest"
        end = "" if form.end is None else self._mark(form.end)
        for number, tool in enumerate(tools):
            if form.body is Body.PYTHON:
                yield from _python_rules(number, tool, strict=strict)
            else:
                opening = f'{{"name": {json.dumps(tool.name)}, "{form.arguments}": '
                yield f'object{number}: {json.dumps(opening)} arguments{number} "}}"'
                yield f"arguments{number}: %json {arguments_schema(tool, strict=strict)}"
            if form.body is Body.PARAMETERS:
                yield from _parameter_rules(number, tool, strict=strict)
            yield f"rest{number}: {self._rest(number, tool)} {end}"

    def _rest(self, number: int, tool: Tool) -> str:
        """What stands between the marks of a call."""
        match self.calls.body:
            case Body.PARAMETERS:
                return f'"\\n" function{number} "\\n"'
            case Body.JSON:
                return f'"\\n" object{number} "\\n"'
            case Body.PYTHON:
                return f'"[" object{number} "]"'
        return f"{self._head(tool.name)} arguments{number}{self._foot}"

    def _head(self, name: str) -> str:
        """What stands before the arguments of a call that is headed by its name."""
        form, closed = self.calls, self._mark(self.calls.header_ends[0])
        if form.fenced:
            return f'"function" {closed} {json.dumps(f"{name}{FENCED}")}'
        if form.numbered:
            return f"{json.dumps(f'functions.{name}:')} /[0-9]{{1,4}}/ {closed}"
        return f"{json.dumps(name)} {closed}"

    @property
    def _foot(self) -> str:
        """What stands behind them."""
        return f" {json.dumps(FENCE_END)}" if self.calls.fenced else ""

    def _mark(self, text: str) -> str:
        token = self.token_of(text)
        return json.dumps(text) if token is None else f"<[{token}]>"


def said_rule(constraint: Constraint) -> str:
    """The rule `said`: what an answer without calls has to fit."""
    if constraint.kind in JSON:
        return f"said: %json {constraint.value or _OBJECT}"
    raise InvalidParameter(
        f"a constraint of the kind {constraint.kind} does not go with tools", param="constraint"
    )


def _parameter_rules(number: int, tool: Tool, *, strict: bool) -> Iterator[str]:
    """The rule of a function and those of its parameters, which stand in their order."""
    needed = tool.parameters.get("required") or ()
    shared = {name: tool.parameters[name] for name in _SHARED if name in tool.parameters}
    names = []
    for place, (key, schema) in enumerate(properties_of(tool).items()):
        label = f"{number}_{place}"
        required = key in needed and (strict or tool.strict)
        names.append(f"parameter{label}" + "?" * (not required))
        closing = json.dumps(f"\n{END_PARAMETER}\n")
        opening = json.dumps(f"{PARAMETER}{key}>\n")
        yield f"parameter{label}: {opening} value{label}"
        if not is_text(schema):
            held = {**shared, **schema} if isinstance(schema, dict) else schema
            yield f"value{label}: json{label} {closing}"
            yield f"json{label}: %json {_written(held, tool)}"
        elif "enum" in schema:
            choices = " | ".join(json.dumps(one, ensure_ascii=False) for one in schema["enum"])
            yield f"value{label}: ({choices}) {closing}"
        else:
            yield f"value{label}[lazy]: TEXT {closing}"
    opening, closing = json.dumps(f"{FUNCTION}{tool.name}>\n"), json.dumps(END_FUNCTION)
    yield f"function{number}: {opening} {' '.join(names)} {closing}"


def _python_rules(number: int, tool: Tool, *, strict: bool) -> Iterator[str]:
    """The rule of a call as Python writes it, its arguments in their order: `first` and `more` are
    what may come from each on, where none was written before, or one was."""
    needed = tool.parameters.get("required") or ()
    shared = {name: tool.parameters[name] for name in _SHARED if name in tool.parameters}
    properties = list(properties_of(tool).items())
    yield f'object{number}: {json.dumps(f"{tool.name}(")} first{number}_0 ")"'
    for place, (key, schema) in enumerate(properties):
        label, after = f"{number}_{place}", f"{number}_{place + 1}"
        required = key in needed and (strict or tool.strict)
        held = {**shared, **schema} if isinstance(schema, dict) else schema
        yield f"value{label}: {_python_value(held, tool)}"
        yield f"argument{label}: {json.dumps(f'{key}=')} value{label}"
        yield f"first{label}: argument{label} more{after}" + (
            "" if required else f" | first{after}"
        )
        comma = f'", " argument{label}'
        yield f"more{label}: " + (comma if required else f"({comma})?") + f" more{after}"
    last = f"{number}_{len(properties)}"
    yield f'first{last}: ""'
    yield f'more{last}: ""'


def _python_value(schema: Any, tool: Tool) -> str:
    """A value: what is true or false as Python writes it, and all else as JSON."""
    if isinstance(schema, dict) and schema.get("type") == "boolean" and "enum" not in schema:
        return '"True" | "False"'
    return f"%json {_written(schema, tool)}"


def arguments_schema(tool: Tool, *, strict: bool) -> str:
    """The schema of a tool's arguments; of one that is held to none, an object's."""
    schema = tool.parameters if strict or tool.strict else {}
    return _written({"type": "object", **schema, "x-guidance": TIGHT}, tool)


def _written(schema: Any, tool: Tool) -> str:
    try:
        return json.dumps(schema, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidParameter(
            f"the parameters of {tool.name!a} are no JSON: {error}", param="tools"
        ) from error
