"""Routes for those who watch: metrics, statistics, and a page that draws them."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import re
from importlib import resources
from typing import TypedDict

from aiohttp import web

from nsedge.api import Health, ModelInfo, Stats
from nsedge.errors import NsedgeError
from nsedge.security.keyring import Scope
from nsedge.web.access import needs, open_to_all
from nsedge.web.answering import ANSWERING, Answering
from nsedge.web.bodies import gives, json_answer
from nsedge.web.doors.operations import metrics
from nsedge.web.doors.operations.exposition import CONTENT_TYPE
from nsedge.web.doors.operations.metrics import CoreView

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class StatsAnswer(TypedDict):
    """The core's health and statistics, and its models."""

    health: Health
    stats: Stats
    models: tuple[ModelInfo, ...]


@needs(Scope.READ)
@gives(pages=(CONTENT_TYPE,), asks_core=False)
async def scrape(http: web.Request) -> web.Response:
    """`GET /metrics`: for Prometheus; without the core, what the shim knows alone."""
    answering = http.app[ANSWERING]
    try:
        core = await _look(answering)
    except NsedgeError:
        core = None
    text = metrics.render(core, traffic=answering.traffic, lag=answering.lag.read())
    return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})


@needs(Scope.READ)
@gives(StatsAnswer)
async def stats(http: web.Request) -> web.Response:
    """`GET /api/stats`: what the core is doing, as the protocol's `stats` tells it, and models."""
    core = await _look(http.app[ANSWERING])
    return json_answer(StatsAnswer(health=core.health, stats=core.stats, models=core.models))


@open_to_all
@gives(pages=("text/html",), asks_core=False)
async def dashboard(http: web.Request) -> web.Response:
    """`GET /dashboard`: the page. A browser cannot show a key to open it, and it tells nothing:
    its figures come from `/api/stats`, which asks for one."""
    page, policy = _page()
    return web.Response(
        body=page,
        content_type="text/html",
        charset="utf-8",
        headers={
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        },
    )


ROUTES = (
    web.get("/metrics", scrape),
    web.get("/api/stats", stats),
    web.get("/dashboard", dashboard),
)


async def _look(answering: Answering) -> CoreView:
    """Raises NsedgeError where the core does not answer."""
    service = answering.service
    health, seen, models = await answering.ask(
        asyncio.gather(service.health(), service.stats(), service.models())
    )
    return CoreView(health=health, stats=seen, models=models)


@functools.cache
def _page() -> tuple[bytes, str]:
    """The page, and the policy that allows what is in it and nothing else."""
    text = resources.files(__package__).joinpath("dashboard.html").read_text(encoding="utf-8")
    allowed = {"script": "", "style": ""}
    for kind, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        allowed[kind] += f" 'sha256-{digest}'"
    policy = (
        f"default-src 'none'; script-src{allowed['script']}; style-src{allowed['style']};"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy
