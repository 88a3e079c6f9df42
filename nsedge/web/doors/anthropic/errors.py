"""Anthropic's error object."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import msgspec

from nsedge.web.doors.anthropic.shapes import ErrorBody, ErrorObject
from nsedge.web.errors import Refusal

_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}
_CONTEXT = {"context_tokens", "prompt_tokens"}


def error_body(refusal: Refusal) -> bytes:
    """The error object that tells of `refusal`; our own code beside it."""
    return msgspec.json.encode(error_object(refusal))


def error_object(refusal: Refusal) -> ErrorBody:
    """The same, not yet encoded."""
    told = reworded(refusal)
    error = ErrorObject(type=type_of(told.status), message=told.message, code=told.code)
    return {"type": "error", "error": error, "request_id": told.request_id}


def type_of(status: int) -> str:
    """Anthropic's type of an error with `status`."""
    if status in _TYPES:
        return _TYPES[HTTPStatus(status)]
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return "api_error" if server else "invalid_request_error"


def reworded(refusal: Refusal) -> Refusal:
    """`refusal`, in Anthropic's words where the prompt is too long: clients tell it by that."""
    figures = refusal.figures
    if refusal.code != "context_exceeded" or not figures.keys() >= _CONTEXT:
        return refusal
    prompt, context = figures["prompt_tokens"], figures["context_tokens"]
    return replace(refusal, message=f"prompt is too long: {prompt} tokens > {context - 1} maximum")
