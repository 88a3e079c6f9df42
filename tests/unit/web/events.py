"""Events of a short answer, and what a stream makes of them."""

from __future__ import annotations

from typing import Any

from nsedge.api import (
    Delta,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    Timings,
    ToolCallDelta,
    Usage,
)
from nsedge.web.answer_stream import AnswerStream

STARTED = Started(request_id="r", prompt_tokens=3, queue_s=0.0)


def delta(text: str) -> Delta:
    return Delta(request_id="r", seq=0, text=text, token_ids=(1,))


def thought(text: str) -> ReasoningDelta:
    return ReasoningDelta(request_id="r", seq=0, text=text, token_ids=(1,))


def call(
    index: int, arguments: str, call_id: str | None = None, name: str | None = None
) -> ToolCallDelta:
    return ToolCallDelta(
        request_id="r",
        seq=0,
        index=index,
        call_id=call_id,
        name=name,
        arguments=arguments,
        token_ids=(1,),
    )


CALLS = (
    call(0, "", "call_a", "sun"),
    call(0, '{"a"'),
    call(0, ":1}"),
    call(1, "{}", "call_b", "rain"),
)


def finished(reason: FinishReason = FinishReason.STOP, **fields: Any) -> Finished:
    return Finished(
        request_id="r",
        reason=reason,
        usage=Usage(prompt_tokens=3, completion_tokens=2),
        timings=Timings(queue_s=0.1, prefill_s=0.2, decode_s=0.3),
        **fields,
    )


FAILED = Failed(request_id="r", code="engine_failure", message="broke", retryable=True)


def whole(stream: AnswerStream, *events: Any) -> bytes:
    return b"".join(stream.encode([(0, event)]) for event in events)
