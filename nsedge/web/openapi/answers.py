"""What a route answers with, by status; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web

from nsedge.security.keyring import Scope
from nsedge.web.access import scope_of
from nsedge.web.bodies import given_by, gives, taken_by
from nsedge.web.door import JSON, Door
from nsedge.web.errors import STATUSES
from nsedge.web.openapi.links import link_of
from nsedge.web.openapi.types import Types

_EVENTS = "text/event-stream"
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string"}, "event": {"type": "string"}},
}
"""One server-sent event: it is what readers take the schema of a stream for."""
ALWAYS = ("internal", "invalid_request", "host_not_allowed")
"""Codes of any answer."""
OF_CALLERS = ("forbidden", "rate_limited")
"""Of routes that want a scope."""
OF_BODIES = (
    "bad_message",
    "invalid_parameter",
    "message_too_large",
    "request_timeout",
    "unsupported_media_type",
    "origin_not_allowed",
)
"""Of routes that read a body."""
OF_THE_CORE = (
    "unknown_model",
    "not_ready",
    "unavailable",
    "connection_lost",
    "unsupported_version",
    "out_of_order",
)
"""Of routes that ask the core."""
OF_WORK = (
    "empty_prompt",
    "unsupported_task",
    "context_exceeded",
    "queue_full",
    "not_loaded",
    "insufficient_memory",
    "deadline_exceeded",
    "slow_consumer",
    "upload_stalled",
    "unknown_media",
    "engine_failure",
    "computation_failure",
    "constraint_failure",
    "device_unavailable",
    "bundle_invalid",
    "config_invalid",
    "invalid_media",
)
"""Of routes that have the core do something."""


def responses(door: Door, route: web.RouteDef, types: Types, *, keys: bool) -> dict[str, Any]:
    """The responses of an operation, the lowest status first."""
    given = given_by(route.handler) or gives()
    told = {str(status): one for status, one in _well(door, given, types)}
    for status, codes in _by_status(_codes(route, given, keys=keys)).items():
        refused = _refused(door, codes, types)
        if status in told:
            either = [one["content"][JSON]["schema"] for one in (told[status], refused)]
            refused["content"] = {JSON: {"schema": {"anyOf": either}}}
        told[status] = refused
    return dict(sorted(told.items()))


def _well(door: Door, given: gives, types: Types) -> Iterator[tuple[int, dict[str, Any]]]:
    """What a route gives where it refuses nothing."""
    if given.upgrades:
        yield 101, {"description": "A WebSocket."}
    content: dict[str, Any] = {}
    meanings = []
    if given.kind is not None:
        content[JSON] = {"schema": types.of(given.kind)}
        meanings.append("The answer.")
    if given.stream is not None:
        media_type = given.stream.framing.content_type.partition(";")[0]
        content[media_type] = {"schema": _EVENT if media_type == _EVENTS else {"type": "string"}}
        meanings.append(f"As {media_type}: {_first_line(given.stream)}")
    for page in given.pages:
        media_type = page.partition(";")[0]
        content[media_type] = {"schema": {"type": "string"}}
        meanings.append(f"As {media_type}.")
    if content:
        told: dict[str, Any] = {"description": " ".join(meanings), "content": content}
        if given.links:
            told["links"] = {link.name: link_of(door, link) for link in given.links}
        for status in (200, *given.also):
            yield status, told


def _refused(door: Door, codes: list[str], types: Types) -> dict[str, Any]:
    kind = door.error_kind
    schema = {"type": "string"} if kind is None else types.of(kind)
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "content": {door.error_type: {"schema": schema}},
    }


def _codes(route: web.RouteDef, given: gives, *, keys: bool) -> Iterator[str]:
    """The codes of errors that a route may answer with."""
    scope = scope_of(route.handler)
    yield from ALWAYS
    yield from given.refuses
    if scope is not None:
        yield from OF_CALLERS
        if keys:
            yield "invalid_api_key"
    if "{" in route.path:
        yield "unknown_route"
    if route.method == "POST":
        yield "draining"
    if taken_by(route.handler) is not None:
        yield from OF_BODIES
    if given.asks_core:
        yield from OF_THE_CORE
        if scope is not Scope.READ:
            yield from OF_WORK


def _by_status(codes: Iterator[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for code in dict.fromkeys(codes):
        found.setdefault(str(STATUSES[code]), []).append(code)
    return found


def _first_line(kind: type) -> str:
    return " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
