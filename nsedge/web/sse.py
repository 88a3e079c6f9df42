"""The events of an answer -> the bytes of its server-sent event stream; pure.

Clients read a stream by lines, and some take U+0085, U+2028 and U+2029 for line ends: these are
escaped. Everything that does not change from one piece to the next is encoded once an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from nsedge.api import Delta, Event, Failed, Finished, FinishReason, Loading
from nsedge.errors import Unavailable
from nsedge.web.errors import Refusal
from nsedge.web.openai import Head, clipped, usage

PING = b": keep-alive\n\n"
STARTED = b": started\n\n"
DONE = b"data: [DONE]\n\n"
_MARK = "\x00"
_encode = msgspec.json.Encoder().encode
Batch = Sequence[tuple[int, Event]]
"""Events with the index of the choice they belong to."""


class AnswerStream(ABC):
    """Encodes the events of `choices` requests as one stream, until `ended`."""

    def __init__(self, choices: int) -> None:
        self._finished: list[Finished | None] = [None] * choices
        self._opened = [False] * choices
        self.ended = False

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
            if not self._opened[index]:
                self._opened[index] = True
                pieces.append(self._opening(index))
            if isinstance(event, Delta):
                if event.text:
                    pieces.append(self._piece(index, event.text))
            elif isinstance(event, Finished):
                pieces.append(self._close(index, event))
        return b"".join(pieces)

    def _close(self, index: int, event: Finished) -> bytes:
        self._finished[index] = event
        done = [one for one in self._finished if one is not None]
        self.ended = len(done) == len(self._finished)
        closing = self._closing(index, event)
        return closing + self._tail(done) if self.ended else closing

    @abstractmethod
    def error(self, refusal: Refusal) -> bytes:
        """The last piece of a stream that broke off."""

    @abstractmethod
    def _opening(self, index: int) -> bytes:
        """What a choice begins with."""

    @abstractmethod
    def _piece(self, index: int, text: str) -> bytes:
        """A piece of text."""

    @abstractmethod
    def _closing(self, index: int, event: Finished) -> bytes:
        """What a choice ends with."""

    @abstractmethod
    def _tail(self, finished: Sequence[Finished]) -> bytes:
        """What the stream ends with when all went well."""


class OpenAiStream(AnswerStream):
    """What the streams of both OpenAI routes share.

    per_prompt: choices a prompt, for the usage, which comes in a chunk of its own where asked for.
    """

    object: str

    def __init__(self, head: Head, *, choices: int, per_prompt: int, usage: bool) -> None:
        super().__init__(choices)
        self._head = head
        self._per_prompt = per_prompt
        self._usage = usage
        self._frames = [
            self._chunk([self._choice(index, _MARK)]).rpartition(_encode(_MARK))
            for index in range(choices)
        ]

    def error(self, refusal: Refusal) -> bytes:
        return b"data: " + refusal.openai_body() + b"\n\n"

    def _piece(self, index: int, text: str) -> bytes:
        before, _, after = self._frames[index]
        return before + json_text(text) + after

    def _tail(self, finished: Sequence[Finished]) -> bytes:
        if not self._usage:
            return DONE
        return self._chunk([], usage(finished, self._per_prompt)) + DONE

    def _chunk(self, choices: list[dict[str, Any]], totals: dict[str, int] | None = None) -> bytes:
        chunk: dict[str, Any] = {
            "id": self._head.id,
            "object": self.object,
            "created": self._head.created,
            "model": self._head.model,
            "choices": choices,
        }
        if self._usage:
            chunk["usage"] = totals
        return b"data: " + _encode(chunk) + b"\n\n"

    @abstractmethod
    def _choice(self, index: int, text: str) -> dict[str, Any]:
        """A choice that carries `text`."""


class ChatStream(OpenAiStream):
    """`chat.completion.chunk`s."""

    object = "chat.completion.chunk"

    def _opening(self, index: int) -> bytes:
        return self._chunk([_chat_choice(index, {"role": "assistant", "content": ""})])

    def _choice(self, index: int, text: str) -> dict[str, Any]:
        return _chat_choice(index, {"content": text})

    def _closing(self, index: int, event: Finished) -> bytes:
        choice = _chat_choice(index, {})
        choice["finish_reason"] = event.reason.value
        return self._chunk([choice | clipped(event)])


class CompletionStream(OpenAiStream):
    """`text_completion` chunks."""

    object = "text_completion"

    def _opening(self, index: int) -> bytes:
        return STARTED

    def _choice(self, index: int, text: str) -> dict[str, Any]:
        return {"text": text, "index": index, "logprobs": None, "finish_reason": None}

    def _closing(self, index: int, event: Finished) -> bytes:
        choice = self._choice(index, "")
        choice["finish_reason"] = event.reason.value
        return self._chunk([choice | clipped(event)])


class GenerateStream(AnswerStream):
    """The generate door's pieces; always one choice."""

    def __init__(self) -> None:
        super().__init__(1)

    def error(self, refusal: Refusal) -> bytes:
        return b"data: " + refusal.plain_body() + b"\n\n"

    def _opening(self, index: int) -> bytes:
        return STARTED

    def _piece(self, index: int, text: str) -> bytes:
        return b'data: {"text":' + json_text(text) + b',"done":false}\n\n'

    def _closing(self, index: int, event: Finished) -> bytes:
        return b"data: " + _encode(generate_end(event)) + b"\n\n"

    def _tail(self, finished: Sequence[Finished]) -> bytes:
        return b""


def generate_end(finished: Finished) -> dict[str, Any]:
    """The last object of the generate door. Times are in seconds."""
    return {
        "done": True,
        "reason": finished.reason.value,
        "usage": usage([finished], 1),
        "timings": {
            "queue_s": finished.timings.queue_s,
            "prefill_s": finished.timings.prefill_s,
            "decode_s": finished.timings.decode_s,
        },
        **clipped(finished),
    }


def ping(loading: Loading | None) -> bytes:
    """The comment for a silence: the stream lives; or how far its model is from being there."""
    if loading is None:
        return PING
    return (
        f": loading {loading.model}, {loading.position} before it, {loading.progress:.0%} read\n\n"
    ).encode()


def settled(event: Event) -> Event:
    """`event`, but a cancellation that the client did not ask for is a failure to it."""
    if isinstance(event, Finished) and event.reason is FinishReason.CANCELLED:
        error = Unavailable("the request was cancelled before it ended")
        return Failed.of(event.request_id, error)
    return event


def json_text(text: str) -> bytes:
    """`text` as a JSON string in which no reader finds a line end."""
    encoded: bytes = _encode(text)
    if text.isascii():
        return encoded
    return (
        encoded.replace(b"\xc2\x85", b"\\u0085")
        .replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
    )


def _chat_choice(index: int, delta: dict[str, str]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
