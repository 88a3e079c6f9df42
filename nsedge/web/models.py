"""Routes for the models in memory: what is there, what should be, and how all are used."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from nsedge.api import LoadWish
from nsedge.api.models import keep_alive_of
from nsedge.errors import InvalidParameter, NsedgeError
from nsedge.security.keyring import Scope
from nsedge.web import http_guard, schema
from nsedge.web.access import needs
from nsedge.web.answers import ANSWERING, json_answer
from nsedge.web.openai import priority_of


@needs(Scope.READ)
async def list_models(request: web.Request) -> web.Response:
    """`GET /api/models`: every model with its state and what it holds."""
    answering = request.app[ANSWERING]
    stats = await answering.ask(answering.service.stats())
    models = await answering.ask(answering.service.models())
    return json_answer({"models": models, "residency": stats.residency})


@needs(Scope.READ)
async def usage(request: web.Request) -> web.Response:
    """`GET /api/models/usage`: how models have been used, and which are worth loading."""
    answering = request.app[ANSWERING]
    return json_answer(_plain(await answering.ask(answering.service.usage())))


@needs(Scope.MANAGE)
async def load(request: web.Request) -> web.Response:
    """`POST /api/models/load`: answers when the model is ready, or with `wait: false` at once."""
    body = await _body(request, schema.LoadBody)
    wish = LoadWish(
        model=body.model,
        priority=priority_of(body.priority),
        keep_alive_s=None if body.keep_alive is None else keep_alive_of(body.keep_alive),
        pin=body.pin,
        exclusive=body.exclusive,
        wait=body.wait,
    )
    # A load takes as long as it takes: no limit of the shim's own.
    return json_answer(_plain(await request.app[ANSWERING].service.load(wish)))


@needs(Scope.MANAGE)
async def preload(request: web.Request) -> web.Response:
    """`POST /api/models/preload`: several, each with its own result."""
    body = await _body(request, schema.PreloadBody)
    priority = priority_of(body.priority)
    service = request.app[ANSWERING].service

    async def one(name: str) -> dict[str, Any]:
        try:
            result = await service.load(LoadWish(model=name, priority=priority))
        except NsedgeError as error:
            return {"model": name, "outcome": "failed", "code": error.code, "error": error.message}
        return {"model": name, "outcome": result.outcome.value}

    results = await asyncio.gather(*map(one, body.models))
    return json_answer({"results": results, "priority": priority.value})


@needs(Scope.MANAGE)
async def unload(request: web.Request) -> web.Response:
    """`POST /api/models/unload`: one model, or all; answers when they have left."""
    body = await _body(request, schema.UnloadBody)
    if (body.model is None) != body.all:
        raise InvalidParameter("name a model, or say all: true", param="model")
    gone = await request.app[ANSWERING].service.unload(body.model, drain_s=body.drain_s)
    return json_answer({"unloaded": [model.name for model in gone]})


@needs(Scope.MANAGE)
async def reload(request: web.Request) -> web.Response:
    """`POST /api/models/reload`: reads a bundle anew; what runs ends on the old one."""
    body = await _body(request, schema.ReloadBody)
    return json_answer({"model": await request.app[ANSWERING].service.reload(body.model)})


@needs(Scope.MANAGE)
async def alias(request: web.Request) -> web.Response:
    """`POST /api/models/alias`: a further name for a model, kept over restarts."""
    body = await _body(request, schema.AliasBody)
    named = await request.app[ANSWERING].service.alias(body.alias, body.model)
    return json_answer({"alias": body.alias, "model": None if named is None else named.name})


ROUTES = (
    web.get("/api/models", list_models),
    web.get("/api/models/usage", usage),
    web.post("/api/models/load", load),
    web.post("/api/models/preload", preload),
    web.post("/api/models/unload", unload),
    web.post("/api/models/reload", reload),
    web.post("/api/models/alias", alias),
)


async def _body(request: web.Request, kind: type[schema.Body]) -> schema.Body:
    return schema.decode(await http_guard.read_json(request, request.app[ANSWERING].limits), kind)


def _plain(value: object) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(value)
    return fields
