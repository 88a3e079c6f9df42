"""OpenAI's streams: chunks as server-sent events, to the letter; pure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from nsedge.api import (
    Delta,
    Finished,
    Logprobs,
    MediaRead,
    PromptLogprobs,
    ReasoningDelta,
    ToolCallDelta,
)
from nsedge.web.answer_stream import AnswerStream, json_text
from nsedge.web.doors.openai.answers import Head, shown
from nsedge.web.doors.openai.errors import error_body, reworded
from nsedge.web.doors.openai.logprobs import PLAIN, CompletionLogprobs, Telling, chat_logprobs
from nsedge.web.doors.openai.shapes import ChatLogprobs, TextLogprobs
from nsedge.web.errors import Refusal
from nsedge.web.framing import SSE
from nsedge.web.media_read import media_object
from nsedge.web.usage import Usage, clipped, usage

DONE = SSE.record(b"[DONE]")
_MARK = "\x00"
_encode = msgspec.json.Encoder().encode


class OpenAiStream(AnswerStream):
    """What the streams of both OpenAI routes share.

    per_prompt: choices a prompt, for the usage, which comes in a chunk of its own where asked for.
    """

    object: str
    prompt: str
    """What the body calls the prompt."""

    def __init__(
        self,
        head: Head,
        *,
        choices: int,
        per_prompt: int,
        usage: bool,
        telling: Telling = PLAIN,
    ) -> None:
        super().__init__(choices)
        self._telling = telling
        self._told = [CompletionLogprobs(telling) for _ in range(choices)]
        self._scores: list[list[Logprobs]] = [[] for _ in range(choices)]
        """What was told of a prompt that is to be echoed."""
        self._echoes = [False] * choices
        self._head = head
        self._per_prompt = per_prompt
        self._usage = usage
        self._frames = [
            self._chunk([self._choice(index, _MARK)]).rpartition(_encode(_MARK))
            for index in range(choices)
        ]

    def error(self, refusal: Refusal) -> bytes:
        return SSE.record(error_body(reworded(refusal, self.prompt)))

    def _piece(self, index: int, text: str) -> bytes:
        before, _, after = self._frames[index]
        return before + json_text(text) + after

    def _likely(self, index: int, delta: Delta) -> bytes:
        if self._telling.logprobs is None:
            return super()._likely(index, delta)
        choice = self._choice(index, delta.text)
        choice["logprobs"] = self._logprobs(index, delta.logprobs)
        return self._chunk([choice])

    def _tail(self, finished: Sequence[Finished]) -> bytes:
        if not self._usage:
            return DONE
        return self._chunk([], usage(finished, self._per_prompt)) + DONE

    def _chunk(
        self, choices: list[dict[str, Any]], totals: Usage | None = None, **beside: Any
    ) -> bytes:
        chunk: dict[str, Any] = {
            "id": self._head.id,
            "object": self.object,
            "created": self._head.created,
            "model": self._head.model,
            "choices": choices,
            **beside,
        }
        if self._usage:
            chunk["usage"] = totals
        return SSE.record(json_text(chunk))

    @abstractmethod
    def _logprobs(self, index: int, tokens: Sequence[Logprobs]) -> ChatLogprobs | TextLogprobs:
        """The `logprobs` of a choice's next tokens."""

    @abstractmethod
    def _choice(self, index: int, text: str) -> dict[str, Any]:
        """A choice that carries `text`."""


class ChatStream(OpenAiStream):
    """`chat.completion.chunk`s."""

    object = "chat.completion.chunk"
    prompt = "messages"

    def _opening(self, index: int) -> bytes:
        return self._chunk([_chat_choice(index, {"role": "assistant", "content": ""})])

    def _media(self, index: int, event: MediaRead) -> bytes:
        told = self._chunk([_chat_choice(index, {})], media=[media_object(event)])
        return self._open_once(index) + told

    def _choice(self, index: int, text: str) -> dict[str, Any]:
        return _chat_choice(index, {"content": text})

    def _logprobs(self, index: int, tokens: Sequence[Logprobs]) -> ChatLogprobs:
        return chat_logprobs(tokens, self._telling)

    def _beside(self, index: int, event: ReasoningDelta | ToolCallDelta) -> bytes:
        if isinstance(event, ReasoningDelta):
            return self._said_beside(index, {"reasoning_content": event.text}, event)
        call: dict[str, Any] = {"index": event.index}
        function = {"arguments": event.arguments}
        if event.call_id is not None:
            call |= {"id": event.call_id, "type": "function"}
            function = {"name": event.name or "", **function}
        call["function"] = function
        return self._said_beside(index, {"tool_calls": [call]}, event)

    def _said_beside(
        self, index: int, delta: dict[str, Any], event: ReasoningDelta | ToolCallDelta
    ) -> bytes:
        """A chunk that is no text, with what is told of its tokens."""
        choice = _chat_choice(index, delta)
        if event.logprobs and self._telling.logprobs is not None:
            choice["logprobs"] = self._logprobs(index, event.logprobs)
        return self._chunk([choice])

    def _closing(self, index: int, event: Finished) -> bytes:
        choice = _chat_choice(index, {})
        choice["finish_reason"] = event.reason.value
        return self._chunk([choice | clipped(event)])


class CompletionStream(OpenAiStream):
    """`text_completion` chunks. A prompt that is echoed has one of its own, once it is read."""

    object = "text_completion"
    prompt = "prompt"

    def _choice(self, index: int, text: str) -> dict[str, Any]:
        return {"text": text, "index": index, "logprobs": None, "finish_reason": None}

    def _logprobs(self, index: int, tokens: Sequence[Logprobs]) -> TextLogprobs:
        return self._told[index].of(tokens)

    def _scored(self, index: int, event: PromptLogprobs) -> bytes:
        self._scores[index] += event.logprobs
        return b""

    def _piece(self, index: int, text: str) -> bytes:
        return self._echoed(index) + (super()._piece(index, text) if self._telling.written else b"")

    def _likely(self, index: int, delta: Delta) -> bytes:
        echoed = self._echoed(index)
        return echoed + (super()._likely(index, delta) if self._telling.written else b"")

    def _closing(self, index: int, event: Finished) -> bytes:
        event = shown(event, self._telling)
        choice = self._choice(index, "")
        choice["finish_reason"] = event.reason.value
        return self._echoed(index) + self._chunk([choice | clipped(event)])

    def _tail(self, finished: Sequence[Finished]) -> bytes:
        return super()._tail([shown(one, self._telling) for one in finished])

    def _echoed(self, index: int) -> bytes:
        """The prompt, before the first that is told of a choice."""
        if not self._telling.echo or self._echoes[index]:
            return b""
        self._echoes[index] = True
        choice = self._choice(index, self._telling.echo[index // self._per_prompt])
        if self._telling.logprobs is not None:
            choice["logprobs"] = self._logprobs(index, self._scores[index])
        return self._chunk([choice])


def _chat_choice(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
