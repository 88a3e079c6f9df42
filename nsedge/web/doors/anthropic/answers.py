"""Anthropic's messages, in one piece and as server-sent events, to the letter; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from nsedge.api import Finished, FinishReason, Loading, Started, Usage
from nsedge.web.answer_stream import AnswerStream, Batch, json_text
from nsedge.web.choices import Choice
from nsedge.web.doors.anthropic.errors import error_object
from nsedge.web.errors import Refusal
from nsedge.web.framing import SSE, Framing

_MARK = "\x00"
_encode = msgspec.json.Encoder().encode


def named(kind: str, **fields: Any) -> bytes:
    """One event, named by its type."""
    data = _encode({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\n" + SSE.record(data)


_PING = named("ping")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFraming(Framing):
    """Server-sent events in which a silence is filled with a ping."""

    def silence(self, loading: Loading | None) -> bytes:
        """A ping, and before it a comment on how far the model is from being there."""
        if loading is None:
            return _PING
        return SSE.silence(loading) + _PING


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is known of an answer before it begins."""

    id: str
    model: str
    request_id: str

    def message(self, **fields: Any) -> dict[str, Any]:
        """A `message` object; `fields` over those of one that has not begun."""
        empty: dict[str, Any] = {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        return empty | fields


def whole_answer(head: Head, choice: Choice) -> dict[str, Any]:
    """The answer in one piece."""
    finished = choice.finished
    content = [{"type": "text", "text": choice.text}] if choice.text else []
    return head.message(content=content, **_stopped(finished), usage=usage_of(finished.usage))


def usage_of(usage: Usage) -> dict[str, int]:
    """Tokens as Anthropic counts them: those that were ready in the cache apart."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _stopped(finished: Finished) -> dict[str, str | None]:
    reason = "end_turn"
    if finished.reason is FinishReason.LENGTH:
        clipped = finished.clipped_max_tokens is not None
        reason = "model_context_window_exceeded" if clipped else "max_tokens"
    elif finished.stop is not None:
        reason = "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": finished.stop}


class MessageStream(AnswerStream):
    """The events of one message; always one choice."""

    framing = EventFraming(
        content_type=SSE.content_type, before=SSE.before, after=SSE.after, comment=SSE.comment
    )

    def __init__(self, head: Head) -> None:
        super().__init__(1)
        self._head = head
        self._prompt_tokens = 0
        self._in_text = False
        delta = named("content_block_delta", index=0, delta={"type": "text_delta", "text": _MARK})
        self._before, _, self._after = delta.partition(_encode(_MARK))

    def encode(self, batch: Batch) -> bytes:
        """As `AnswerStream`; the first event tells how long the prompt is."""
        for _, one in batch:
            if isinstance(one, Started):
                self._prompt_tokens = one.prompt_tokens
        return super().encode(batch)

    def error(self, refusal: Refusal) -> bytes:
        told = replace(refusal, request_id=self._head.request_id)
        return b"event: error\n" + SSE.record(_encode(error_object(told)))

    def _opening(self, index: int) -> bytes:
        usage = usage_of(Usage(prompt_tokens=self._prompt_tokens, completion_tokens=0))
        return named("message_start", message=self._head.message(usage=usage))

    def _piece(self, index: int, text: str) -> bytes:
        piece = self._before + json_text(text) + self._after
        if self._in_text:
            return piece
        self._in_text = True
        begin = {"type": "text", "text": ""}
        return named("content_block_start", index=0, content_block=begin) + piece

    def _closing(self, index: int, event: Finished) -> bytes:
        stop = named("content_block_stop", index=0) if self._in_text else b""
        told = usage_of(event.usage)
        return (
            stop + named("message_delta", delta=_stopped(event), usage=told) + named("message_stop")
        )
