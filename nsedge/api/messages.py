"""Who says what in a conversation."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from nsedge.api.media import Media


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
    """A picture, recording or film, where it stands in a message."""

    media: Media


Part = TextPart | MediaPart


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation: text, or parts in their order."""

    role: Role
    content: str | tuple[Part, ...]

    @property
    def text(self) -> str:
        """What is said in words: the parts that are text, put together."""
        if isinstance(self.content, str):
            return self.content
        return joined(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def media(self) -> tuple[Media, ...]:
        """What the message holds beside text, in order."""
        if isinstance(self.content, str):
            return ()
        return tuple(part.media for part in self.content if isinstance(part, MediaPart))
