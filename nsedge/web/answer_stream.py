"""The events of an answer -> the bytes of its stream; pure.

Everything that does not change from one piece to the next is encoded once an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from nsedge.api import (
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    MediaRead,
    PromptLogprobs,
    ReasoningDelta,
    ToolCallDelta,
)
from nsedge.errors import Unavailable
from nsedge.web.errors import Refusal
from nsedge.web.framing import SSE, Framing

_encode = msgspec.json.Encoder().encode
Batch = Sequence[tuple[int, Event]]
"""Events with the index of the choice they belong to."""


class StreamEncoder(ABC):
    """Encodes events as a stream, framed as `framing` has it, until `ended`."""

    framing: ClassVar[Framing] = SSE

    def __init__(self) -> None:
        self.ended = False

    @abstractmethod
    def encode(self, batch: Batch) -> bytes:
        """The bytes that `batch` adds to the stream; after the end, none."""

    @abstractmethod
    def error(self, refusal: Refusal) -> bytes:
        """The last piece of a stream that broke off."""


class AnswerStream(StreamEncoder):
    """Encodes the events of `choices` requests as one answer. A door's stream says what each piece
    looks like."""

    tells_tokens: ClassVar[bool] = False
    """Whether every piece tells of its tokens, and not only those with log-probabilities."""

    def __init__(self, choices: int) -> None:
        super().__init__()
        self._finished: list[Finished | None] = [None] * choices
        self._opened = [False] * choices
        self.tokens = [0] * choices
        """Written of each choice so far."""

    def encode(self, batch: Batch) -> bytes:
        """The bytes that `batch` adds to the stream; after the end, none.

        The stream ends when every choice has finished, or with the first that failed.
        """
        pieces: list[bytes] = []
        for index, event in batch:
            if self.ended:
                break
            event = settled(event)
            if isinstance(event, Failed):
                self.ended = True
                pieces.append(self.error(Refusal.of(event)))
                break
            if isinstance(event, MediaRead):
                pieces.append(self._media(index, event))
                continue
            pieces.append(self._open_once(index))
            if isinstance(event, Delta):
                self.tokens[index] += len(event.token_ids)
                if event.logprobs or (self.tells_tokens and event.token_ids):
                    pieces.append(self._likely(index, event))
                elif event.text:
                    pieces.append(self._piece(index, event.text))
            elif isinstance(event, PromptLogprobs):
                pieces.append(self._scored(index, event))
            elif isinstance(event, ReasoningDelta | ToolCallDelta):
                pieces.append(self._beside(index, event))
            elif isinstance(event, Finished):
                pieces.append(self._close(index, event))
        return b"".join(pieces)

    def _open_once(self, index: int) -> bytes:
        """What a choice begins with, before anything else of it."""
        if self._opened[index]:
            return b""
        self._opened[index] = True
        return self._opening(index)

    def _close(self, index: int, event: Finished) -> bytes:
        self._finished[index] = event
        done = [one for one in self._finished if one is not None]
        self.ended = len(done) == len(self._finished)
        closing = self._closing(index, event)
        return closing + self._tail(done) if self.ended else closing

    @abstractmethod
    def _piece(self, index: int, text: str) -> bytes:
        """A piece of text."""

    def _likely(self, index: int, delta: Delta) -> bytes:
        """A piece that tells of its tokens, whose text may be empty; where nothing tells of them,
        the text alone."""
        return self._piece(index, delta.text) if delta.text else b""

    @abstractmethod
    def _closing(self, index: int, event: Finished) -> bytes:
        """What a choice ends with."""

    def _beside(self, index: int, event: ReasoningDelta | ToolCallDelta) -> bytes:
        """What is no text: nothing, where the format has no place for it."""
        return b""

    def _scored(self, index: int, event: PromptLogprobs) -> bytes:
        """How likely tokens of the prompt were: nothing, where the format has no place for it."""
        return b""

    def _media(self, index: int, event: MediaRead) -> bytes:
        """What was made of a medium of the prompt, before the choice begins: a comment, where the
        format has no place for it."""
        return self.framing.remark(f"read {event.place} by {event.model}")

    def _opening(self, index: int) -> bytes:
        """What a choice begins with; where there is nothing to say, a comment, so that the reader
        sees the status as soon as its prompt is read."""
        return self.framing.remark("started")

    def _tail(self, finished: Sequence[Finished]) -> bytes:
        """What the stream ends with when all went well."""
        return b""


def settled(event: Event) -> Event:
    """`event`, but a cancellation that the client did not ask for is a failure to it."""
    if isinstance(event, Finished) and event.reason is FinishReason.CANCELLED:
        error = Unavailable("the request was cancelled before it ended")
        return Failed.of(event.request_id, error)
    return event


def json_text(text: object) -> bytes:
    """`text`, or whatever has texts in it, as JSON in which no reader finds a line end.

    Clients read a stream by lines, and some take U+0085, U+2028 and U+2029 for line ends.
    """
    encoded: bytes = _encode(text)
    if encoded.isascii():
        return encoded
    return (
        encoded.replace(b"\xc2\x85", b"\\u0085")
        .replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
    )
