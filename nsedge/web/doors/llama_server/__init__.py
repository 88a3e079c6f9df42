"""The door of llama-server's own routes, beside its OpenAI and Anthropic ones."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from nsedge.api import ModelInfo, ModelState, ModelStats
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import json_answer, read_json
from nsedge.web.door import JSON, Door
from nsedge.web.doors.llama_server.answers import CompletionStream, Head, whole_answer
from nsedge.web.doors.llama_server.bodies import OTHERS, CompletionBody
from nsedge.web.doors.llama_server.errors import error_body
from nsedge.web.doors.llama_server.requests import (
    completion_requests,
    prompts_of,
    sampling_of,
)
from nsedge.web.errors import Refusal, Refused

NO_RERANKER = "no model here scores documents: there is no reranker"


@needs(Scope.INFER)
async def completion(http: web.Request) -> web.StreamResponse:
    """`POST /completion`; several prompts are answered by an array."""
    answering = http.app[ANSWERING]
    body = await read_json(http, CompletionBody, OTHERS)
    prompts, wanted = prompts_of(body, answering.limits), sampling_of(body)
    with answering.label(http) as label:
        model = await answering.model(body.model)
        requests = completion_requests(body, prompts, wanted, model=model.name, request_id=label)
        head = Head(model=model.name, sampling=wanted, prompts=prompts)
        if body.stream:
            return await answering.stream(http, requests, CompletionStream(head))
        answers = whole_answer(head, await answering.whole(http, requests))
    if isinstance(body.prompt, str):
        return json_answer(answers[0])
    return web.Response(body=msgspec.json.encode(answers), content_type=JSON)


@needs(Scope.READ)
async def slots(http: web.Request) -> web.Response:
    """`GET /slots`: of the model `?model=`, or of the one that a request without a name gets."""
    answering = http.app[ANSWERING]
    model = await answering.model(http.query.get("model"))
    stats = await answering.ask(answering.service.stats())
    told = slots_of(model, stats.models.get(model.name))
    free = any(not slot["is_processing"] for slot in told)
    if http.query.get("fail_on_no_slot") and not free:
        raise Refused(Refusal(code="not_ready", message="no slot is free", retryable=True))
    return web.Response(body=msgspec.json.encode(told), content_type=JSON)


def slots_of(model: ModelInfo, stats: ModelStats | None) -> list[dict[str, Any]]:
    """A model's slots, those that run first: which of them runs what is not told."""
    running = 0 if stats is None else stats.running
    there = model.slots if model.state is ModelState.READY else 0
    return [
        {
            "id": number,
            "n_ctx": model.context_tokens,
            "speculative": False,
            "is_processing": number < running,
        }
        for number in range(there)
    ]


@needs(Scope.INFER)
async def rerank(http: web.Request) -> web.Response:
    """`POST /rerank`, and what else it is called."""
    raise Refused(Refusal(code="not_supported", message=NO_RERANKER))


RERANKING = ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking")
DOOR = Door(
    name="llama-server",
    prefixes=("/completion", "/completions", "/slots", *RERANKING),
    routes=(
        web.post("/completion", completion),
        web.post("/completions", completion),
        web.get("/slots", slots),
        *(web.post(path, rerank) for path in RERANKING),
    ),
    error_body=error_body,
)
