"""Routes for the models in memory: what is there, what should be, and how all are used."""

from __future__ import annotations

import asyncio
from typing import Annotated, ClassVar, NotRequired, TypedDict

import msgspec
from aiohttp import web
from msgspec import Meta

from nsedge.api import LoadResult, LoadWish, ModelInfo, ResidencyStats, UsageReport
from nsedge.api.models import MAX_DRAIN_S, keep_alive_of
from nsedge.errors import InvalidParameter, NsedgeError
from nsedge.printable import PRINTABLE_IN_JSON
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import Link, ModelName, gives, json_answer, read_json, takes
from nsedge.web.hints import Rules, between, hint
from nsedge.web.request_fields import KeepAlive, PriorityField, priority_of


class LoadBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/models/load`."""

    model: ModelName
    priority: PriorityField | None = None
    keep_alive: KeepAlive | None = None
    pin: bool | None = None
    exclusive: bool = False
    wait: bool = True


class PreloadBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/models/preload`."""

    models: Annotated[list[ModelName], Meta(min_length=1, max_length=64)]
    priority: PriorityField | None = None


class UnloadBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/models/unload`: one model, or all."""

    rules: ClassVar[Rules] = (
        {
            "oneOf": [
                {"required": ["model"], "properties": {"model": {"type": "string"}}},
                {"required": ["all"], "properties": {"all": {"const": True}}},
            ]
        },
    )
    model: ModelName | None = None
    all: bool = False
    drain_s: Annotated[float, between((0, MAX_DRAIN_S))] | None = None


class ReloadBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/models/reload`."""

    model: ModelName


class AliasBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/models/alias`; without a model the alias is taken away."""

    alias: Annotated[ModelName, hint(pattern=PRINTABLE_IN_JSON)]
    model: ModelName | None = None


class ModelList(TypedDict):
    """Models with their states, and memory in all."""

    models: tuple[ModelInfo, ...]
    residency: ResidencyStats | None


class Preloaded(TypedDict):
    """What came of a wish to load. code: of docs/errors.md, where the outcome is `failed`."""

    model: str
    outcome: str
    code: NotRequired[str]
    error: NotRequired[str]


class PreloadAnswer(TypedDict):
    """A result for each model, in their order."""

    results: list[Preloaded]
    priority: str


class UnloadAnswer(TypedDict):
    """The names of the models that left."""

    unloaded: list[str]


class ReloadAnswer(TypedDict):
    """The model as it is now."""

    model: ModelInfo


class AliasAnswer(TypedDict):
    """What the name stands for now, if anything. unkept: why it does not outlast the daemon."""

    alias: str
    model: str | None
    unkept: str | None


_LINKS = tuple(
    Link(name=name, path=f"/api/models/{name}", body={"model": "/model/name"})
    for name in ("load", "reload", "unload", "alias")
)
_OF_ALIAS = tuple(
    Link(name=name, path=f"/api/models/{name}", body={"model": "/alias"})
    for name in ("load", "unload")
)


@needs(Scope.READ)
@gives(ModelList)
async def list_models(http: web.Request) -> web.Response:
    """`GET /api/models`: every model with its state and what it holds."""
    answering = http.app[ANSWERING]
    stats = await answering.ask(answering.service.stats())
    models = await answering.ask(answering.service.models())
    return json_answer(ModelList(models=models, residency=stats.residency))


@needs(Scope.READ)
@gives(UsageReport)
async def usage(http: web.Request) -> web.Response:
    """`GET /api/models/usage`: how models have been used, and which are worth loading."""
    answering = http.app[ANSWERING]
    return json_answer(await answering.ask(answering.service.usage()))


@needs(Scope.MANAGE)
@takes(LoadBody)
@gives(LoadResult, links=_LINKS)
async def load(http: web.Request) -> web.Response:
    """`POST /api/models/load`: answers when the model is ready, or with `wait: false` at once."""
    body = await read_json(http, LoadBody)
    wish = LoadWish(
        model=body.model,
        priority=priority_of(body.priority),
        keep_alive_s=None if body.keep_alive is None else keep_alive_of(body.keep_alive),
        pin=body.pin,
        exclusive=body.exclusive,
        wait=body.wait,
    )
    # A load takes as long as it takes: no limit of the shim's own.
    return json_answer(await http.app[ANSWERING].service.load(wish))


@needs(Scope.MANAGE)
@takes(PreloadBody)
@gives(PreloadAnswer)
async def preload(http: web.Request) -> web.Response:
    """`POST /api/models/preload`: several, each with its own result."""
    body = await read_json(http, PreloadBody)
    priority = priority_of(body.priority)
    service = http.app[ANSWERING].service

    async def one(name: str) -> Preloaded:
        try:
            result = await service.load(LoadWish(model=name, priority=priority))
        except NsedgeError as error:
            return {"model": name, "outcome": "failed", "code": error.code, "error": error.message}
        return {"model": name, "outcome": result.outcome.value}

    results = await asyncio.gather(*map(one, body.models))
    return json_answer(PreloadAnswer(results=results, priority=priority.value))


@needs(Scope.MANAGE)
@takes(UnloadBody)
@gives(UnloadAnswer)
async def unload(http: web.Request) -> web.Response:
    """`POST /api/models/unload`: one model, or all; answers when they have left."""
    body = await read_json(http, UnloadBody)
    if (body.model is None) != body.all:
        raise InvalidParameter("name a model, or say all: true", param="model")
    gone = await http.app[ANSWERING].service.unload(body.model, drain_s=body.drain_s)
    return json_answer(UnloadAnswer(unloaded=[model.name for model in gone]))


@needs(Scope.MANAGE)
@takes(ReloadBody)
@gives(ReloadAnswer)
async def reload(http: web.Request) -> web.Response:
    """`POST /api/models/reload`: reads a bundle anew; what runs ends on the old one."""
    body = await read_json(http, ReloadBody)
    model = await http.app[ANSWERING].service.reload(body.model)
    return json_answer(ReloadAnswer(model=model))


@needs(Scope.MANAGE)
@takes(AliasBody)
@gives(AliasAnswer, links=_OF_ALIAS)
async def alias(http: web.Request) -> web.Response:
    """`POST /api/models/alias`: a further name for a model, kept over restarts."""
    body = await read_json(http, AliasBody)
    result = await http.app[ANSWERING].service.alias(body.alias, body.model)
    model = None if result.model is None else result.model.name
    return json_answer(AliasAnswer(alias=body.alias, model=model, unkept=result.unkept))


ROUTES = (
    web.get("/api/models", list_models),
    web.get("/api/models/usage", usage),
    web.post("/api/models/load", load),
    web.post("/api/models/preload", preload),
    web.post("/api/models/unload", unload),
    web.post("/api/models/reload", reload),
    web.post("/api/models/alias", alias),
)
