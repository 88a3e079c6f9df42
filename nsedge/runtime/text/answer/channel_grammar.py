"""Grammars of answers on channels: what holds them to calls, or their text to a form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nsedge.api import Chat, Constraint, ToolChoice
from nsedge.runtime.text.answer.channels import CHANNEL, END, FUNCTIONS, MESSAGE, START
from nsedge.runtime.text.answer.formats import CONSTRAIN
from nsedge.runtime.text.answer.grammar import (
    ANY,
    arguments_schema,
    is_held,
    may_think,
    said_rule,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGrammars:
    """Writes the grammars of one model, as `CallGrammars` does. An answer has one call at most: it
    ends with that."""

    token_of: Callable[[str], int | None]

    def constraint(self, task: Chat, *, in_thought: bool) -> Constraint | None:
        """What an answer to `task` is held to; None where it is free. in_thought: never.

        Raises:
            InvalidParameter: the task's own constraint does not go with tools.
        """
        if not is_held(task):
            return None
        own, tools = task.constraint, task.usable_tools
        if not tools and (own is None or task.continue_final_message or not may_think(task)):
            return own
        if task.tool_name is not None:
            tools = tuple(tool for tool in tools if tool.name == task.tool_name)
        required = task.tool_choice is ToolChoice.REQUIRED
        kinds = ["call"] * bool(tools) + ["final"] * (not required)
        rules = [f"start: thought? ({' | '.join(kinds)})", *self._shared()]
        if not required:
            rules.append(f'final: {self._mark(CHANNEL)} "final" {self._mark(MESSAGE)} said')
            rules.append("said: TEXT" if own is None else said_rule(own))
        if tools:
            rules.append("call: " + " | ".join(f"call{number}" for number in range(len(tools))))
        for number, tool in enumerate(tools):
            to = json.dumps(f"commentary to={FUNCTIONS}{tool.name} ")
            head = (
                f'{self._mark(CHANNEL)} {to} {self._mark(CONSTRAIN)} "json" {self._mark(MESSAGE)}'
            )
            rules.append(f"call{number}: {head} arguments{number}")
            rules.append(f"arguments{number}: %json {arguments_schema(tool, strict=required)}")
        return Constraint.lark("\n".join([*rules, ANY]))

    def _shared(self) -> Iterator[str]:
        """The rule `thought`: a message that is one, and what begins the next."""
        begin = f'{self._mark(CHANNEL)} "analysis" {self._mark(MESSAGE)}'
        if self.token_of(END) is None:
            yield f"thinking[lazy]: TEXT {json.dumps(END)}"
        else:
            yield f"thinking: TEXT {self._mark(END)}"
        yield f'thought: {begin} thinking {self._mark(START)} "assistant"'

    def _mark(self, text: str) -> str:
        token = self.token_of(text)
        return json.dumps(text) if token is None else f"<[{token}]>"
