"""Who says what in a conversation."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from nsedge.api.media import Media


class Role(enum.StrEnum):
    """Who speaks in a chat message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


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
        """What is said in words: the parts that are text, a line each."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def media(self) -> tuple[Media, ...]:
        """What the message holds beside text, in order."""
        if isinstance(self.content, str):
            return ()
        return tuple(part.media for part in self.content if isinstance(part, MediaPart))
