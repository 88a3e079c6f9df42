"""OpenAI's responses, in one piece and as server-sent events, to the letter; pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from nsedge.api import (
    Delta,
    Finished,
    FinishReason,
    Logprobs,
    MediaRead,
    Message,
    ReasoningDelta,
    Result,
    Role,
    ToolCall,
    ToolCallDelta,
)
from nsedge.web.answer_stream import AnswerStream, Batch, json_text
from nsedge.web.doors.openai.errors import NAMES, type_of
from nsedge.web.doors.openai.responses.bodies import ResponsesBody, TextFormat, ToolBody
from nsedge.web.doors.openai.responses.shapes import (
    IncompleteDetails,
    OutputItem,
    ResponseError,
    ResponseObject,
    ResponseUsage,
    TextPart,
    TextToken,
)
from nsedge.web.errors import Refusal
from nsedge.web.framing import SSE
from nsedge.web.logprobs import token_object
from nsedge.web.media_read import MediaObject, MediaTold, media_object
from nsedge.web.said import calls_in, thoughts_in

_PREFIXES = {"message": "msg", "function_call": "fc", "reasoning": "rs"}
NewId = Callable[[str], str]
"""An id that begins as it is told to."""


def new_id(prefix: str) -> str:
    """An id nobody has."""
    return f"{prefix}_{secrets.token_hex(24)}"


@dataclass(kw_only=True)
class Building:
    """A response while it comes to be: its output so far, piece by piece, each with its events."""

    id: str
    created: int
    body: ResponsesBody
    new_id: NewId = new_id
    items: list[OutputItem] = field(default_factory=list)
    media: list[MediaObject] = field(default_factory=list)
    """What was made of media of the input."""

    def response(
        self,
        status: str,
        *,
        usage: ResponseUsage | None = None,
        incomplete_details: IncompleteDetails | None = None,
        error: ResponseError | None = None,
    ) -> ResponseObject:
        """The `response` object."""
        body = self.body
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": incomplete_details,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            **(MediaTold(media=self.media) if self.media else MediaTold()),
            "metadata": body.metadata or {},
            "model": body.model,
            "output": self.items,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {
                "effort": None if body.reasoning is None else body.reasoning.effort,
                "summary": None,
            },
            "store": body.store is not False,
            "temperature": body.temperature,
            "text": {"format": _format_object(None if body.text is None else body.text.format)},
            "tool_choice": body.tool_choice or "auto",
            "tools": [_tool_object(one) for one in body.tools or ()],
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": usage,
            "user": body.user,
        }

    def ended(self, finished: Finished, *, reasoning_tokens: int) -> ResponseObject:
        """The `response` object at its end. reasoning_tokens: of all that were written, those that
        were thought."""
        usage = finished.usage
        totals: ResponseUsage = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }
        if finished.reason is FinishReason.LENGTH:
            details = IncompleteDetails(reason="max_output_tokens")
            return self.response("incomplete", incomplete_details=details, usage=totals)
        return self.response("completed", usage=totals)

    def failed(self, refusal: Refusal) -> ResponseObject:
        """The `response` object of one that broke off."""
        error: ResponseError = {
            "code": NAMES.get(refusal.code, refusal.code),
            "message": refusal.message,
            "type": type_of(refusal.status),
            "param": refusal.param,
        }
        return self.response("failed", error=error)

    def begin(self, kind: str, **fields: Any) -> OutputItem:
        """Another item of the output."""
        item = {"id": self.new_id(_PREFIXES[kind]), "type": kind, "status": "in_progress"}
        self.items.append(cast(OutputItem, item | fields))
        return self.items[-1]


def _format_object(wanted: TextFormat | None) -> dict[str, Any]:
    if wanted is None:
        return {"type": "text"}
    if wanted.schema is None:
        return {"type": wanted.type}
    name = wanted.name or "answer"
    return {"type": wanted.type, "name": name, "schema": wanted.schema, "strict": wanted.strict}


def _tool_object(tool: ToolBody) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": bool(tool.strict),
    }


def text_part(text: str, logprobs: list[TextToken]) -> TextPart:
    """A part of a message that is text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def logprob_objects(tokens: tuple[Logprobs, ...]) -> list[TextToken]:
    """Log-probabilities as OpenAI tells them."""
    return [
        {**token_object(one), "top_logprobs": [token_object(other) for other in one.top]}
        for one in tokens
    ]


def answer_of(results: tuple[Result, ...]) -> Message:
    """The assistant's turn that the conversation goes on from."""
    calls: tuple[ToolCall, ...] = tuple(calls_in(results))
    text = "".join(one.text for one in results if isinstance(one, Delta))
    thoughts = thoughts_in(results) or None
    return Message(role=Role.ASSISTANT, content=text, tool_calls=calls, reasoning=thoughts)


