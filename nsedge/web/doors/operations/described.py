"""Routes that say what can be called: an OpenAPI document, and a plain page of it."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator
from typing import Any, TypedDict

from aiohttp import web

from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import gives, json_answer
from nsedge.web.door import DOORS
from nsedge.web.openapi import document

_STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:60em;padding:0 1em}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;"
    "padding:.3em .6em;text-align:left;vertical-align:top}code{white-space:nowrap}"
)
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"


class OpenApi(TypedDict):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    tags: list[Any]
    paths: dict[str, Any]
    components: dict[str, Any]


@needs(Scope.READ)
@gives(OpenApi, asks_core=False)
async def openapi(http: web.Request) -> web.Response:
    """`GET /openapi.json`: the doors at this address, as OpenAPI 3.1."""
    return json_answer(_document(http))


@needs(Scope.READ)
@gives(pages=("text/html",), asks_core=False)
async def page(http: web.Request) -> web.Response:
    """`GET /docs`: the same as a page to read."""
    return web.Response(
        body="".join(_page(_document(http))).encode(),
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"},
    )


ROUTES = (
    web.get("/openapi.json", openapi),
    web.get("/docs", page),
)


def _document(http: web.Request) -> dict[str, Any]:
    doors = http.app[DOORS]
    return document(doors, keys=http.app[ANSWERING].keys is not None)


def _page(told: dict[str, Any]) -> Iterator[str]:
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>nsedge</title><style>{_STYLE}"
    yield f"</style><h1>nsedge {html.escape(told['info']['version'])}</h1>"
    yield "<p>Types of all fields: <a href=openapi.json>openapi.json</a>.</p>"
    for tag in told["tags"]:
        yield f"<h2>{html.escape(tag['name'])}</h2><p>{html.escape(tag['description'])}</p>"
        yield "<table><tr><th>route<th>answers<th>fields</tr>"
        for path, methods in told["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield _row(told, method, path, operation)
        yield "</table>"


def _row(told: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    fields = ", ".join(f"<code>{html.escape(name)}</code>" for name in _fields(told, operation))
    route = html.escape(f"{method.upper()} {path}")
    return f"<tr><td><code>{route}</code><td>{html.escape(operation['summary'])}<td>{fields}</tr>"


def _fields(told: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    """The names of all fields of a body, those that are required first."""
    content = operation.get("requestBody", {"content": {}})["content"]
    names: dict[str, None] = {}
    for schema in (one["schema"] for one in content.values()):
        for one in schema.get("anyOf") or schema.get("allOf") or [schema]:
            name = one.get("$ref", "").rpartition("/")[2]
            kind = told["components"]["schemas"].get(name, one)
            names |= dict.fromkeys([*kind.get("required", []), *kind.get("properties", {})])
    return list(names)
