"""The generate door: a text in, its answer out, in one piece or as server-sent events."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from nsedge.api import Finished, Request
from nsedge.errors import EmptyPrompt
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answer_stream import AnswerStream, json_text
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import ModelName, json_answer, read_json
from nsedge.web.door import Door
from nsedge.web.errors import Refusal, plain_error
from nsedge.web.framing import SSE
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import SamplingFields, check_length, sampling, scheduling, spoken
from nsedge.web.usage import clipped, usage

_encode = msgspec.json.Encoder().encode
_BEFORE, _AFTER = SSE.record(b'{"text":\x00,"done":false}').split(b"\x00")


class GenerateBody(SamplingFields, kw_only=True):
    """`POST /api/generate` and `/api/generate/stream`."""

    text: str
    model: ModelName | None = None
    raw: bool | None = None
    """Continue the text as it stands, without the chat template."""
    stream: bool | None = None
    """Accepted; the route decides."""


_OTHERS = OtherFields(refuse_unknown=False)
"""Clients of this door send fields of their own."""


class GenerateStream(AnswerStream):
    """Pieces of text, and an object that says how they ended; always one choice."""

    def __init__(self) -> None:
        super().__init__(1)

    def error(self, refusal: Refusal) -> bytes:
        return SSE.record(plain_error(refusal))

    def _piece(self, index: int, text: str) -> bytes:
        return _BEFORE + json_text(text) + _AFTER

    def _closing(self, index: int, event: Finished) -> bytes:
        return SSE.record(_encode(end_of(event)))


def end_of(finished: Finished) -> dict[str, Any]:
    """The last object of an answer. Times are in seconds."""
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


@needs(Scope.INFER)
async def generate(http: web.Request) -> web.StreamResponse:
    """`POST /api/generate`: the answer in one piece."""
    answering = http.app[ANSWERING]
    with answering.label(http) as label:
        wanted = await _request(http, label)
        (choice,) = await answering.whole(http, [wanted])
    return json_answer({"text": choice.text, "model": wanted.model, **end_of(choice.finished)})


@needs(Scope.INFER)
async def generate_stream(http: web.Request) -> web.StreamResponse:
    """`POST /api/generate/stream`: the answer as a stream, whatever `stream` says."""
    answering = http.app[ANSWERING]
    with answering.label(http) as label:
        wanted = await _request(http, label)
        return await answering.stream(http, [wanted], GenerateStream())


async def _request(http: web.Request, label: str) -> Request:
    """What the body asks for."""
    answering = http.app[ANSWERING]
    body = await read_json(http, GenerateBody, _OTHERS)
    if not body.text:
        raise EmptyPrompt("text is empty", param="text")
    check_length(len(body.text), answering.limits, "text")
    sampled = sampling(body)
    model = await answering.model(body.model)
    wanted = Request(
        request_id=label,
        model=model.name,
        task=spoken(body.text, model, sampled, raw=bool(body.raw)),
        **scheduling(body),
    )
    wanted.check()
    return wanted


DOOR = Door(
    name="generate",
    prefixes=("/api/generate",),
    routes=(
        web.post("/api/generate", generate),
        web.post("/api/generate/stream", generate_stream),
    ),
    error_body=plain_error,
)
