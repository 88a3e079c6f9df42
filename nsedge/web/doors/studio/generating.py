"""The studio's routes that generate: one idea as a stream, several as a batch, an ensemble."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from aiohttp import web

from nsedge.api import Finished, ModelInfo, Request, Sampling
from nsedge.errors import EmptyPrompt, InvalidParameter, NsedgeError
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.adaptations import Adaptation
from nsedge.web.answering import ANSWERING, Answering
from nsedge.web.bodies import Link, gives, json_answer, read_json, takes
from nsedge.web.choices import Choice
from nsedge.web.constraint_fields import constraint
from nsedge.web.doors.studio.batch import (
    Answer,
    BatchStream,
    Outcome,
    Plan,
    answer_of,
    idea_of,
    likeliest,
    voted,
)
from nsedge.web.doors.studio.bodies import (
    GENERAL,
    OTHERS,
    BatchBody,
    EnsembleBody,
    IdeaBody,
    StudioBody,
)
from nsedge.web.doors.studio.prompts import sampling_of, task_of
from nsedge.web.doors.studio.shapes import BatchAnswer, EnsembleAnswer, Verdict
from nsedge.web.doors.studio.stream import IdeaStream
from nsedge.web.doors.studio.studio import STUDIO, Studio, new_id
from nsedge.web.errors import Refusal
from nsedge.web.framing import SSE
from nsedge.web.request_fields import check_length, check_scheduling, scheduling

_RATE = Link(
    name="rate", path="/api/v1/ideas/{idea_id}/rating", parameters={"idea_id": "/ideas/0/id"}
)


@needs(Scope.INFER)
@takes(IdeaBody, OTHERS)
@gives(stream=IdeaStream)
async def generate_stream(http: web.Request) -> web.StreamResponse:
    """`POST /api/v1/generate/stream`: one idea."""
    answering, studio = http.app[ANSWERING], http.app[STUDIO]
    body = await read_json(http, IdeaBody, OTHERS)
    check_length(len(body.prompt), answering.limits, "prompt")
    sampled = sampling_of(body)
    model = await answering.model(body.model)
    idea_id, category = new_id(), body.category or GENERAL

    def ended_well(finished: Finished) -> None:
        tokens = finished.usage.completion_tokens
        studio.answered(idea_id, category=category, model=model.name, tokens=tokens)

    with answering.label(http) as label, studio.session():
        wanted = _asked(body, body.prompt, model, sampled, label=label, answering=answering)
        expected = studio.expected_tokens(model.name, sampled.max_tokens)
        encoder = IdeaStream(idea_id, expected_tokens=expected, ended_well=ended_well)
        return await answering.stream(http, [wanted], encoder, chunk=body.chunk)


@needs(Scope.INFER)
@takes(BatchBody, OTHERS)
@gives(BatchAnswer, stream=BatchStream, links=(_RATE,))
async def generate_batch(http: web.Request) -> web.StreamResponse:
    """`POST /api/v1/generate/batch`: each prompt by each model, at once or in turn."""
    body = await read_json(http, BatchBody, OTHERS)
    parallel = body.parallel is not False
    http.app[STUDIO].batches["parallel_batch" if parallel else "model_batch"] += 1
    names: Sequence[str | None] = body.models or [None]
    gathering = _Gathering(http, body, at_once=None if parallel else 1)
    return await gathering.answer([(prompt, name) for prompt in body.prompts for name in names])


@needs(Scope.INFER)
@takes(EnsembleBody, OTHERS)
@gives(EnsembleAnswer, stream=BatchStream, links=(_RATE,))
async def generate_ensemble(http: web.Request) -> web.StreamResponse:
    """`POST /api/v1/generate/ensemble`: one prompt by several models, and what `mode` says."""
    body = await read_json(http, EnsembleBody, OTHERS)
    gathering = _Gathering(http, body, mode=body.mode)
    return await gathering.answer([(body.prompt, name) for name in body.models])


class _Gathering:
    """Has several ideas generated, and gives them in one answer, or tells them one by one to a
    client that accepts a stream of events."""

    def __init__(
        self,
        http: web.Request,
        body: StudioBody,
        *,
        at_once: int | None = None,
        mode: str | None = None,
    ) -> None:
        self._http, self._body = http, body
        self._at_once, self._mode = at_once, mode
        self._answering: Answering = http.app[ANSWERING]
        self._studio: Studio = http.app[STUDIO]
        self._began_s = time.monotonic()
        self._plans: list[Plan] = []

    async def answer(self, wanted: Sequence[tuple[str, str | None]]) -> web.StreamResponse:
        """The answer to prompts, each for a model.

        Raises:
            InvalidParameter: too many, or a field of all that cannot be.
        """
        limits, http = self._answering.limits, self._http
        if len(wanted) > limits.max_choices:
            raise InvalidParameter(
                f"prompts x models must be at most {limits.max_choices}, not {len(wanted)}",
                param="prompts",
            )
        check_length(sum(len(prompt) for prompt, _ in wanted), limits, "prompts")
        with self._answering.label(http) as label:
            await self._plan(wanted, label)
            requests = [plan.asked for plan in self._plans if isinstance(plan.asked, Request)]
            if "text/event-stream" not in http.headers.get("Accept", ""):
                outcomes = await self._answering.each(http, requests, at_once=self._at_once)
                return json_answer(self._gather(self._all_of(outcomes)))
            encoder = BatchStream(self._plans, there=self._there, gather=self._gather)
            if not requests:
                told = encoder.encode([])
                return web.Response(body=told, headers={"Content-Type": SSE.content_type})
            with self._studio.session():
                return await self._answering.stream(
                    http, requests, encoder, at_once=self._at_once, apart=True
                )

    async def _plan(self, wanted: Iterable[tuple[str, str | None]], label: str) -> None:
        sampled = sampling_of(self._body, logprobs=0 if self._mode == "best" else None)
        # What cannot be is of all prompts, and is refused though none may come to be asked.
        constraint(self._body)
        check_scheduling(self._body)
        found: dict[str | None, ModelInfo | Refusal] = {}
        category = self._body.category or GENERAL
        for number, (prompt, name) in enumerate(wanted):
            if name not in found:
                found[name] = await self._model(name)
            model = found[name]
            asked: Request | Refusal
            if isinstance(model, Refusal):
                asked, used = model, name or ""
            else:
                asked, used = self._request(prompt, model, sampled, f"{label}/{number}"), model.name
            plan = Plan(idea_id=new_id(), category=category, model=used, asked=asked)
            self._plans.append(plan)

    async def _model(self, name: str | None) -> ModelInfo | Refusal:
        """Raises what it does of a model that nobody named: then there is none for any prompt."""
        try:
            return await self._answering.model(name)
        except NsedgeError as error:
            if name is None:
                raise
            return Refusal.of(error)

    def _request(
        self, prompt: str, model: ModelInfo, sampled: Sampling, label: str
    ) -> Request | Refusal:
        body, answering = self._body, self._answering
        try:
            return _asked(body, prompt, model, sampled, label=label, answering=answering)
        except EmptyPrompt as error:
            return Refusal.of(error)

    def _all_of(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """With what could not be asked at all, in the order of the plans."""
        came = iter(outcomes)
        whole = [
            plan.asked if isinstance(plan.asked, Refusal) else next(came) for plan in self._plans
        ]
        for plan, outcome in zip(self._plans, whole, strict=True):
            if isinstance(outcome, Choice):
                self._there(plan, outcome)
        return whole

    def _there(self, plan: Plan, choice: Choice) -> None:
        self._studio.answered(
            plan.idea_id,
            category=plan.category,
            model=plan.model,
            tokens=choice.finished.usage.completion_tokens,
        )

    def _gather(self, outcomes: list[Outcome]) -> Answer:
        ideas = [
            idea_of(plan, outcome) for plan, outcome in zip(self._plans, outcomes, strict=True)
        ]
        answer = answer_of(ideas, time.monotonic() - self._began_s)
        if self._mode is None:
            return answer
        verdict: Verdict = {}
        if self._mode == "vote":
            verdict["chosen"], verdict["votes"] = voted(ideas)
        elif self._mode == "best":
            verdict["chosen"] = likeliest(ideas, outcomes)
        return EnsembleAnswer(**answer, mode=self._mode, **verdict)


def _asked(
    body: StudioBody,
    prompt: str,
    model: ModelInfo,
    sampled: Sampling,
    *,
    label: str,
    answering: Answering,
) -> Request:
    """Raises EmptyPrompt, and InvalidParameter for a field that cannot be."""
    if not prompt:
        raise EmptyPrompt("prompt is empty", param="prompt")
    file = answering.settings.adaptations
    adaptations: Mapping[str, Adaptation] = {} if file is None else file.value()
    wanted = Request(
        request_id=label,
        model=model.name,
        task=task_of(prompt, body, model, sampled, adaptations),
        **scheduling(body),
    )
    wanted.check()
    return wanted


ROUTES = (
    web.post("/api/v1/generate/stream", generate_stream),
    web.post("/api/v1/generate/batch", generate_batch),
    web.post("/api/v1/generate/ensemble", generate_ensemble),
)
