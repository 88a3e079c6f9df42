"""Who says what in a conversation."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from dataclasses import dataclass

from nsedge.api.bounds import within
from nsedge.api.media import Media
from nsedge.api.tools import ToolCall
from nsedge.errors import InvalidParameter

FPS = (0.001, 240.0)
"""Frames of a film that may be asked for a second, least and most."""
FRAMES = (1, 4096)
"""And in all."""


class Role(enum.StrEnum):
    """Who speaks in a chat message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


def joined(parts: Iterable[str]) -> str:
    """The text of a message that comes in parts: a line end stands between two of them.

    So do vLLM, llama.cpp and TensorRT-LLM where a template takes a text, and clients are written
    against these. Parts are blocks, and two words of two blocks are not to become one.
    """
    return "\n".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """A piece of text among the parts of a message."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPart:
    """A picture, recording or film, where it stands in a message.

    - place: what its client calls that place, such as messages[2].images[0]; empty is
      messages[MESSAGE].content[PART].
    - fps, frames: of a film, how many frames a second are looked at, and how many at most; frames
      alone are spread over all of it. Without either, as the model has it.
    """

    media: Media
    place: str = dataclasses.field(default="", compare=False)
    fps: float | None = None
    frames: int | None = None

    def check(self, where: str) -> None:
        """Refuse media that are not as they say, and a choice of frames out of range, or of what
        has none; `where` names the part.

        Raises:
            InvalidParameter: naming the field.
        """
        try:
            self.media.check()
        except InvalidParameter as error:
            raise InvalidParameter(f"{where}: {error.message}", param=error.param) from error
        for name, value, bounds in (("fps", self.fps, FPS), ("frames", self.frames, FRAMES)):
            if value is not None and self.media.kind != "video":
                wrong = f"{where}.{name} is of films, not of {self.media.type}"
                raise InvalidParameter(wrong, param=name)
            within(f"{where}.{name}", value, *bounds, param=name)


Part = TextPart | MediaPart


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation: text, or parts in their order.

    - tool_calls: of the assistant, what it called beside what it said.
    - reasoning: of the assistant, what it thought before; the model's template decides whether it
      is read again.
    - tool_call_id: of a tool, the call that it answers.
    - name: who speaks, of those with that role; of a tool, its name.
    """

    role: Role
    content: str | tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None

    @property
    def text(self) -> str:
        """What is said in words: the parts that are text, put together."""
        if isinstance(self.content, str):
            return self.content
        return joined(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def media(self) -> tuple[Media, ...]:
        """What the message holds beside text, in order."""
        return tuple(part.media for part in self.media_parts)

    @property
    def media_parts(self) -> tuple[MediaPart, ...]:
        """The same, as it stands in the message."""
        if isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if isinstance(part, MediaPart))

    def check(self, where: str) -> None:
        """Refuse what a message of this role cannot have; `where` names the message.

        Raises:
            InvalidParameter: naming the field.
        """
        for field in ("tool_calls", "reasoning"):
            if getattr(self, field) and self.role is not Role.ASSISTANT:
                wrong = f"{where}.{field}: only the assistant has them"
                raise InvalidParameter(wrong, param="messages")
        if self.tool_call_id is not None and self.role is not Role.TOOL:
            wrong = f"{where}.tool_call_id: only a tool answers a call"
            raise InvalidParameter(wrong, param="messages")
        for number, part in enumerate(() if isinstance(self.content, str) else self.content):
            if isinstance(part, MediaPart):
                part.check(part.place or f"{where}.content[{number}]")
