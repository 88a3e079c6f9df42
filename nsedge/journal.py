"""The requests in the log: a line each when it ends, with figures and no text."""

from __future__ import annotations

import logging
from collections import Counter

import msgspec

from nsedge.api import ChatPrompt, Failed, Finished, Request

log = logging.getLogger("nsedge.requests")


class Journal:
    """Counts and logs how requests end."""

    def __init__(self, *, prompts: bool = False) -> None:
        """`prompts`: also log what was asked, as requests begin."""
        self.failures: Counter[str] = Counter()
        """Requests that failed, by code."""
        self._prompts = prompts

    def began(self, request: Request) -> None:
        """A request has come."""
        if not self._prompts:
            return
        prompt = request.prompt
        said = (
            msgspec.to_builtins(prompt.messages) if isinstance(prompt, ChatPrompt) else prompt.text
        )
        log.info("a request begins", extra={**_label(request), "prompt": said})

    def ended(self, request: Request, end: Finished | Failed) -> None:
        """A request has ended."""
        if isinstance(end, Failed):
            self.failures[end.code] += 1
            log.info("a request failed", extra={**_label(request), "code": end.code})
            return
        times = msgspec.to_builtins(end.timings)
        log.info(
            "a request ended",
            extra={
                **_label(request),
                "reason": end.reason.value,
                "prompt_tokens": end.usage.prompt_tokens,
                "cached_tokens": end.usage.cached_tokens,
                "completion_tokens": end.usage.completion_tokens,
                **{name: round(seconds, 6) for name, seconds in times.items()},
            },
        )


def _label(request: Request) -> dict[str, str]:
    """What every line says of its request."""
    label = {"request_id": request.request_id, "model": request.model}
    if request.traceparent is not None:
        label["traceparent"] = request.traceparent
    return label
