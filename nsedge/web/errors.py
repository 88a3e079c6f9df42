"""Errors as HTTP tells them: one table from error code to status and OpenAI's type."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from nsedge.api import Failed
from nsedge.errors import NsedgeError

INVALID = "invalid_request_error"
RATE = "rate_limit_error"
SERVER = "server_error"
DEFAULT_RETRY_S = 1.0


class Verdict(NamedTuple):
    """How a code appears on the wire. openai_code is OpenAI's own name, where clients match it."""

    status: int
    type: str
    openai_code: str | None = None


VERDICTS: dict[str, Verdict] = {
    "internal": Verdict(500, SERVER),
    "invalid_request": Verdict(400, INVALID),
    "bad_message": Verdict(400, INVALID),
    "message_too_large": Verdict(413, INVALID),
    # The shim and the core disagree: no fault of the HTTP client's.
    "unsupported_version": Verdict(502, SERVER),
    "out_of_order": Verdict(502, SERVER),
    "invalid_parameter": Verdict(400, INVALID),
    "empty_prompt": Verdict(400, INVALID),
    "context_exceeded": Verdict(400, INVALID, "context_length_exceeded"),
    "forbidden": Verdict(403, INVALID),
    "unknown_model": Verdict(404, INVALID, "model_not_found"),
    "unavailable": Verdict(503, SERVER),
    "queue_full": Verdict(429, RATE),
    "not_ready": Verdict(503, SERVER),
    "not_loaded": Verdict(503, SERVER),
    "insufficient_memory": Verdict(503, SERVER),
    "draining": Verdict(503, SERVER),
    "connection_lost": Verdict(503, SERVER),
    "deadline_exceeded": Verdict(504, SERVER),
    "slow_consumer": Verdict(500, SERVER),
    "engine_failure": Verdict(500, SERVER),
    "device_unavailable": Verdict(503, SERVER),
    "bundle_invalid": Verdict(500, SERVER),
    "config_invalid": Verdict(500, SERVER),
    # What only HTTP can get wrong.
    "unknown_route": Verdict(404, INVALID),
    "method_not_allowed": Verdict(405, INVALID),
    "request_timeout": Verdict(408, INVALID),
    "unsupported_media_type": Verdict(415, INVALID),
    "host_not_allowed": Verdict(403, INVALID),
    "invalid_api_key": Verdict(401, INVALID),
    "rate_limited": Verdict(429, RATE, "rate_limit_exceeded"),
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

    @classmethod
    def of(cls, failed: Failed | NsedgeError) -> Refusal:
        """The refusal that tells of `failed`."""
        return cls(
            code=failed.code,
            message=failed.message,
            param=failed.param,
            retryable=failed.retryable,
            retry_after_s=failed.retry_after_s,
        )

    @property
    def verdict(self) -> Verdict:
        """Status and type; a code of a newer core counts as internal."""
        return VERDICTS.get(self.code, VERDICTS["internal"])

    def openai_body(self) -> bytes:
        """OpenAI's error object, all four fields."""
        return _encode(
            {
                "message": self.message,
                "type": self.verdict.type,
                "param": self.param,
                "code": self.verdict.openai_code or self.code,
            }
        )

    def plain_body(self) -> bytes:
        """The error object of every other route; its code is the error tree's own."""
        return _encode(
            {
                "code": self.code,
                "message": self.message,
                "param": self.param,
                "retryable": self.retryable,
            }
        )

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


def _encode(error: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"error": error})
