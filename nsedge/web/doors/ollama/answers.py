"""Ollama's answers, in one piece and as lines of JSON; pure. Durations are in nanoseconds."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from nsedge.api import Finished
from nsedge.web.answer_stream import AnswerStream, json_text
from nsedge.web.choices import Choice
from nsedge.web.errors import Refusal
from nsedge.web.framing import NDJSON
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


def generated(text: str) -> dict[str, Any]:
    """What `/api/generate` carries a text in."""
    return {"response": text}


def said(text: str) -> dict[str, Any]:
    """What `/api/chat` carries a text in."""
    return {"message": {"role": "assistant", "content": text}}


Carrier = Callable[[str], dict[str, Any]]


def end_of(head: Head, finished: Finished) -> dict[str, Any]:
    """What the last object says of the end."""
    return {
        "done": True,
        "done_reason": finished.reason.value,
        **head.durations(finished),
        **clipped(finished),
    }


def whole_answer(head: Head, choice: Choice, carrier: Carrier) -> dict[str, Any]:
    """The answer in one piece."""
    return {**head.fields(), **carrier(choice.text), **end_of(head, choice.finished)}


def moved(head: Head, carrier: Carrier, reason: str) -> dict[str, Any]:
    """The answer where nothing was to be said: the model was loaded, or let go."""
    return {**head.fields(), **carrier(""), "done": True, "done_reason": reason}


def embed_answer(head: Head, choice: Choice) -> dict[str, Any]:
    """The answer of `/api/embed`."""
    told = head.durations(choice.finished)
    counted = ("total_duration", "load_duration", "prompt_eval_count")
    return {
        "model": head.model,
        "embeddings": [floats(row) for row in rows(choice.results)],
        **{name: told[name] for name in counted},
    }


def embeddings_answer(choice: Choice) -> dict[str, Any]:
    """The answer of `/api/embeddings`."""
    (row,) = rows(choice.results)
    return {"embedding": floats(row)}


def error_body(refusal: Refusal) -> bytes:
    """Ollama's error object."""
    return _encode({"error": refusal.message})


class OllamaStream(AnswerStream):
    """Lines of JSON, the last of which says how it ended; always one choice."""

    framing = NDJSON

    def __init__(self, head: Head, carrier: Carrier) -> None:
        super().__init__(1)
        self._head, self._carrier = head, carrier
        frame = _encode({**head.fields(), **carrier(_MARK), "done": False})
        self._before, _, after = frame.partition(_encode(_MARK))
        self._after = NDJSON.record(after)

    def error(self, refusal: Refusal) -> bytes:
        return NDJSON.record(error_body(refusal))

    def _piece(self, index: int, text: str) -> bytes:
        return self._before + json_text(text) + self._after

    def _closing(self, index: int, event: Finished) -> bytes:
        last = {**self._head.fields(), **self._carrier(""), **end_of(self._head, event)}
        return NDJSON.record(_encode(last))
