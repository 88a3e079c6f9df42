"""An answer to its parts: the thought first, then text and calls."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass

from nsedge.api import Chat, Generate, ToolChoice
from nsedge.runtime.text.answer.calls import CallReader
from nsedge.runtime.text.answer.channels import ChannelReader
from nsedge.runtime.text.answer.formats import Body, CallFormat, ThoughtMarks
from nsedge.runtime.text.answer.grammar import may_think
from nsedge.runtime.text.answer.parameters import texts_of
from nsedge.runtime.text.answer.parts import Part, Said, joined
from nsedge.runtime.text.answer.thoughts import ThoughtReader

_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """How a model writes calls and thoughts; thoughts: None where it has none."""

    calls: CallFormat
    thoughts: ThoughtMarks | None

    def marks(self, task: Generate | Chat) -> frozenset[str]:
        """What has to be seen of an answer to `task`, be it a special token."""
        if not isinstance(task, Chat):
            return frozenset()
        if self._on_channels:
            return frozenset(self.calls.marks)
        thoughts = self._thoughts(task)
        seen = set(self.calls.marks if task.usable_tools else ())
        return frozenset(seen | ({thoughts.begin, thoughts.end} if thoughts else set()))

    def reader(self, task: Generate | Chat, *, in_thought: Callable[[], bool]) -> AnyReader | None:
        """What reads an answer to `task`; None where it is text and nothing else. in_thought:
        whether the prompt has begun a thought."""
        if not isinstance(task, Chat):
            return None
        tools = task.usable_tools
        is_forced = task.tool_choice is ToolChoice.REQUIRED
        if self._on_channels:
            return ChannelReader(
                new_id=new_id,
                calls=bool(tools),
                split=task.split_reasoning,
                parallel=not task.has_one_call,
                is_forced=is_forced,
                is_begun=task.continue_final_message,
            )
        thoughts = calls = None
        if (marks := self._thoughts(task)) is not None:
            thoughts = ThoughtReader(marks, is_open=in_thought(), split=task.split_reasoning)
        if tools:
            calls = CallReader(
                self.calls,
                tools={tool.name for tool in tools},
                new_id=new_short_id if self.calls.short_ids else new_id,
                is_text=texts_of(tools),
                parallel=not task.has_one_call,
            )
        if thoughts is None and calls is None:
            return None
        return AnswerReader(thoughts=thoughts, calls=calls, is_forced=is_forced)

    @property
    def _on_channels(self) -> bool:
        return self.calls.body is Body.CHANNELS

    def _thoughts(self, task: Chat) -> ThoughtMarks | None:
        """The marks that are looked for in an answer to `task`."""
        wanted = task.split_reasoning or task.usable_tools
        return self.thoughts if wanted and may_think(task) else None


class AnswerReader:
    """Reads one answer as it grows; any split of it gives the same parts, put together."""

    def __init__(
        self, *, thoughts: ThoughtReader | None, calls: CallReader | None, is_forced: bool = False
    ) -> None:
        """is_forced: behind its thought the answer is held to be calls, so that what is held back
        in the end is a call that was cut off, and no text."""
        self._thoughts = thoughts
        self._calls = calls
        self._is_forced = is_forced

    @property
    def has_called(self) -> bool:
        """Whether a call was made, and the last one was not cut off within its arguments."""
        calls = self._calls
        return calls is not None and calls.calls > 0 and not calls.is_open

    @property
    def is_full(self) -> bool:
        """Whether nothing more is wanted."""
        return self._calls is not None and self._calls.is_full

    def push(self, text: str) -> list[Part]:
        """Read on; the parts that are certain now."""
        parts: list[Part] = []
        if self._thoughts is not None:
            parts, text = self._thoughts.push(text)
        return joined(parts + self._answer(text))

    def end(self) -> list[Part]:
        """The answer is whole: what was held back."""
        thought, text = ([], "") if self._thoughts is None else self._thoughts.end()
        parts = self._answer(text) + ([] if self._calls is None else self._calls.end())
        if self._is_forced:
            parts = [part for part in parts if not isinstance(part, Said)]
        return joined(thought + parts)

    def _answer(self, text: str) -> list[Part]:
        if not text:
            return []
        return [Said(text)] if self._calls is None else self._calls.push(text)


AnyReader = AnswerReader | ChannelReader
"""What reads an answer as it grows."""


def new_id() -> str:
    """An id of a call as OpenAI's are."""
    return f"call_{_random(24)}"


def new_short_id() -> str:
    """One that the templates of Mistral's models take."""
    return _random(9)


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
