"""llama-server's error object."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from nsedge.web.doors.llama_server.shapes import ErrorBody, ErrorObject
from nsedge.web.errors import Refusal

_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.NOT_IMPLEMENTED: "not_supported_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable_error",
}
_CONTEXT = {"prompt_tokens", "context_tokens"}


def type_of(status: int) -> str:
    """llama-server's type of an error with `status`."""
    if status in _TYPES:
        return _TYPES[HTTPStatus(status)]
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return "server_error" if server else "invalid_request_error"


def error_body(refusal: Refusal) -> bytes:
    """The error object that tells of `refusal`; a prompt that is too long is told with its
    figures."""
    error: ErrorObject = {
        "code": refusal.status,
        "message": refusal.message,
        "type": type_of(refusal.status),
    }
    if refusal.code == "context_exceeded" and refusal.figures.keys() >= _CONTEXT:
        error["type"] = "exceed_context_size_error"
        error["n_prompt_tokens"] = refusal.figures["prompt_tokens"]
        error["n_ctx"] = refusal.figures["context_tokens"]
    return msgspec.json.encode(ErrorBody(error=error))
