"""Anthropic's messages, in one piece and as server-sent events, to the letter; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from nsedge.api import (
    Finished,
    FinishReason,
    Loading,
    MediaRead,
    ReasoningDelta,
    Started,
    ToolCallDelta,
    Usage,
)
from nsedge.web.answer_stream import AnswerStream, Batch, json_text
from nsedge.web.choices import Choice
from nsedge.web.doors.anthropic.errors import error_object
from nsedge.web.doors.anthropic.shapes import (
    BlockObject,
    MessageObject,
    Stopped,
    UsageObject,
)
from nsedge.web.errors import Refusal
from nsedge.web.framing import SSE, Framing
from nsedge.web.media_read import MediaTold, media_object, media_told
from nsedge.web.said import arguments_of, calls_in, thoughts_in

_MARK = "\x00"
_encode = msgspec.json.Encoder().encode


def named(kind: str, **fields: Any) -> bytes:
    """One event, named by its type."""
    data = json_text({"type": kind, **fields})
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

    def message(
        self,
        content: list[BlockObject],
        stopped: Stopped,
        usage: UsageObject,
        media: MediaTold,
    ) -> MessageObject:
        """A `message` object."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            **stopped,
            "usage": usage,
            **media,
        }


def whole_answer(head: Head, choice: Choice) -> MessageObject:
    """The answer in one piece."""
    finished, content = choice.finished, list[BlockObject]()
    if thoughts := thoughts_in(choice.results):
        content.append({"type": "thinking", "thinking": thoughts, "signature": ""})
    calls = calls_in(choice.results)
    if choice.text if not calls else choice.text.strip():
        content.append({"type": "text", "text": choice.text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call) or {}}
        for call in calls
    ]
    media = media_told(choice.results)
    return head.message(content, _stopped(finished), usage_of(finished.usage), media)


def usage_of(usage: Usage) -> UsageObject:
    """Tokens as Anthropic counts them: those that were ready in the cache apart."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _stopped(finished: Finished) -> Stopped:
    reason = "tool_use" if finished.reason is FinishReason.TOOL_CALLS else "end_turn"
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
        self._read: list[MediaRead] = []
        self._blocks = 0
        """Begun so far."""
        self._within: str | None = None
        """The type of the block that is open."""

    def encode(self, batch: Batch) -> bytes:
        """As `AnswerStream`; the first event tells how long the prompt is."""
        for _, one in batch:
            if isinstance(one, Started):
                self._prompt_tokens = one.prompt_tokens
        return super().encode(batch)

    def error(self, refusal: Refusal) -> bytes:
        told = replace(refusal, request_id=self._head.request_id)
        return b"event: error\n" + SSE.record(_encode(error_object(told)))

    def _media(self, index: int, event: MediaRead) -> bytes:
        self._read.append(event)
        return named("media_read", media=media_object(event))

    def _opening(self, index: int) -> bytes:
        usage = usage_of(Usage(prompt_tokens=self._prompt_tokens, completion_tokens=0))
        stopped: Stopped = {"stop_reason": None, "stop_sequence": None}
        begun = self._head.message([], stopped, usage, media_told(self._read))
        return named("message_start", message=begun)

    def _piece(self, index: int, text: str) -> bytes:
        if self._within != "text":
            return self._begin({"type": "text", "text": ""}) + self._piece(index, text)
        return self._before + json_text(text) + self._after

    def _beside(self, index: int, event: ReasoningDelta | ToolCallDelta) -> bytes:
        if isinstance(event, ReasoningDelta):
            begun = b""
            if self._within != "thinking":
                begun = self._begin({"type": "thinking", "thinking": "", "signature": ""})
            return begun + self._delta({"type": "thinking_delta", "thinking": event.text})
        begun = b""
        if event.call_id is not None:
            begun = self._begin(
                {"type": "tool_use", "id": event.call_id, "name": event.name or "", "input": {}}
            )
        if not event.arguments:
            return begun
        return begun + self._delta({"type": "input_json_delta", "partial_json": event.arguments})

    def _begin(self, block: BlockObject) -> bytes:
        """Begin a block, and end the one before."""
        ended = self._end()
        self._within, self._blocks = block["type"], self._blocks + 1
        delta = self._delta({"type": "text_delta", "text": _MARK})
        self._before, _, self._after = delta.partition(_encode(_MARK))
        begun = named("content_block_start", index=self._blocks - 1, content_block=block)
        return ended + begun

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return named("content_block_delta", index=self._blocks - 1, delta=delta)

    def _end(self) -> bytes:
        """End the block that is open, if one is."""
        if self._within is None:
            return b""
        self._within = None
        return named("content_block_stop", index=self._blocks - 1)

    def _closing(self, index: int, event: Finished) -> bytes:
        told = usage_of(event.usage)
        return (
            self._end()
            + named("message_delta", delta=_stopped(event), usage=told)
            + named("message_stop")
        )
