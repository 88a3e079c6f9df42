"""What the shim answered: counted for Prometheus, and a line in the log each."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from nsedge.web import gate
from nsedge.web.access import CALLER

log = logging.getLogger("nsedge.web.requests")

GONE = 499
"""The client went away before its answer was whole; the number that nginx gives it."""


class Traffic:
    """Counts HTTP answers by route, method and status."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.answered: Counter[tuple[str, str, int]] = Counter()
        self.in_progress = 0
        self._clock = clock

    async def count(self, http: web.Request, handler: Handler) -> web.StreamResponse:
        """What `handler` answers to `http`."""
        began_s, status = self._clock(), GONE
        self.in_progress += 1
        try:
            answer = await handler(http)
            status = answer.status
            return answer
        finally:
            self.in_progress -= 1
            self.answered[route_of(http), method_of(http), status] += 1
            self._log(http, status, self._clock() - began_s)

    def _log(self, http: web.Request, status: int, took_s: float) -> None:
        """What only looks is told at a lower level: probes and scrapes come every few seconds."""
        trace = gate.traceparent(http)
        looks = http.method in ("GET", "HEAD") and status < HTTPStatus.BAD_REQUEST
        log.log(
            logging.DEBUG if looks else logging.INFO,
            "answered",
            extra={
                "request_id": http[gate.REQUEST_ID],
                "method": method_of(http),
                "route": route_of(http),
                "status": status,
                "seconds": round(took_s, 6),
                "from": http.remote,
                "caller": http.get(CALLER),
                **({} if trace is None else {"traceparent": trace}),
            },
        )


def route_of(http: web.Request) -> str:
    """The route's path as it is declared: no client can make up new ones."""
    resource = http.match_info.route.resource
    return "none" if resource is None else resource.canonical


def method_of(http: web.Request) -> str:
    """The method; `OTHER` for one that no route has."""
    return http.method if http.method in ("GET", "HEAD", "POST", "OPTIONS") else "OTHER"
