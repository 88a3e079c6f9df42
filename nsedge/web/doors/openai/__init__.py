"""The OpenAI door, to the letter: chat and text completions, embeddings, transcripts, pictures,
models."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiohttp import web

from nsedge.api import PromptQuestion, Request
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import Link, gives, json_answer, read_json, takes
from nsedge.web.choices import Choice
from nsedge.web.door import JSON, Door
from nsedge.web.doors.openai import audio, images, realtime, responses
from nsedge.web.doors.openai.answers import (
    Head,
    best,
    chat_answer,
    completion_answer,
    model_object,
    usage_of_all,
)
from nsedge.web.doors.openai.bodies import ChatBody, CompletionBody, OpenAiBody, TemplateBody
from nsedge.web.doors.openai.embeddings import embeddings
from nsedge.web.doors.openai.errors import error_body, reworded
from nsedge.web.doors.openai.logprobs import Telling
from nsedge.web.doors.openai.requests import (
    CHAT_OTHERS,
    COMPLETION_OTHERS,
    chat_of,
    chat_requests,
    completion_requests,
    telling_of,
)
from nsedge.web.doors.openai.responses.store import STORE
from nsedge.web.doors.openai.shapes import (
    ChatCompletion,
    ErrorBody,
    ModelObject,
    ModelPage,
    TemplateAnswer,
    TextCompletion,
)
from nsedge.web.doors.openai.stream import ChatStream, CompletionStream, OpenAiStream
from nsedge.web.errors import Refusal, Refused
from nsedge.web.limits import WebLimits
from nsedge.web.multipart import FORM
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import check_scheduling

_MODEL = Link(
    name="show", method="GET", path="/v1/models/{name}", parameters={"name": "/data/0/id"}
)
AnyBody = TypeVar("AnyBody", ChatBody, CompletionBody)


@needs(Scope.READ)
@gives(ModelPage, links=(_MODEL,))
async def list_models(http: web.Request) -> web.Response:
    """`GET /v1/models`."""
    answering = http.app[ANSWERING]
    served = await answering.ask(answering.service.models())
    return json_answer(ModelPage(object="list", data=[model_object(one) for one in served]))


@needs(Scope.READ)
@gives(ModelObject)
async def show_model(http: web.Request) -> web.Response:
    """`GET /v1/models/{name}`."""
    return json_answer(model_object(await http.app[ANSWERING].model(http.match_info["name"])))


@needs(Scope.INFER)
@takes(ChatBody, CHAT_OTHERS)
@gives(ChatCompletion, stream=ChatStream)
async def chat_completions(http: web.Request) -> web.StreamResponse:
    """`POST /v1/chat/completions`."""
    return await _complete(http, _CHAT)


@needs(Scope.INFER)
@takes(CompletionBody, COMPLETION_OTHERS)
@gives(TextCompletion, stream=CompletionStream)
async def completions(http: web.Request) -> web.StreamResponse:
    """`POST /v1/completions`."""
    return await _complete(http, _COMPLETION)


@dataclass(frozen=True, kw_only=True)
class _Shape(Generic[AnyBody]):
    """What tells one route that completes from the other."""

    id_prefix: str
    body: type[AnyBody]
    others: OtherFields
    requests: Callable[[AnyBody, str, WebLimits], tuple[Request, ...]]
    stream: type[OpenAiStream]
    whole: Callable[[Head, Sequence[Choice], int, Telling], ChatCompletion | TextCompletion]


_CHAT = _Shape(
    id_prefix="chatcmpl",
    body=ChatBody,
    others=CHAT_OTHERS,
    requests=chat_requests,
    stream=ChatStream,
    whole=chat_answer,
)
_COMPLETION = _Shape(
    id_prefix="cmpl",
    body=CompletionBody,
    others=COMPLETION_OTHERS,
    requests=completion_requests,
    stream=CompletionStream,
    whole=completion_answer,
)


async def _complete(http: web.Request, shape: _Shape[AnyBody]) -> web.StreamResponse:
    answering = http.app[ANSWERING]
    body = await read_json(http, shape.body, shape.others)
    with answering.label(http) as label:
        requests = shape.requests(body, label, answering.limits)
        n, tried = body.n or 1, requests[0].choices
        head = Head(
            id=f"{shape.id_prefix}-{secrets.token_hex(16)}",
            created=int(time.time()),
            model=body.model,
        )
        telling = telling_of(body)
        try:
            if not body.stream and tried > n:
                outcomes = await answering.each(http, requests)
                answer = shape.whole(head, best(outcomes, n, tried), n, telling)
                answer["usage"] = usage_of_all(outcomes, tried)
                return json_answer(answer)
            if not body.stream:
                choices = await answering.whole(http, requests)
                return json_answer(shape.whole(head, choices, n, telling))
            encoder = shape.stream(
                head,
                choices=n * len(requests),
                per_prompt=n,
                usage=_wants_usage(body),
                telling=telling,
            )
            return await answering.stream(http, requests, encoder, chunk=body.chunk)
        except Refused as error:
            raise Refused(reworded(error.refusal, shape.stream.prompt)) from error


@needs(Scope.INFER)
@gives(refuses=("unknown_route",), asks_core=False)
async def moderations(http: web.Request) -> web.Response:
    """`POST /v1/moderations`."""
    message = "no model here judges texts: there are no moderations"
    raise Refused(Refusal(code="unknown_route", message=message))


@needs(Scope.INFER)
@takes(TemplateBody, CHAT_OTHERS)
@gives(TemplateAnswer)
async def apply_template(http: web.Request) -> web.Response:
    """`POST /apply-template`, llama.cpp's: the prompt that a chat completion would be read as."""
    answering = http.app[ANSWERING]
    body = await read_json(http, TemplateBody, CHAT_OTHERS)
    check_scheduling(body)
    chat = await answering.fetched(http, chat_of(body, answering.limits))
    model = await answering.model(body.model)
    read = await answering.service.read_prompt(PromptQuestion(model=model.name, task=chat))
    return json_answer(TemplateAnswer(prompt=read.text))


def _wants_usage(body: OpenAiBody) -> bool:
    return body.stream_options is not None and bool(body.stream_options.include_usage)


DOOR = Door(
    name="openai",
    prefixes=("/v1", "/apply-template"),
    routes=(
        web.get("/v1/models", list_models),
        web.get("/v1/models/{name}", show_model),
        web.post("/v1/chat/completions", chat_completions),
        web.post("/v1/completions", completions),
        web.post("/v1/embeddings", embeddings),
        web.post("/apply-template", apply_template),
        web.post("/v1/moderations", moderations),
        *responses.ROUTES,
        *audio.ROUTES,
        *images.ROUTES,
        *realtime.ROUTES,
    ),
    error_body=error_body,
    body_types=(JSON, FORM),
    error_kind=ErrorBody,
    opens=responses.prepare,
    keeps=(STORE,),
)
