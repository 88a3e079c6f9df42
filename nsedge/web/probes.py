"""Whether the shim and the core work: the same at every address, whichever doors are there."""

from __future__ import annotations

from aiohttp import web

from nsedge.api import HealthStatus
from nsedge.errors import NsedgeError
from nsedge.security.keyring import Scope
from nsedge.version import VERSION
from nsedge.web.access import needs, open_to_all
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import json_answer


@open_to_all
async def live(http: web.Request) -> web.Response:
    """`GET /live`: the shim itself runs."""
    return json_answer({"status": "live", "version": VERSION})


@needs(Scope.READ)
async def health(http: web.Request) -> web.Response:
    """`GET /health`: 200 when requests are taken, else 503 and why not."""
    answering = http.app[ANSWERING]
    if answering.draining:
        return json_answer({"status": "draining", "reason": "the web shim is stopping"}, 503)
    try:
        found = await answering.ask(answering.service.health())
    except NsedgeError as error:
        return json_answer(
            {"status": "unreachable", "reason": error.message, "code": error.code}, 503
        )
    body = {
        "status": found.status.value,
        "reason": found.reason,
        "version": found.version,
        "uptime_s": found.uptime_s,
    }
    return json_answer(body, 200 if found.status is HealthStatus.READY else 503)


ROUTES = (
    web.get("/live", live),
    web.get("/health", health),
)
