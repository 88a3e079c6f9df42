"""`GET /help`: the chat service's endpoints, each with an example."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from nsedge.security.keyring import Scope
from nsedge.version import VERSION
from nsedge.web.access import needs
from nsedge.web.bodies import gives, json_answer
from nsedge.web.doors.chat.shapes import Endpoint, Help

_SAID = {"messages": [{"role": "user", "content": "Name three rivers."}]}
_KEYED = {"model_key": "smollm2-135m-instruct", **_SAID, "config": {"maxTokens": 64}}
_SEEN: dict[str, Any] = {
    "messages": [
        {
            "role": "user",
            "content": "What is this?",
            "images": [{"data_base64": "...", "mime_type": "image/png"}],
        }
    ]
}
ENDPOINTS: tuple[tuple[str, str, str, dict[str, Any] | None], ...] = (
    ("GET", "/health", "whether requests are taken", None),
    ("GET", "/help", "this page", None),
    ("GET", "/models", "the models that are loaded", None),
    ("POST", "/models/load", "loads a model", {"model_key": "smollm2-135m-instruct"}),
    ("POST", "/models/unload", "unloads one model, or all", {"unload_all": True}),
    ("POST", "/chat", "an answer of any model", _KEYED),
    ("POST", "/chat/stream", "the same as lines of JSON", _KEYED),
    ("POST", "/chat/regular", "an answer of the default text model", _SAID),
    ("POST", "/chat/regular/stream", "the same as lines of JSON", _SAID),
    ("POST", "/chat/vision", "an answer of the default vision model", _SEEN),
    ("POST", "/chat/vision/stream", "the same as lines of JSON", _SEEN),
)
"""Method, path, meaning, and a body as an example."""


@needs(Scope.READ)
@gives(Help, asks_core=False)
async def help_page(http: web.Request) -> web.Response:
    """`GET /help`."""
    endpoints = [
        Endpoint(method=method, path=path, description=meaning, example=example)
        for method, path, meaning, example in ENDPOINTS
    ]
    return json_answer(Help(name="nsedge", version=VERSION, endpoints=endpoints))
