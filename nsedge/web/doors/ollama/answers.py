"""Ollama's answers, in one piece and as lines of JSON; pure. Durations are in nanoseconds."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from nsedge.api import (
    Delta,
    Finished,
    FinishReason,
    Logprobs,
    MediaRead,
    ReasoningDelta,
    ToolCall,
    ToolCallDelta,
)
from nsedge.web.answer_stream import AnswerStream, json_text
from nsedge.web.choices import Choice
from nsedge.web.doors.ollama.shapes import EmbedAnswer, EmbeddingAnswer, ErrorBody
from nsedge.web.errors import Refusal
from nsedge.web.framing import NDJSON
from nsedge.web.logprobs import token_object, told
from nsedge.web.media_read import media_object, media_told
from nsedge.web.said import CallsInStream, arguments_of, calls_in, thoughts_in
from nsedge.web.usage import clipped
from nsedge.web.vectors import floats, rows

_MARK = "\x00"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What every object of one answer repeats, and the clock that the answer is timed by.

    model: as the client wrote it. created_at: when the answer began, RFC 3339. clock: monotonic, in
    seconds; `began_s` of it is when the request came.
    """

    model: str
    created_at: str
    clock: Callable[[], float]
    began_s: float

    def fields(self) -> dict[str, Any]:
        """The repeated fields."""
        return {"model": self.model, "created_at": self.created_at}

    def durations(self, finished: Finished) -> dict[str, int]:
        """Where the time went. `load_duration` is all that went before the prompt was read: loading
        the model, and waiting for a turn."""
        timings, usage = finished.timings, finished.usage
        total_s = max(self.clock() - self.began_s, timings.prefill_s + timings.decode_s)
        return {
            "total_duration": nanoseconds(total_s),
            "load_duration": nanoseconds(total_s - timings.prefill_s - timings.decode_s),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": nanoseconds(timings.prefill_s),
            "eval_count": usage.completion_tokens,
            "eval_duration": nanoseconds(timings.decode_s),
        }


def nanoseconds(seconds: float) -> int:
    """A duration as Ollama tells it."""
    return round(seconds * 1e9)


def rfc3339(epoch_s: float) -> str:
    """A moment, in seconds since the Unix epoch, as Ollama tells it."""
    moment = datetime.datetime.fromtimestamp(epoch_s, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """How a route tells what was said: its texts, thoughts and calls lie in the object itself, or,
    where `within`, in a message there."""

    text: str
    within: str | None = None

    def of(self, text: str, **beside: Any) -> dict[str, Any]:
        """What carries `text`, and what is told beside it."""
        if self.within is None:
            return {self.text: text, **beside}
        return {self.within: {"role": "assistant", self.text: text, **beside}}


GENERATED = Carrier(text="response")
SAID = Carrier(text="content", within="message")


def calls_object(calls: Iterable[ToolCall]) -> dict[str, Any]:
    """The calls that are whole, as Ollama tells them; nothing where there are none."""
    told = [
        {"id": call.id, "function": {"name": call.name, "arguments": arguments}}
        for call in calls
        if (arguments := arguments_of(call)) is not None
    ]
    return {"tool_calls": told} if told else {}


def logprobs_object(tokens: Sequence[Logprobs]) -> dict[str, Any]:
    """The log-probabilities of some tokens; nothing where there are none."""
    told = [
        {**token_object(one), "top_logprobs": list(map(token_object, one.top))} for one in tokens
    ]
    return {"logprobs": told} if told else {}


def end_of(head: Head, finished: Finished) -> dict[str, Any]:
    """What the last object says of the end."""
    return {
        "done": True,
        "done_reason": _reason(finished),
        **head.durations(finished),
        **clipped(finished),
    }


def whole_answer(head: Head, choice: Choice, carrier: Carrier) -> dict[str, Any]:
    """The answer in one piece."""
    thoughts = thoughts_in(choice.results)
    said = carrier.of(
        choice.text,
        **({"thinking": thoughts} if thoughts else {}),
        **calls_object(calls_in(choice.results)),
    )
    return {
        **head.fields(),
        **said,
        **end_of(head, choice.finished),
        **logprobs_object(told(choice.results)),
        **media_told(choice.results),
    }


def _reason(finished: Finished) -> str:
    """Ollama has no word of its own for calls."""
    return "length" if finished.reason is FinishReason.LENGTH else "stop"


def moved(head: Head, carrier: Carrier, reason: str) -> dict[str, Any]:
    """The answer where nothing was to be said: the model was loaded, or let go."""
    return {**head.fields(), **carrier.of(""), "done": True, "done_reason": reason}


def embed_answer(head: Head, choice: Choice) -> EmbedAnswer:
    """The answer of `/api/embed`."""
    durations = head.durations(choice.finished)
    return {
        "model": head.model,
        "embeddings": [floats(row) for row in rows(choice.results)],
        "total_duration": durations["total_duration"],
        "load_duration": durations["load_duration"],
        "prompt_eval_count": durations["prompt_eval_count"],
    }


def embeddings_answer(choice: Choice) -> EmbeddingAnswer:
    """The answer of `/api/embeddings`."""
    (row,) = rows(choice.results)
    return {"embedding": floats(row)}


def error_body(refusal: Refusal) -> bytes:
    """Ollama's error object."""
    return _encode(ErrorBody(error=refusal.message))


class OllamaStream(AnswerStream):
    """Lines of JSON, the last of which says how it ended; always one choice."""

    framing = NDJSON

    def __init__(self, head: Head, carrier: Carrier) -> None:
        super().__init__(1)
        self._head, self._carrier = head, carrier
        self._calls = CallsInStream()
        self._before, _, self._after = self._line(_MARK).partition(_encode(_MARK))

    def error(self, refusal: Refusal) -> bytes:
        return NDJSON.record(error_body(refusal))

    def _line(self, text: str, **beside: Any) -> bytes:
        carried = self._carrier.of(text, **beside)
        return NDJSON.record(json_text({**self._head.fields(), **carried, "done": False}))

    def _media(self, index: int, event: MediaRead) -> bytes:
        line = {**self._head.fields(), **self._carrier.of(""), "done": False}
        return NDJSON.record(json_text({**line, "media": [media_object(event)]}))

    def _piece(self, index: int, text: str) -> bytes:
        return self._before + json_text(text) + self._after

    def _likely(self, index: int, delta: Delta) -> bytes:
        line = {**self._head.fields(), **self._carrier.of(delta.text), "done": False}
        return NDJSON.record(json_text({**line, **logprobs_object(delta.logprobs)}))

    def _beside(self, index: int, event: ReasoningDelta | ToolCallDelta) -> bytes:
        if isinstance(event, ReasoningDelta):
            return self._line("", thinking=event.text)
        return self._called(self._calls.feed(event))

    def _called(self, calls: Sequence[ToolCall]) -> bytes:
        found = calls_object(calls)
        return self._line("", **found) if found else b""

    def _closing(self, index: int, event: Finished) -> bytes:
        last = {**self._head.fields(), **self._carrier.of(""), **end_of(self._head, event)}
        return self._called(self._calls.rest()) + NDJSON.record(_encode(last))
