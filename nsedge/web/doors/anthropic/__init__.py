"""The Anthropic door: messages and their streams, to the letter, and the list of models."""

from __future__ import annotations

import datetime
import re
import secrets
from typing import Any

from aiohttp import web

from nsedge.api import ModelInfo, PromptQuestion, Sampling
from nsedge.errors import InvalidRequest
from nsedge.security.keyring import Scope
from nsedge.web import http_guard
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import json_answer, read_json, takes
from nsedge.web.door import Door, Shared
from nsedge.web.doors.anthropic.answers import Head, MessageStream, whole_answer
from nsedge.web.doors.anthropic.bodies import (
    COUNT_OTHERS,
    OTHERS,
    MessagesBody,
    PromptBody,
)
from nsedge.web.doors.anthropic.errors import error_body
from nsedge.web.doors.anthropic.requests import chat_of, messages_request

VERSION_HEADER = "anthropic-version"
OLDEST = "2023-06-01"
"""The first version of the API with answers of this form."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@needs(Scope.INFER)
@takes(MessagesBody)
async def messages(http: web.Request) -> web.StreamResponse:
    """`POST /v1/messages`."""
    _check_version(http)
    answering = http.app[ANSWERING]
    body = await read_json(http, MessagesBody, OTHERS)
    if body.thinking is not None and body.thinking.budget_tokens is not None:
        http[http_guard.IGNORED_FIELDS].append("thinking.budget_tokens")
    with answering.label(http) as label:
        request = messages_request(body, label, answering.limits)
        head = Head(
            id=f"msg_{secrets.token_hex(12)}",
            model=body.model,
            request_id=http[http_guard.REQUEST_ID],
        )
        if body.stream:
            return await answering.stream(http, [request], MessageStream(head))
        (choice,) = await answering.whole(http, [request])
    return json_answer(whole_answer(head, choice))


@needs(Scope.INFER)
@takes(PromptBody)
async def count_tokens(http: web.Request) -> web.Response:
    """`POST /v1/messages/count_tokens`."""
    _check_version(http)
    answering = http.app[ANSWERING]
    body = await read_json(http, PromptBody, COUNT_OTHERS)
    chat = chat_of(body, Sampling(), answering.limits)
    read = await answering.service.read_prompt(PromptQuestion(model=body.model, task=chat))
    return json_answer({"input_tokens": len(read.token_ids)})


@needs(Scope.READ)
async def list_models(http: web.Request) -> web.Response:
    """`GET /v1/models`, where the request has Anthropic's header; all in one page."""
    answering = http.app[ANSWERING]
    served = await answering.ask(answering.service.models())
    data = [model_object(one) for one in served]
    return json_answer(
        {
            "data": data,
            "has_more": False,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }
    )


@needs(Scope.READ)
async def show_model(http: web.Request) -> web.Response:
    """`GET /v1/models/{name}`, where the request has Anthropic's header."""
    return json_answer(model_object(await http.app[ANSWERING].model(http.match_info["name"])))


def model_object(model: ModelInfo) -> dict[str, Any]:
    """Anthropic's object of a model."""
    created = datetime.datetime.fromtimestamp(model.created, datetime.UTC)
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": model.context_tokens or None,
        "max_tokens": model.context_tokens or None,
    }


def _check_version(http: web.Request) -> None:
    """Raises InvalidRequest for a version of the API with another form of answers."""
    given = http.headers.get(VERSION_HEADER, OLDEST)
    if not _DATE.fullmatch(given) or given < OLDEST:
        raise InvalidRequest(f"{VERSION_HEADER} must be a date from {OLDEST} on, not {given!a}")


async def _claims(http: web.Request) -> bool:
    """Whether a request for models is ours: Anthropic's clients name a version with each."""
    return VERSION_HEADER in http.headers


DOOR = Door(
    name="anthropic",
    prefixes=("/v1/messages",),
    routes=(
        web.post("/v1/messages", messages),
        web.post("/v1/messages/count_tokens", count_tokens),
    ),
    shared=(
        Shared(route=web.get("/v1/models", list_models), claims=_claims),
        Shared(route=web.get("/v1/models/{name}", show_model), claims=_claims),
    ),
    error_body=error_body,
    id_header="request-id",
)
