"""What the shim answered: counted for Prometheus, and a line in the log and a span each."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from nsedge.telemetry.tracing import Span, Tracing
from nsedge.web import http_guard
from nsedge.web.access import CALLER

log = logging.getLogger("nsedge.web.requests")

GONE = 499
"""The client went away before its answer was whole; the number that nginx gives it."""


class Traffic:
    """Counts HTTP answers by route, method and status."""

    def __init__(
        self, *, tracing: Tracing | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.answered: Counter[tuple[str, str, int]] = Counter()
        self.in_progress = 0
        self.refused_connections = 0
        """For want of room."""
        self._tracing = tracing
        self._clock = clock

    async def count(self, http: web.Request, handler: Handler) -> web.StreamResponse:
        """What `handler` answers to `http`."""
        began_s, status = self._clock(), GONE
        self.in_progress += 1
        span = self._begin(http)
        try:
            answer = await handler(http)
            status = answer.status
            return answer
        finally:
            self.in_progress -= 1
            self.answered[route_of(http), method_of(http), status] += 1
            if span is not None:
                error = str(status) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
                span.end({"http.response.status_code": status}, error=error)
            self._log(http, status, self._clock() - began_s)

    def _begin(self, http: web.Request) -> Span | None:
        """The span of a request that asks for something to be done, and what the core is told of
        it."""
        trace, span = http_guard.traceparent(http), None
        if self._tracing is not None and http.method == "POST":
            route = route_of(http)
            span = self._tracing.begin(
                f"POST {route}",
                parent=trace,
                attributes={
                    "http.request.method": "POST",
                    "http.route": route,
                    "nsedge.request_id": http[http_guard.REQUEST_ID],
                },
            )
            trace = span.traceparent or trace
        if trace is not None:
            http[http_guard.TRACEPARENT] = trace
        return span

    def _log(self, http: web.Request, status: int, took_s: float) -> None:
        """What only looks is told at a lower level: probes and scrapes come every few seconds."""
        trace = http.get(http_guard.TRACEPARENT)
        looks = http.method in ("GET", "HEAD") and status < HTTPStatus.BAD_REQUEST
        log.log(
            logging.DEBUG if looks else logging.INFO,
            "answered",
            extra={
                "request_id": http[http_guard.REQUEST_ID],
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
    return http.method if http.method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "OTHER"
