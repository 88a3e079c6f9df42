"""What is told of requests: a line in the log and a span each, with figures and no text.

The attributes are those of OpenTelemetry's conventions for generative AI.
"""

from __future__ import annotations

import logging
from collections import Counter

import msgspec

from nsedge.api import (
    Caption,
    Chat,
    Failed,
    Finished,
    Generate,
    Imagine,
    Listen,
    Media,
    Message,
    Request,
    Score,
    Task,
    Timings,
    Transcribe,
)
from nsedge.telemetry.tracing import Attributes, Phase, Span, Tracing

log = logging.getLogger("nsedge.requests")

_OPERATIONS = {"generate": "text_completion", "embed": "embeddings"}
"""OpenTelemetry's names of tasks, where they are other ones."""


class Journal:
    """Counts, logs and traces how requests end."""

    def __init__(self, *, prompts: bool = False, tracing: Tracing | None = None) -> None:
        """`prompts`: also log what was asked, as requests begin."""
        self.failures: Counter[str] = Counter()
        """Requests that failed, by code."""
        self._prompts = prompts
        self._tracing = tracing

    def began(self, request: Request) -> Span | None:
        """A request has come; its span, where they are kept."""
        if self._prompts:
            _log_prompt(request)
        if self._tracing is None:
            return None
        operation = _OPERATIONS.get(request.task.name, request.task.name)
        return self._tracing.begin(
            f"{operation} {request.model}",
            parent=request.traceparent,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.request.model": request.model,
                "nsedge.request_id": request.request_id,
            },
        )

    def ended(
        self,
        request: Request,
        end: Finished | Failed,
        span: Span | None = None,
        *,
        inner: bool = False,
    ) -> None:
        """A request has ended, and with it `span`. inner: it is part of another, whose failure is
        the one that counts."""
        if isinstance(end, Failed):
            if not inner:
                self.failures[end.code] += 1
            self._failed(request, end, span)
            return
        if span is not None:
            _tell_phases(span, end.timings)
            span.end(_figures(end))
        times = msgspec.to_builtins(end.timings)
        log.info(
            "a request ended",
            extra={
                **_label(request),
                "reason": end.reason.value,
                "prompt_tokens": end.usage.prompt_tokens,
                "cached_tokens": end.usage.cached_tokens,
                "completion_tokens": end.usage.completion_tokens,
                **({"audio_s": round(heard_s, 3)} if (heard_s := end.usage.audio_s) else {}),
                **({"images": seen} if (seen := end.usage.images) else {}),
                **{name: round(seconds, 6) for name, seconds in times.items()},
            },
        )

    def _failed(self, request: Request, end: Failed, span: Span | None) -> None:
        if span is not None:
            span.end({}, error=end.code)
        log.info("a request failed", extra={**_label(request), "code": end.code})


def _log_prompt(request: Request) -> None:
    log.info("a request begins", extra={**_label(request), "prompt": _said(request.task)})


def _said(task: Task) -> object:
    """What a task says in words; of media, what they are."""
    if isinstance(task, Chat):
        return [_turn(message) for message in task.messages]
    if isinstance(task, Generate):
        return task.text if task.token_ids is None else task.token_ids
    if isinstance(task, Imagine):
        return {"prompt": task.prompt, "negative_prompt": task.negative_prompt}
    if isinstance(task, Listen):
        return {"prompt": task.prompt}
    if isinstance(task, Transcribe | Caption):
        return {"prompt": task.prompt, "media": [_shown(task.media)]}
    if isinstance(task, Score):
        return [task.query, *task.documents]
    return [_shown(one) if isinstance(one, Media) else one for one in task.inputs]


def _turn(message: Message) -> dict[str, object]:
    said: dict[str, object] = {"role": message.role.value, "content": message.text}
    if message.media:
        said["media"] = [_shown(one) for one in message.media]
    return said


def _shown(media: Media) -> dict[str, object]:
    return {"type": media.type, "bytes": len(media.data), "sha256": media.sha256}


def _figures(end: Finished) -> Attributes:
    return {
        "gen_ai.usage.input_tokens": end.usage.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": end.usage.cached_tokens,
        "gen_ai.usage.output_tokens": end.usage.completion_tokens,
        "gen_ai.response.finish_reasons": (end.reason.value,),
    }


def _tell_phases(span: Span, timings: Timings) -> None:
    """One after the other; what a request never came to has none."""
    begin_s = 0.0
    for phase, took_s in (
        (Phase.QUEUE, timings.queue_s),
        (Phase.PREFILL, timings.prefill_s),
        (Phase.DECODE, timings.decode_s),
    ):
        if took_s > 0:
            span.phase(phase, begin_s, begin_s + took_s)
        begin_s += took_s


def _label(request: Request) -> dict[str, str]:
    """What every line says of its request."""
    label = {"request_id": request.request_id, "model": request.model}
    if request.traceparent is not None:
        label["traceparent"] = request.traceparent
    return label
