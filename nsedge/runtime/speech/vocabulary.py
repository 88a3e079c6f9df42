"""What the transcript logic knows of a speech model: its control tokens, and its text as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nsedge.errors import InvalidParameter

TOKEN_S = 0.02
"""Seconds between two timestamps, and of a position of the encoder."""
FRAMES_A_TOKEN = 2
CONTEXT = 448
"""Tokens of a prompt and what is written after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechTokens:
    """Ids of the tokens that control a model, with OpenAI's names of them. Text is below `end`, and
    all from `first_timestamp` on are times, 20 ms apart.

    - transcribe, translate: None, as `languages` are empty, where the model is of English alone.
    - languages: by code, such as `en`.
    - suppressed: what is never written; suppressed_first: what no window begins with.
    """

    end: int
    """<|endoftext|>"""
    start: int
    """<|startoftranscript|>"""
    start_of_previous: int
    """<|startofprev|>"""
    no_speech: int
    """<|nospeech|>, which older models call <|nocaptions|>"""
    no_timestamps: int
    """<|notimestamps|>"""
    first_timestamp: int
    """<|0.00|>"""
    transcribe: int | None = None
    translate: int | None = None
    languages: Mapping[str, int] = field(default_factory=dict)
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()

    def opening(self, language: str | None, *, translate: bool) -> tuple[int, ...]:
        """What stands before a window's tokens: <|startoftranscript|>, language and task.

        Raises:
            InvalidParameter: the model does not know the language, or does not translate.
        """
        if not self.languages:
            if translate:
                raise InvalidParameter(
                    "the model knows English alone, and translates nothing", param="translate"
                )
            if language not in (None, "en"):
                raise InvalidParameter(
                    f"the model knows English alone, not {language!r}", param="language"
                )
            return (self.start,)
        if language is None or language not in self.languages:
            raise InvalidParameter(f"the model does not know {language!r}", param="language")
        task = self.translate if translate else self.transcribe
        if task is None:
            raise InvalidParameter("the model does not translate", param="translate")
        return (self.start, self.languages[language], task)


class Codec(Protocol):
    """A model's tokens as text. From the transcript's thread."""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, none of them special."""

    def octets(self, token_id: int) -> bytes:
        """The bytes that a token stands for, which may be part of a character; none of a special
        one."""


def text_of(codec: Codec, token_ids: Sequence[int]) -> str:
    """The text of some tokens; bytes that are no character are U+FFFD."""
    return b"".join(map(codec.octets, token_ids)).decode(errors="replace")
