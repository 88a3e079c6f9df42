"""Whether the shim and the core work: the same at every address, whichever doors are there."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from aiohttp import web

from nsedge.api import HealthStatus
from nsedge.errors import NsedgeError
from nsedge.security.keyring import Scope
from nsedge.version import VERSION
from nsedge.web.access import needs, open_to_all
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import gives, json_answer


class Life(TypedDict):
    """That the shim runs."""

    status: str
    version: str


class HealthAnswer(TypedDict):
    """The core's status, or why it has none: `code` is of docs/errors.md."""

    status: str
    reason: str | None
    version: NotRequired[str]
    uptime_s: NotRequired[float]
    code: NotRequired[str]


@open_to_all
@gives(Life, asks_core=False)
async def live(http: web.Request) -> web.Response:
    """`GET /live`: the shim itself runs."""
    return json_answer(Life(status="live", version=VERSION))


@needs(Scope.READ)
@gives(HealthAnswer, also=(503,), asks_core=False)
async def health(http: web.Request) -> web.Response:
    """`GET /health`: 200 when requests are taken, else 503 and why not."""
    answering = http.app[ANSWERING]
    if answering.draining:
        stopping = HealthAnswer(status="draining", reason="the web shim is stopping")
        return json_answer(stopping, 503)
    try:
        found = await answering.ask(answering.service.health())
    except NsedgeError as error:
        lost = HealthAnswer(status="unreachable", reason=error.message, code=error.code)
        return json_answer(lost, 503)
    body = HealthAnswer(
        status=found.status.value,
        reason=found.reason,
        version=found.version,
        uptime_s=found.uptime_s,
    )
    return json_answer(body, 200 if found.status is HealthStatus.READY else 503)


ROUTES = (
    web.get("/live", live),
    web.get("/health", health),
)
