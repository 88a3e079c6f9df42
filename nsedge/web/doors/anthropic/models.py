"""The list of models as Anthropic's clients ask for it, page by page."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from aiohttp import web

from nsedge.api import ModelInfo
from nsedge.errors import InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import gives, json_answer
from nsedge.web.doors.anthropic.shapes import ModelObject, ModelPage

USUAL_LIMIT = 20
"""Models of a page where the request says nothing else."""
MAX_LIMIT = 1000


@needs(Scope.READ)
@gives(ModelPage)
async def list_models(http: web.Request) -> web.Response:
    """`GET /v1/models`, where the request has Anthropic's header."""
    answering = http.app[ANSWERING]
    served = await answering.ask(answering.service.models())
    return json_answer(page_of(served, http.query))


@needs(Scope.READ)
@gives(ModelObject)
async def show_model(http: web.Request) -> web.Response:
    """`GET /v1/models/{name}`, where the request has Anthropic's header."""
    return json_answer(model_object(await http.app[ANSWERING].model(http.match_info["name"])))


def page_of(models: Sequence[ModelInfo], query: Mapping[str, str]) -> ModelPage:
    """The page of `models` that a query asks for; `has_more` tells of the way that it goes.

    Raises:
        InvalidParameter: naming the part of the query and what is wrong with it.
    """
    limit = _limit(query.get("limit"))
    names = [one.name for one in models]
    after, before = (_place(names, query, name) for name in ("after_id", "before_id"))
    if after is not None and before is not None:
        raise InvalidParameter("after_id and before_id exclude each other", param="before_id")
    if before is None:
        first = 0 if after is None else after + 1
        last = min(first + limit, len(models))
        has_more = last < len(models)
    else:
        first, last = max(before - limit, 0), before
        has_more = first > 0
    data = [model_object(one) for one in models[first:last]]
    return {
        "data": data,
        "has_more": has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def model_object(model: ModelInfo) -> ModelObject:
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


def _limit(given: str | None) -> int:
    if given is None:
        return USUAL_LIMIT
    digits = given.isascii() and given.isdigit() and len(given) <= len(str(MAX_LIMIT))
    if not digits or not 1 <= int(given) <= MAX_LIMIT:
        raise InvalidParameter(
            f"limit must be a number from 1 to {MAX_LIMIT}, not {given[:64]!a}", param="limit"
        )
    return int(given)


def _place(names: Sequence[str], query: Mapping[str, str], param: str) -> int | None:
    """Where the model stands that a query names."""
    given = query.get(param)
    if given is None:
        return None
    try:
        return names.index(given)
    except ValueError:
        raise InvalidParameter(f"{param}: no model {given[:64]!a} is served", param=param) from None
