"""Errors as HTTP tells them: one table from error code to status. What their bodies look like is
each door's own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypedDict

import msgspec

from nsedge.api import Failed
from nsedge.errors import NsedgeError

DEFAULT_RETRY_S = 1.0
STATUSES: dict[str, int] = {
    "internal": 500,
    "invalid_request": 400,
    "bad_message": 400,
    "message_too_large": 413,
    # The shim and the core disagree: no fault of the HTTP client's.
    "unsupported_version": 502,
    "out_of_order": 502,
    "unknown_media": 502,
    "invalid_parameter": 400,
    "empty_prompt": 400,
    "invalid_media": 400,
    "unsupported_task": 400,
    "context_exceeded": 400,
    "forbidden": 403,
    "unknown_model": 404,
    "unavailable": 503,
    "queue_full": 429,
    "not_ready": 503,
    "not_loaded": 503,
    "insufficient_memory": 503,
    "draining": 503,
    "connection_lost": 503,
    "deadline_exceeded": 504,
    "slow_consumer": 500,
    "upload_stalled": 503,
    "engine_failure": 500,
    "computation_failure": 500,
    "constraint_failure": 500,
    "device_unavailable": 503,
    "bundle_invalid": 500,
    "config_invalid": 500,
    # What only HTTP can get wrong.
    "unknown_response": 404,
    "unknown_route": 404,
    "unknown_idea": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "unsupported_media_type": 415,
    "host_not_allowed": 403,
    "origin_not_allowed": 403,
    "invalid_api_key": 401,
    "rate_limited": 429,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error on its way to an HTTP client, as a status or inside a stream."""

    code: str
    message: str
    param: str | None = None
    retryable: bool = False
    retry_after_s: float | None = None
    challenge: str | None = None
    """How to come in, for a 401."""
    figures: dict[str, int] = field(default_factory=dict)
    """Numbers that the message tells, by name."""
    request_id: str | None = None
    """Of the request that it is the answer to, for doors that tell it."""

    @classmethod
    def of(cls, failed: Failed | NsedgeError) -> Refusal:
        """The refusal that tells of `failed`."""
        return cls(
            code=failed.code,
            message=failed.message,
            param=failed.param,
            retryable=failed.retryable,
            retry_after_s=failed.retry_after_s,
            figures=failed.figures,
        )

    @property
    def status(self) -> int:
        """The HTTP status; a code of a newer core counts as internal."""
        return STATUSES.get(self.code, STATUSES["internal"])

    def headers(self) -> dict[str, str]:
        """Whether and when to come back. Without it clients would repeat every 5xx."""
        if not self.retryable:
            challenge = {} if self.challenge is None else {"WWW-Authenticate": self.challenge}
            return {"X-Should-Retry": "false", **challenge}
        after_s = DEFAULT_RETRY_S if self.retry_after_s is None else max(self.retry_after_s, 0.0)
        return {
            "X-Should-Retry": "true",
            "Retry-After": str(math.ceil(after_s)),
            "Retry-After-Ms": str(math.ceil(after_s * 1000)),
        }


class Refused(Exception):
    """Ends the work on an HTTP request; the answer is `refusal`."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class PlainError(TypedDict):
    """What went wrong. code: of docs/errors.md. param: the field at fault."""

    code: str
    message: str
    param: str | None
    retryable: bool


class PlainErrorBody(TypedDict):
    """The error object of the doors whose shape is our own."""

    error: PlainError


def plain_error(refusal: Refusal) -> bytes:
    """The error object of the doors whose shape is our own; its code is the error tree's."""
    told = PlainErrorBody(
        error={
            "code": refusal.code,
            "message": refusal.message,
            "param": refusal.param,
            "retryable": refusal.retryable,
        }
    )
    return msgspec.json.encode(told)
