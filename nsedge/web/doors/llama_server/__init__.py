"""The door of llama-server's own routes, beside its OpenAI and Anthropic ones."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from nsedge.api import Generate, ModelInfo, ModelState, ModelStats
from nsedge.errors import InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import gives, json_answer, read_json, read_query, takes, takes_query
from nsedge.web.constraint_fields import constraint
from nsedge.web.door import Door
from nsedge.web.doors.llama_server import prompts as asked
from nsedge.web.doors.llama_server.answers import CompletionStream, Head, whole_answer
from nsedge.web.doors.llama_server.bodies import (
    OTHERS,
    CompletionBody,
    InfillBody,
    WritingBody,
)
from nsedge.web.doors.llama_server.errors import error_body
from nsedge.web.doors.llama_server.ranking import rerank
from nsedge.web.doors.llama_server.requests import (
    gap_of,
    requests_of,
    sampling_of,
)
from nsedge.web.doors.llama_server.shapes import Completion, ErrorBody, Slot
from nsedge.web.errors import Refusal, Refused
from nsedge.web.prompt_fields import prompts_of, task_of


@needs(Scope.INFER)
@takes(CompletionBody, OTHERS)
@gives(Completion | list[Completion], stream=CompletionStream)
async def completion(http: web.Request) -> web.StreamResponse:
    """`POST /completion`; several prompts are answered by an array."""
    body = await read_json(http, CompletionBody, OTHERS)
    limits = http.app[ANSWERING].limits
    prompts = prompts_of(body.prompt, limits)
    wanted, held = sampling_of(body), constraint(body)
    if len(prompts) * wanted.n > limits.max_choices:
        times = "" if wanted.n == 1 else f", {wanted.n} answers to each,"
        raise InvalidParameter(
            f"{len(prompts)} prompts{times} are beyond the limit of {limits.max_choices}",
            param="prompt" if wanted.n == 1 else "n_cmpl",
        )
    tasks = [task_of(prompt, sampling=wanted, constraint=held) for prompt in prompts]
    alone = isinstance(body.prompt, str) or prompts == [tuple(body.prompt)]
    return await _write(http, body, tasks, alone=alone)


@needs(Scope.INFER)
@takes(InfillBody, OTHERS)
@gives(Completion, stream=CompletionStream)
async def infill(http: web.Request) -> web.StreamResponse:
    """`POST /infill`."""
    body = await read_json(http, InfillBody, OTHERS)
    task = gap_of(body, http.app[ANSWERING].limits)
    return await _write(http, body, [task], alone=True)


async def _write(
    http: web.Request, body: WritingBody, tasks: Sequence[Generate], *, alone: bool
) -> web.StreamResponse:
    answering = http.app[ANSWERING]
    with answering.label(http) as label:
        model = await answering.model(body.model)
        requests = requests_of(body, tasks, model=model.name, request_id=label)
        head = Head(
            model=model.name,
            sampling=tasks[0].sampling,
            prompts=[task.token_ids or task.text for task in tasks for _ in range(task.sampling.n)],
            tells_tokens=bool(body.return_tokens),
            fields=tuple(body.response_fields or ()),
        )
        if body.stream:
            encoder = CompletionStream(head)
            return await answering.stream(http, requests, encoder, chunk=body.chunk)
        answers = whole_answer(head, await answering.whole(http, requests))
    return json_answer(answers[0] if alone and len(answers) == 1 else answers)


class SlotsQuery(asked.ModelQuery, kw_only=True):
    """`?fail_on_no_slot=`, with any text, refuses where none is free."""

    fail_on_no_slot: str | None = None


@needs(Scope.READ)
@takes_query(SlotsQuery)
@gives(list[Slot])
async def slots(http: web.Request) -> web.Response:
    """`GET /slots`: of the model `?model=`, or of the one that a request without a name gets."""
    answering = http.app[ANSWERING]
    query = read_query(http, SlotsQuery)
    model = await answering.model(query.model)
    stats = await answering.ask(answering.service.stats())
    told = slots_of(model, stats.models.get(model.name))
    free = any(not slot["is_processing"] for slot in told)
    if query.fail_on_no_slot and not free:
        raise Refused(Refusal(code="not_ready", message="no slot is free", retryable=True))
    return json_answer(told)


def slots_of(model: ModelInfo, stats: ModelStats | None) -> list[Slot]:
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


RERANKING = ("/rerank", "/reranking")
DOOR = Door(
    name="llama-server",
    prefixes=(
        "/completion",
        "/completions",
        "/infill",
        "/tokenize",
        "/detokenize",
        "/props",
        "/slots",
        *RERANKING,
    ),
    routes=(
        web.post("/completion", completion),
        web.post("/completions", completion),
        web.post("/infill", infill),
        *asked.ROUTES,
        web.get("/slots", slots),
        *(web.post(path, rerank) for path in RERANKING),
    ),
    error_body=error_body,
    error_kind=ErrorBody,
)
