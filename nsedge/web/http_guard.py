"""What stands before every route: which hosts and origins may talk to the shim, and the names that
a request goes by."""

from __future__ import annotations

import functools
import ipaddress
import re
import secrets
import socket
from dataclasses import replace
from typing import TypeVar

from aiohttp import web

from nsedge.api import ChoiceFailed, Failed
from nsedge.version import VERSION
from nsedge.web.access import is_loopback
from nsedge.web.errors import Refusal, Refused
from nsedge.web.limits import WebLimits

F = TypeVar("F", bound=Failed | ChoiceFailed | Refusal)
REQUEST_ID = web.RequestKey("request_id", str)
TRACEPARENT = web.RequestKey("traceparent", str)
"""What the core is given as W3C trace context; absent where there is none."""
IGNORED_FIELDS = web.RequestKey("ignored_fields", list[str])
"""What of the body was left out, though nobody knows that it changes nothing."""
FIELD_NAMES = web.RequestKey("field_names", dict[str, str])
"""What a body calls parameters of the core, where that is not their name."""
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_FIELD = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_TOLD = 16
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_EXPOSED = ", ".join(
    (
        "x-request-id, request-id, x-ignored-fields, retry-after, retry-after-ms, x-should-retry",
        *(
            f"x-ratelimit-{which}-{what}"
            for which in ("limit", "remaining", "reset")
            for what in ("requests", "tokens")
        ),
    )
)


def label(request: web.Request) -> str:
    """The client's own X-Request-Id where it is sane, else a new one."""
    given = request.headers.get("X-Request-Id", "")
    return given if _SANE_ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"


def traceparent(request: web.Request) -> str | None:
    """The caller's W3C trace context, where there is one and it is well formed."""
    given = request.headers.getall("traceparent", [])
    return given[0] if len(given) == 1 and _TRACEPARENT.fullmatch(given[0]) else None


def name_field(http: web.Request, param: str, field: str) -> None:
    """Note that the body calls the core's `param` by the name of `field`."""
    http[FIELD_NAMES] = {**http.get(FIELD_NAMES, {}), param: field}


def renamed(http: web.Request, failure: F) -> F:
    """`failure`, where it names a parameter as the body does."""
    field = http.get(FIELD_NAMES, {}).get(failure.param or "")
    if field is None or failure.param is None:
        return failure
    message = failure.message.replace(failure.param, field, 1)
    return replace(failure, message=message, param=field)


def check_host(request: web.Request, limits: WebLimits) -> None:
    """Refuse a page that reached us under a name of its own (DNS rebinding).

    Raises:
        Refused: where Host is neither an address nor one of our names; on loopback, where it is an
            address of another machine.
    """
    host = request.headers.get("Host", "")
    name = re.sub(r":\d*$", "", host).lower().rstrip(".")
    if is_loopback(name) or name in map(str.lower, limits.allowed_hosts):
        return
    if not _on_loopback(request) and (_is_address(name) or name in own_names()):
        return
    raise Refused(
        Refusal(
            code="host_not_allowed",
            message=f"the host {host!r} is not served here; web.allowed_hosts can name it",
        )
    )


@functools.cache
def own_names() -> frozenset[str]:
    """What other machines call this one without being told: its host name, bare and by mDNS."""
    name = socket.gethostname().lower()
    bare = name.partition(".")[0]
    return frozenset({name, bare, f"{bare}.local"})


def allowed_origin(request: web.Request, limits: WebLimits) -> str | None:
    """The request's Origin, where the settings list it."""
    origin = request.headers.get("Origin")
    return origin if origin in limits.cors_origins else None


def refuse_foreign_origin(request: web.Request, limits: WebLimits) -> None:
    """Refuse a body that a page of another origin may send without asking first: any that is not
    JSON.

    Raises:
        Refused: where the request has an Origin that is neither ours nor listed.
    """
    origin = request.headers.get("Origin")
    if origin is None or origin in limits.cors_origins:
        return
    if origin.partition("://")[2] != request.headers.get("Host"):
        message = f"pages of {origin!r} may not call; web.cors_origins can list their origin"
        raise Refused(Refusal(code="origin_not_allowed", message=message))


def is_preflight(request: web.Request) -> bool:
    """Whether a browser asks what a page may send."""
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def preflight_answer() -> web.Response:
    """Leave for the page of a listed origin; the origin itself is added to every answer."""
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": "*, authorization, content-type",
            "Access-Control-Max-Age": "600",
        },
    )


def mark(request: web.Request, response: web.StreamResponse, limits: WebLimits) -> None:
    """Add what every answer carries."""
    response.headers["Server"] = f"nsedge/{VERSION}"
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    response.headers["X-Content-Type-Options"] = "nosniff"
    if ignored := request.get(IGNORED_FIELDS):
        told = [name if _FIELD.fullmatch(name) else "?" for name in ignored[:_MAX_TOLD]]
        response.headers["X-Ignored-Fields"] = ", ".join(told)
    if limits.cors_origins:
        response.headers["Vary"] = "Origin"
    if origin := allowed_origin(request, limits):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED


def _on_loopback(request: web.Request) -> bool:
    if request.transport is None:
        return False
    address = request.transport.get_extra_info("sockname")
    return isinstance(address, tuple) and is_loopback(address[0])


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
