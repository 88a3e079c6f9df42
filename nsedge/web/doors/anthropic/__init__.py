"""The Anthropic door: messages and their streams, to the letter, and the list of models."""

from __future__ import annotations

import re
import secrets

from aiohttp import web

from nsedge.api import PromptQuestion, Sampling
from nsedge.errors import InvalidRequest
from nsedge.security.keyring import Scope
from nsedge.web import http_guard
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import gives, json_answer, read_json, takes
from nsedge.web.door import Door, Shared
from nsedge.web.doors.anthropic.answers import Head, MessageStream, whole_answer
from nsedge.web.doors.anthropic.bodies import (
    COUNT_OTHERS,
    OTHERS,
    MessagesBody,
    PromptBody,
)
from nsedge.web.doors.anthropic.errors import error_body
from nsedge.web.doors.anthropic.models import list_models, show_model
from nsedge.web.doors.anthropic.requests import chat_of, messages_request
from nsedge.web.doors.anthropic.shapes import (
    ErrorBody,
    MessageObject,
    TokenCount,
)

VERSION_HEADER = "anthropic-version"
OLDEST = "2023-06-01"
"""The first version of the API with answers of this form."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@needs(Scope.INFER)
@takes(MessagesBody, OTHERS)
@gives(MessageObject, stream=MessageStream)
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
@takes(PromptBody, COUNT_OTHERS)
@gives(TokenCount)
async def count_tokens(http: web.Request) -> web.Response:
    """`POST /v1/messages/count_tokens`."""
    _check_version(http)
    answering = http.app[ANSWERING]
    body = await read_json(http, PromptBody, COUNT_OTHERS)
    chat = await answering.fetched(http, chat_of(body, Sampling(), answering.limits))
    read = await answering.service.read_prompt(PromptQuestion(model=body.model, task=chat))
    return json_answer(TokenCount(input_tokens=len(read.token_ids)))


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
    error_kind=ErrorBody,
    id_header="request-id",
)
