"""The chat service: conversations with models by key, answered whole or as lines of JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from nsedge.api import Request
from nsedge.api.constraint import PARAM as CONSTRAINT
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING, Answering
from nsedge.web.bodies import gives, json_answer, read_json, takes
from nsedge.web.door import Door
from nsedge.web.doors.chat import models
from nsedge.web.doors.chat.bodies import ChatBody, Config
from nsedge.web.doors.chat.help import help_page
from nsedge.web.doors.chat.requests import (
    OTHERS,
    as_written,
    chat_request,
    check_messages,
    read_config,
)
from nsedge.web.doors.chat.shapes import ChatAnswer, ErrorBody
from nsedge.web.doors.chat.stream import FragmentStream, error_body, whole_answer
from nsedge.web.http_guard import IGNORED_FIELDS, name_field
from nsedge.web.sampling_fields import SamplingFields

Route = Callable[[web.Request], Awaitable[web.StreamResponse]]
Default = Callable[[Answering], str | None]
"""The model of a request that names none; None is the first that is ready."""

PARTS = {"config": Config}


def _any(answering: Answering) -> str | None:
    return None


def _regular(answering: Answering) -> str | None:
    return answering.settings.regular_model or None


def _vision(answering: Answering) -> str | None:
    return answering.settings.vision_model or _regular(answering)


def _whole(default: Default) -> Route:
    @needs(Scope.INFER)
    @takes(ChatBody, OTHERS, parts=PARTS)
    @gives(ChatAnswer)
    async def chat(http: web.Request) -> web.StreamResponse:
        answering = http.app[ANSWERING]
        with answering.label(http) as label:
            wanted, _ = await _request(http, label, default)
            (choice,) = await answering.whole(http, [wanted])
        return json_answer(whole_answer(wanted.model, choice))

    return chat


def _streamed(default: Default) -> Route:
    @needs(Scope.INFER)
    @takes(ChatBody, OTHERS, parts=PARTS)
    @gives(stream=FragmentStream)
    async def chat_stream(http: web.Request) -> web.StreamResponse:
        answering = http.app[ANSWERING]
        with answering.label(http) as label:
            wanted, config = await _request(http, label, default)
            encoder = FragmentStream(wanted.model)
            return await answering.stream(http, [wanted], encoder, chunk=config.chunk)

    return chat_stream


async def _request(
    http: web.Request, label: str, default: Default
) -> tuple[Request, SamplingFields]:
    """What the body asks for, and its `config`."""
    answering = http.app[ANSWERING]
    body = await read_json(http, ChatBody, OTHERS)
    check_messages(body, answering.limits)
    config, left_out = read_config(body, answering.limits)
    http[IGNORED_FIELDS] += left_out
    if field := config.constrained_by:
        name_field(http, CONSTRAINT, as_written(field))
    model = await answering.model(body.model_key or default(answering))
    return chat_request(body, config, model=model.name, label=label), config


DOOR = Door(
    name="chat",
    prefixes=("/chat", "/help", "/models"),
    routes=(
        web.get("/help", help_page),
        *models.ROUTES,
        *(
            route
            for path, default in (
                ("/chat", _any),
                ("/chat/regular", _regular),
                ("/chat/vision", _vision),
            )
            for route in (
                web.post(path, _whole(default)),
                web.post(f"{path}/stream", _streamed(default)),
            )
        ),
    ),
    error_body=error_body,
    error_kind=ErrorBody,
)
