"""OpenAI's responses: an answer by items, which a later request may go on from."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from aiohttp import web

from nsedge.api import MediaPart, Message, Result
from nsedge.errors import InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import CALLER, needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import Link, gives, json_answer, read_json, takes
from nsedge.web.doors.openai.errors import reworded
from nsedge.web.doors.openai.responses.answers import (
    Building,
    ResponseStream,
    answer_of,
    new_id,
    whole_answer,
)
from nsedge.web.doors.openai.responses.bodies import OTHERS, ResponsesBody
from nsedge.web.doors.openai.responses.requests import Asked, asked_of
from nsedge.web.doors.openai.responses.shapes import Deleted, InputItems, ResponseObject
from nsedge.web.doors.openai.responses.store import STORE, Kept, Store
from nsedge.web.errors import Refusal, Refused

UNKNOWN = "unknown_response"
_THIS = {"id": "/id"}
_PATH = "/v1/responses"
_LINKS = (
    Link(name="show", method="GET", path=f"{_PATH}/{{id}}", parameters=_THIS),
    Link(name="items", method="GET", path=f"{_PATH}/{{id}}/input_items", parameters=_THIS),
    Link(name="delete", method="DELETE", path=f"{_PATH}/{{id}}", parameters=_THIS),
    Link(name="continue", path=_PATH, body={"previous_response_id": "/id"}),
)


@needs(Scope.INFER)
@takes(ResponsesBody, OTHERS)
@gives(ResponseObject, stream=ResponseStream, links=_LINKS)
async def create(http: web.Request) -> web.StreamResponse:
    """`POST /v1/responses`."""
    answering = http.app[ANSWERING]
    body = await read_json(http, ResponsesBody, OTHERS)
    with answering.label(http) as label:
        try:
            asked = asked_of(body, _before(http, body), label, answering.limits)
            building = Building(id=new_id("resp"), created=int(time.time()), body=body)

            def keep(response: ResponseObject, results: tuple[Result, ...]) -> None:
                _keep(http, body, asked, response, results)

            if body.stream:
                encoder = ResponseStream(building, keep)
                return await answering.stream(http, [asked.request], encoder, chunk=body.chunk)
            (choice,) = await answering.whole(http, [asked.request])
        except Refused as error:
            raise Refused(reworded(error.refusal, "input")) from error
    response = whole_answer(building, choice.results, choice.finished)
    keep(response, choice.results)
    return json_answer(response)


@needs(Scope.READ)
@gives(ResponseObject, refuses=(UNKNOWN,), asks_core=False)
async def show(http: web.Request) -> web.Response:
    """`GET /v1/responses/{id}`."""
    return json_answer(_kept(http, http.match_info["id"]).response)


@needs(Scope.READ)
@gives(InputItems, refuses=(UNKNOWN,), asks_core=False)
async def input_items(http: web.Request) -> web.Response:
    """`GET /v1/responses/{id}/input_items`: all in one page."""
    items = _kept(http, http.match_info["id"]).items
    return json_answer(
        InputItems(
            object="list",
            data=items,
            first_id=items[0]["id"] if items else None,
            last_id=items[-1]["id"] if items else None,
            has_more=False,
        )
    )


@needs(Scope.INFER)
@gives(Deleted, refuses=(UNKNOWN,), asks_core=False)
async def delete(http: web.Request) -> web.Response:
    """`DELETE /v1/responses/{id}`."""
    label = http.match_info["id"]
    _kept(http, label)
    http.app[STORE].drop(label)
    return json_answer(Deleted(id=label, object="response", deleted=True))


def prepare(app: web.Application) -> None:
    """Give the application its store."""
    app[STORE] = Store(time.monotonic)


def _before(http: web.Request, body: ResponsesBody) -> tuple[Message, ...]:
    """The conversation that a body goes on from.

    Raises:
        InvalidParameter: it is not kept any more, or is somebody else's.
    """
    label = body.previous_response_id
    if label is None:
        return ()
    kept = _find(http, label)
    if kept is None:
        raise InvalidParameter(
            f"no response {label[:128]!a} is kept here", param="previous_response_id"
        )
    return tuple(map(_earlier, kept.messages))


def _earlier(message: Message) -> Message:
    """A message of a response before: its media are not in this body, but where that is named."""
    if isinstance(message.content, str):
        return message
    parts = tuple(
        replace(one, place="previous_response_id") if isinstance(one, MediaPart) else one
        for one in message.content
    )
    return replace(message, content=parts)


def _find(http: web.Request, label: str) -> Kept | None:
    for_s = http.app[ANSWERING].settings.responses_kept_s
    return http.app[STORE].find(label, http[CALLER], for_s=for_s)


def _kept(http: web.Request, label: str) -> Kept:
    kept = _find(http, label)
    if kept is None:
        message = f"no response {label[:128]!a} is kept here"
        raise Refused(Refusal(code=UNKNOWN, message=message, param="id"))
    return kept


def _keep(
    http: web.Request,
    body: ResponsesBody,
    asked: Asked,
    response: ResponseObject,
    results: tuple[Result, ...],
) -> None:
    if body.store is False:
        return
    settings, store = http.app[ANSWERING].settings, http.app[STORE]
    store.keep(
        Kept(
            caller=http[CALLER],
            response=response,
            items=_items(body),
            messages=(*asked.messages, answer_of(results)),
            since_s=store.now_s(),
        ),
        most=settings.responses_kept,
        for_s=settings.responses_kept_s,
    )


def _items(body: ResponsesBody) -> list[dict[str, Any]]:
    """What was asked with, as items with ids."""
    if isinstance(body.input, str):
        part = {"type": "input_text", "text": body.input}
        return [{"id": new_id("msg"), "type": "message", "role": "user", "content": [part]}]
    items = []
    for item in body.input:
        fields = {name: getattr(item, name) for name in item.__struct_fields__}
        told = {name: value for name, value in fields.items() if value is not None}
        items.append({"id": new_id("msg"), **told})
    return items


ROUTES = (
    web.post("/v1/responses", create),
    web.get("/v1/responses/{id}", show),
    web.delete("/v1/responses/{id}", delete),
    web.get("/v1/responses/{id}/input_items", input_items),
)
