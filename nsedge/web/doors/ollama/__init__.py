"""The Ollama door: the routes of its API that run models, and those that tell of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec
from aiohttp import web

from nsedge.api import LoadWish, ModelCard, ModelInfo, Request, Sampling
from nsedge.errors import InvalidParameter, UnknownModel
from nsedge.security.keyring import Scope
from nsedge.version import VERSION
from nsedge.web.access import API_KEY, needs
from nsedge.web.answering import ANSWERING, Answering
from nsedge.web.bodies import gives, json_answer, read, read_json, takes
from nsedge.web.choices import Choice
from nsedge.web.door import JSON, UNTYPED, Door, Shared
from nsedge.web.doors.ollama import models as told
from nsedge.web.doors.ollama.answers import (
    GENERATED,
    SAID,
    Carrier,
    Head,
    OllamaStream,
    embed_answer,
    embeddings_answer,
    error_body,
    moved,
    rfc3339,
    whole_answer,
)
from nsedge.web.doors.ollama.bodies import (
    OTHERS,
    ChatBody,
    EmbedBody,
    EmbeddingsBody,
    GenerateBody,
    OllamaBody,
    ShowBody,
)
from nsedge.web.doors.ollama.options import Options, read_options
from nsedge.web.doors.ollama.requests import (
    chat_request,
    embed_request,
    generate_request,
    keep_alive_s,
)
from nsedge.web.doors.ollama.shapes import (
    ChatAnswer,
    EmbedAnswer,
    EmbeddingAnswer,
    ErrorBody,
    GenerateAnswer,
    RunningTags,
    Shown,
    Tags,
    VersionAnswer,
)
from nsedge.web.errors import Refusal, Refused
from nsedge.web.http_guard import IGNORED_FIELDS
from nsedge.web.multipart import FORM

API_VERSION = "0.12.6"
"""The version of Ollama whose API this is; clients compare it."""
AT_ONCE = 16
"""Models whose packages are asked for together: the core bounds unanswered queries."""
NOT_HERE = "models are made by nsedge-export, not through this door"
_CARELESS = (
    "application/x-www-form-urlencoded",
    "text/plain",
    "application/octet-stream",
    UNTYPED,
)
"""What curl, fetch, aiohttp and httpx call a body where they are not told; Ollama does not look at
it."""
PARTS = {"options": Options}
AnyOllamaBody = GenerateBody | ChatBody
Make = Callable[[ModelInfo, Sampling, str], Request]
"""The request of a body for a model, by its sampling and under a label."""


@needs(Scope.INFER)
@takes(GenerateBody, OTHERS, parts=PARTS)
@gives(GenerateAnswer, stream=OllamaStream)
async def generate(http: web.Request) -> web.StreamResponse:
    """`POST /api/generate`."""
    body = await read_json(http, GenerateBody, OTHERS)
    if not body.prompt:
        return await _move(http, body, GENERATED)
    limits = http.app[ANSWERING].limits

    def make(model: ModelInfo, sampling: Sampling, label: str) -> Request:
        return generate_request(body, model, sampling, label, limits)

    return await _answer(http, body, make, GENERATED)


@needs(Scope.INFER)
@takes(ChatBody, OTHERS, parts=PARTS)
@gives(ChatAnswer, stream=OllamaStream)
async def chat(http: web.Request) -> web.StreamResponse:
    """`POST /api/chat`."""
    body = await read_json(http, ChatBody, OTHERS)
    if not body.messages:
        return await _move(http, body, SAID)
    limits = http.app[ANSWERING].limits

    def make(model: ModelInfo, sampling: Sampling, label: str) -> Request:
        return chat_request(body, model.name, sampling, label, limits)

    return await _answer(http, body, make, SAID)


@needs(Scope.INFER)
@takes(EmbedBody, OTHERS, parts=PARTS)
@gives(EmbedAnswer)
async def embed(http: web.Request) -> web.Response:
    """`POST /api/embed`."""
    body = await read_json(http, EmbedBody, OTHERS)
    head = _head(body)
    return json_answer(embed_answer(head, await _vectors(http, body)))


@needs(Scope.INFER)
@takes(EmbeddingsBody, OTHERS, parts=PARTS)
@gives(EmbeddingAnswer)
async def embeddings(http: web.Request) -> web.Response:
    """`POST /api/embeddings`."""
    body = await read_json(http, EmbeddingsBody, OTHERS)
    return json_answer(embeddings_answer(await _vectors(http, body)))


@needs(Scope.READ)
@gives(Tags)
async def tags(http: web.Request) -> web.Response:
    """`GET /api/tags`."""
    answering = http.app[ANSWERING]
    models = await answering.ask(answering.service.models())
    return json_answer(told.tags(models, await _cards(answering, models)))


@needs(Scope.READ)
@gives(RunningTags)
async def running(http: web.Request) -> web.Response:
    """`GET /api/ps`."""
    answering = http.app[ANSWERING]
    models = await answering.ask(answering.service.models())
    usage = await answering.ask(answering.service.usage())
    cards = await _cards(answering, models)
    return json_answer(told.running(models, cards, usage, time.time()))


@needs(Scope.READ)
@takes(ShowBody)
@gives(Shown)
async def show(http: web.Request) -> web.Response:
    """`POST /api/show`."""
    body = await read_json(http, ShowBody)
    name = body.model or body.name
    if name is None:
        raise InvalidParameter("model is missing", param="model")
    answering = http.app[ANSWERING]
    with _worded(name):
        model = await _model(http, name)
        card = await answering.ask(answering.service.describe(model.name))
    return json_answer(told.shown(model, card))


@needs(Scope.READ)
@gives(VersionAnswer, asks_core=False)
async def version(http: web.Request) -> web.Response:
    """`GET /api/version`."""
    return json_answer(VersionAnswer(version=API_VERSION, nsedge=VERSION))


@needs(Scope.READ)
@gives(refuses=("unknown_route",), asks_core=False)
async def not_here(http: web.Request) -> web.Response:
    """What changes the models on disk."""
    raise Refused(Refusal(code="unknown_route", message=f"{http.path}: {NOT_HERE}"))


async def _cards(answering: Answering, models: Sequence[ModelInfo]) -> told.Cards:
    """What is known of models; of one whose package cannot be read, nothing."""
    cards: dict[str, ModelCard] = {}
    for first in range(0, len(models), AT_ONCE):
        some = models[first : first + AT_ONCE]
        described = (answering.service.describe(one.name) for one in some)
        found = await answering.ask(asyncio.gather(*described, return_exceptions=True))
        told = zip(some, found, strict=True)
        cards |= {one.name: card for one, card in told if isinstance(card, ModelCard)}
    return cards


async def _answer(
    http: web.Request, body: AnyOllamaBody, make: Make, carrier: Carrier
) -> web.StreamResponse:
    answering, head = http.app[ANSWERING], _head(body)
    sampling, passed = read_options(
        msgspec.json.encode(body.options or {}),
        answering.limits.ignored_fields,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    http[IGNORED_FIELDS] = [*http[IGNORED_FIELDS], *passed]
    with answering.label(http) as label, _worded(body.model):
        request = make(await _model(http, body.model), sampling, label)
        if body.stream is not False:
            return await answering.stream(http, [request], OllamaStream(head, carrier))
        (choice,) = await answering.whole(http, [request])
    return json_answer(whole_answer(head, choice, carrier))


async def _vectors(http: web.Request, body: EmbedBody | EmbeddingsBody) -> Choice:
    answering = http.app[ANSWERING]
    with answering.label(http) as label, _worded(body.model):
        model = await _model(http, body.model)
        request = embed_request(body, model.name, label, answering.limits)
        (choice,) = await answering.whole(http, [request])
    return choice


async def _move(http: web.Request, body: AnyOllamaBody, carrier: Carrier) -> web.Response:
    """Load the model, or let it go: what a body asks for that says nothing.

    Raises:
        Forbidden: a key that may not do that at the operations door.
    """
    if (key := http.get(API_KEY)) is not None:
        key.caller.require(Scope.MANAGE)
    service, kept_s = http.app[ANSWERING].service, keep_alive_s(body)
    with _worded(body.model):
        model = await _model(http, body.model)
        if kept_s == 0:
            await service.unload(model.name)
            return json_answer(moved(_head(body), carrier, "unload"))
        await service.load(LoadWish(model=model.name, keep_alive_s=kept_s))
        return json_answer(moved(_head(body), carrier, "load"))


def _head(body: OllamaBody) -> Head:
    return Head(
        model=body.model,
        created_at=rfc3339(time.time()),
        clock=time.monotonic,
        began_s=time.monotonic(),
    )


async def _model(http: web.Request, name: str) -> ModelInfo:
    """The model of that name, with the tag that Ollama's clients add or without.

    Raises:
        UnknownModel: where there is none.
    """
    answering = http.app[ANSWERING]
    try:
        return await answering.model(name)
    except UnknownModel:
        bare = name.removesuffix(told.LATEST)
        if bare in ("", name):
            raise
        return await answering.model(bare)


@contextmanager
def _worded(name: str) -> Iterator[None]:
    """Word it as Ollama does where there is no model of that `name`: clients match it."""
    message = f"model '{name}' not found"
    try:
        yield
    except UnknownModel as error:
        raise UnknownModel(message, param="model") from error
    except Refused as error:
        if error.refusal.code != UnknownModel.code:
            raise
        raise Refused(replace(error.refusal, message=message)) from error


async def _claims(http: web.Request) -> bool:
    """Whether a body at `/api/generate` is ours: it names a model or a prompt, and no `text`, as
    the generate door's do."""
    if http.content_type == FORM:
        return False
    try:
        fields = msgspec.json.decode(await read(http), type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        return False
    return "text" not in fields and ("model" in fields or "prompt" in fields)


DOOR = Door(
    name="ollama",
    prefixes=(
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/api/tags",
        "/api/ps",
        "/api/show",
        "/api/version",
        "/api/pull",
        "/api/push",
        "/api/create",
        "/api/copy",
        "/api/delete",
        "/api/blobs",
    ),
    routes=(
        web.post("/api/chat", chat),
        web.post("/api/embed", embed),
        web.post("/api/embeddings", embeddings),
        web.get("/api/tags", tags),
        web.get("/api/ps", running),
        web.post("/api/show", show),
        web.get("/api/version", version),
        web.post("/api/pull", not_here),
        web.post("/api/push", not_here),
        web.post("/api/create", not_here),
        web.post("/api/copy", not_here),
        web.delete("/api/delete", not_here),
    ),
    shared=(Shared(route=web.post("/api/generate", generate), claims=_claims),),
    error_body=error_body,
    error_kind=ErrorBody,
    body_types=(JSON, *_CARELESS),
)