class ResponseStream(AnswerStream):
    """The events of one response. `kept` is called with its end, and all results."""

    def __init__(
        self, building: Building, kept: Callable[[ResponseObject, tuple[Result, ...]], None]
    ) -> None:
        super().__init__(1)
        self._building = building
        self._kept = kept
        self._sequence = 0
        self._open: _Open | None = None
        self._results: list[Result] = []

    def error(self, refusal: Refusal) -> bytes:
        return self._event("response.failed", response=self._building.failed(refusal))

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = json_text({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: " + kind.encode() + b"\n" + SSE.record(data)

    def _opening(self, index: int) -> bytes:
        response = self._building.response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _media(self, index: int, event: MediaRead) -> bytes:
        begun, told = self._open_once(index), media_object(event)
        self._building.media.append(told)
        return begun + self._event("response.media_read", media=told)

    def _piece(self, index: int, text: str) -> bytes:
        return self._text(text, [])

    def _likely(self, index: int, delta: Delta) -> bytes:
        return self._text(delta.text, logprob_objects(delta.logprobs))

    def _text(self, text: str, logprobs: list[TextToken]) -> bytes:
        begun = self._within("message")
        current = self._current
        current.text += text
        current.logprobs += logprobs
        return begun + self._event(
            "response.output_text.delta", **current.place(), delta=text, logprobs=logprobs
        )

    def _beside(self, index: int, event: ReasoningDelta | ToolCallDelta) -> bytes:
        if isinstance(event, ReasoningDelta):
            begun = self._within("reasoning")
            current = self._current
            current.text += event.text
            return begun + self._event(
                "response.reasoning_text.delta", **current.place(), delta=event.text
            )
        begun = b""
        if event.call_id is not None:
            begun = self._end() + self._begin(
                "function_call", name=event.name, call_id=event.call_id, arguments=""
            )
        current = self._current
        current.text += event.arguments
        if not event.arguments:
            return begun
        return begun + self._event(
            "response.function_call_arguments.delta",
            item_id=current.item["id"],
            output_index=current.index,
            delta=event.arguments,
        )

    @property
    def _current(self) -> _Open:
        if self._open is None:
            raise RuntimeError("no item is open")
        return self._open

    def _within(self, kind: str) -> bytes:
        """Be within an item of that kind; what that takes."""
        if self._open is not None and self._open.item["type"] == kind:
            return b""
        fields: dict[str, Any] = {"content": []}
        if kind == "message":
            fields |= {"role": "assistant"}
        else:
            fields |= {"summary": []}
        begun = self._end() + self._begin(kind, **fields)
        if kind == "reasoning":
            return begun
        return begun + self._event(
            "response.content_part.added", **self._current.place(), part=text_part("", [])
        )

    def _begin(self, kind: str, **fields: Any) -> bytes:
        item = self._building.begin(kind, **fields)
        self._open = _Open(item=item, index=len(self._building.items) - 1)
        return self._event(
            "response.output_item.added", output_index=self._open.index, item=dict(item)
        )

    def _end(self, status: str = "completed") -> bytes:
        """End the item that is open, if one is."""
        if (current := self._open) is None:
            return b""
        self._open = None
        item, told = current.item, b""
        item["status"] = status
        if item["type"] == "message":
            part = text_part(current.text, current.logprobs)
            item["content"] = [part]
            told = self._event(
                "response.output_text.done",
                **current.place(),
                text=current.text,
                logprobs=current.logprobs,
            ) + self._event("response.content_part.done", **current.place(), part=part)
        elif item["type"] == "reasoning":
            item["content"] = [{"type": "reasoning_text", "text": current.text}]
            told = self._event("response.reasoning_text.done", **current.place(), text=current.text)
        else:
            item["arguments"] = current.text
            told = self._event(
                "response.function_call_arguments.done",
                item_id=item["id"],
                output_index=current.index,
                name=item["name"],
                arguments=current.text,
            )
        return told + self._event(
            "response.output_item.done", output_index=current.index, item=item
        )

    def encode(self, batch: Batch) -> bytes:
        """As `AnswerStream`; what comes is kept for the conversation that goes on from it."""
        self._results += [event for _, event in batch if isinstance(event, Result)]
        return super().encode(batch)

    def _closing(self, index: int, event: Finished) -> bytes:
        cut = event.reason is FinishReason.LENGTH
        told = self._end("incomplete" if cut else "completed")
        thought = [one for one in self._results if isinstance(one, ReasoningDelta)]
        response = self._building.ended(
            event, reasoning_tokens=sum(len(one.token_ids) for one in thought)
        )
        self._kept(response, tuple(self._results))
        return told + self._event(f"response.{response['status']}", response=response)


@dataclass(kw_only=True)
class _Open:
    """The item that is being written."""

    item: OutputItem
    index: int
    text: str = ""
    logprobs: list[TextToken] = field(default_factory=list)

    def place(self) -> dict[str, Any]:
        """Where its only part stands."""
        return {"item_id": self.item["id"], "output_index": self.index, "content_index": 0}


def whole_answer(building: Building, results: tuple[Result, ...], end: Finished) -> ResponseObject:
    """The response in one piece: what its stream would have come to."""
    responses: list[ResponseObject] = []
    stream = ResponseStream(building, lambda response, _: responses.append(response))
    stream.encode([(0, event) for event in (*results, end)])
    return responses[0]
