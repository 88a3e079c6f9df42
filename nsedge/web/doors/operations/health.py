"""Routes that say what is here."""

from __future__ import annotations

from typing import TypedDict

from aiohttp import web

from nsedge.security.keyring import Scope
from nsedge.version import VERSION
from nsedge.web import probes
from nsedge.web.access import needs
from nsedge.web.bodies import gives, json_answer


class Index(TypedDict):
    """What runs here, and its routes: a method and a path each."""

    name: str
    version: str
    routes: list[str]


@needs(Scope.READ)
@gives(Index, asks_core=False)
async def index(http: web.Request) -> web.Response:
    """`GET /`: what is here."""
    resources = http.app.router.resources()
    routes = [f"{route.method} {each.canonical}" for each in resources for route in each]
    shown = [route for route in routes if not route.startswith("HEAD")]
    return json_answer(Index(name="nsedge", version=VERSION, routes=shown))


ROUTES = (web.get("/", index), *probes.ROUTES)
