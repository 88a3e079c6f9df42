"""The chat service's routes for models in memory."""

from __future__ import annotations

from aiohttp import web

from nsedge.api import LoadWish, ModelInfo, ModelState
from nsedge.errors import InvalidParameter, NsedgeError, UnknownModel
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import Link, gives, json_answer, read_json, takes
from nsedge.web.doors.chat.bodies import LoadBody, UnloadBody
from nsedge.web.doors.chat.requests import OTHERS
from nsedge.web.doors.chat.shapes import LoadAnswer, LoadedModel, LoadedModels, UnloadAnswer


def _unload(place: str) -> Link:
    """What takes a model out of memory; `place` is that of its name in the answer."""
    return Link(name="unload", path="/models/unload", body={"model_key": place})


@needs(Scope.READ)
@gives(LoadedModels, links=(_unload("/models/0/model_key"),))
async def list_models(http: web.Request) -> web.Response:
    """`GET /models`: those that are loaded."""
    answering = http.app[ANSWERING]
    models = await answering.ask(answering.service.models())
    ready = [model for model in models if model.state is ModelState.READY]
    return json_answer(LoadedModels(models=[_told(model) for model in ready]))


@needs(Scope.MANAGE)
@takes(LoadBody, OTHERS)
@gives(LoadAnswer, links=(_unload("/model_key"),))
async def load(http: web.Request) -> web.Response:
    """`POST /models/load`: answers when the model is ready, or why it is not."""
    body = await read_json(http, LoadBody, OTHERS)
    wish = LoadWish(model=body.model_key, exclusive=body.exclusive)
    try:
        loaded = await http.app[ANSWERING].service.load(wish)
    except NsedgeError as error:
        why = f"Failed to load model: {_why(error)}"
        return json_answer(LoadAnswer(loaded=False, error=why, model_key=body.model_key))
    return json_answer(
        LoadAnswer(loaded=True, model_key=loaded.model.name, status=loaded.outcome.value)
    )


@needs(Scope.MANAGE)
@takes(UnloadBody, OTHERS)
@gives(UnloadAnswer)
async def unload(http: web.Request) -> web.Response:
    """`POST /models/unload`: one model, or all; answers when they have left."""
    body = await read_json(http, UnloadBody, OTHERS)
    if (body.model_key is None) != body.unload_all:
        raise InvalidParameter("name a model_key, or say unload_all: true", param="model_key")
    try:
        gone = await http.app[ANSWERING].service.unload(body.model_key)
    except NsedgeError as error:
        why = f"Failed to unload model: {_why(error)}"
        return json_answer(UnloadAnswer(unloaded=False, error=why))
    return json_answer(UnloadAnswer(unloaded=True, models=[model.name for model in gone]))


def _why(error: NsedgeError) -> str:
    return "Model not found" if isinstance(error, UnknownModel) else error.message


def _told(model: ModelInfo) -> LoadedModel:
    return {
        "model_key": model.name,
        "loaded": True,
        "kind": model.kind,
        "context_length": model.context_tokens,
        "aliases": model.aliases,
        "requests": model.in_use,
    }


ROUTES = (
    web.get("/models", list_models),
    web.post("/models/load", load),
    web.post("/models/unload", unload),
)
