"""OpenAI's error object."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from nsedge.web.errors import Refusal

INVALID = "invalid_request_error"
RATE = "rate_limit_error"
SERVER = "server_error"
NAMES = {
    "context_exceeded": "context_length_exceeded",
    "unknown_model": "model_not_found",
    "rate_limited": "rate_limit_exceeded",
}
"""OpenAI's own names of codes, where clients match them."""


def type_of(status: int) -> str:
    """OpenAI's type of an error with `status`."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RATE
    return INVALID if status < HTTPStatus.INTERNAL_SERVER_ERROR else SERVER


def error_body(refusal: Refusal) -> bytes:
    """The error object that tells of `refusal`, all four fields."""
    error = {
        "message": refusal.message,
        "type": type_of(refusal.status),
        "param": refusal.param,
        "code": NAMES.get(refusal.code, refusal.code),
    }
    return msgspec.json.encode({"error": error})
