"""Anthropic's streams and answers to the letter."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nsedge.api import (
    Failed,
    FinishReason,
    Loading,
    ModelState,
    ReasoningDelta,
    Timings,
    ToolCallDelta,
    Usage,
)
from nsedge.api.events import Finished
from nsedge.errors import ContextExceeded, QueueFull
from nsedge.web.choices import Choice
from nsedge.web.doors.anthropic.answers import Head, MessageStream, whole_answer
from nsedge.web.doors.anthropic.errors import error_body, type_of
from nsedge.web.errors import Refusal
from tests.unit.web.events import FAILED, STARTED, delta, finished, whole

HEAD = Head(id="msg_1", model="m", request_id="r1")
START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1",'
    b'"type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,'
    b'"stop_sequence":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":0,'
    b'"cache_read_input_tokens":0,"output_tokens":0}}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def ending(reason: bytes) -> bytes:
    return (
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":'
        + reason
        + b'},"usage":{"input_tokens":3,"cache_creation_input_tokens":0,'
        b'"cache_read_input_tokens":0,"output_tokens":2}}\n\n' + STOP
    )


def test_a_stream_to_the_letter() -> None:
    stream = MessageStream(HEAD)
    assert whole(stream, STARTED, delta("a"), delta("\u2028ü"), finished()) == (
        START + b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"a"}}\n\n'
        + 'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        '"delta":{"type":"text_delta","text":"\\u2028ü"}}\n\n'.encode()
        + b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        + ending(b'"end_turn","stop_sequence":null')
    )
    assert stream.ended


def piece(index: int, arguments: str, name: str | None = None) -> ToolCallDelta:
    return ToolCallDelta(
        request_id="r",
        seq=0,
        index=index,
        call_id=name and f"c{index}",
        name=name,
        arguments=arguments,
        token_ids=(1,),
    )


THOUGHT = ReasoningDelta(request_id="r", seq=0, text="hm", token_ids=(1,))
CALLED = (
    THOUGHT,
    delta("a"),
    piece(0, "", "look"),
    piece(0, '{"at":1'),
    piece(0, "}"),
    piece(1, "{}", "go"),
)


def block(index: int, begin: str, *deltas: str) -> bytes:
    begun = (
        "event: content_block_start\ndata: "
        f'{{"type":"content_block_start","index":{index},"content_block":{begin}}}\n\n'
    )
    pieces = "".join(
        "event: content_block_delta\ndata: "
        f'{{"type":"content_block_delta","index":{index},"delta":{each}}}\n\n'
        for each in deltas
    )
    ended = f'event: content_block_stop\ndata: {{"type":"content_block_stop","index":{index}}}\n\n'
    return (begun + pieces + ended).encode()


def test_blocks_of_every_kind_to_the_letter() -> None:
    end = finished(FinishReason.TOOL_CALLS)
    assert whole(MessageStream(HEAD), STARTED, *CALLED, end) == (
        START
        + block(
            0,
            '{"type":"thinking","thinking":"","signature":""}',
            '{"type":"thinking_delta","thinking":"hm"}',
        )
        + block(1, '{"type":"text","text":""}', '{"type":"text_delta","text":"a"}')
        + block(
            2,
            '{"type":"tool_use","id":"c0","name":"look","input":{}}',
            '{"type":"input_json_delta","partial_json":"{\\"at\\":1"}',
            '{"type":"input_json_delta","partial_json":"}"}',
        )
        + block(
            3,
            '{"type":"tool_use","id":"c1","name":"go","input":{}}',
            '{"type":"input_json_delta","partial_json":"{}"}',
        )
        + ending(b'"tool_use","stop_sequence":null')
    )


def test_blocks_of_every_kind_in_one_piece() -> None:
    told = whole_answer(HEAD, Choice(results=CALLED, finished=finished(FinishReason.TOOL_CALLS)))
    assert told["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "c0", "name": "look", "input": {"at": 1}},
        {"type": "tool_use", "id": "c1", "name": "go", "input": {}},
    ]
    assert told["stop_reason"] == "tool_use"


def test_an_answer_without_text_has_no_block() -> None:
    assert whole(MessageStream(HEAD), STARTED, finished()) == START + ending(
        b'"end_turn","stop_sequence":null'
    )


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (finished(stop="."), b'"stop_sequence","stop_sequence":"."'),
        (finished(FinishReason.LENGTH), b'"max_tokens","stop_sequence":null'),
        (
            finished(FinishReason.LENGTH, clipped_max_tokens=2),
            b'"model_context_window_exceeded","stop_sequence":null',
        ),
    ],
)
def test_why_it_stopped(end: Finished, reason: bytes) -> None:
    assert whole(MessageStream(HEAD), STARTED, end).endswith(ending(reason))


def test_a_failure_in_mid_stream() -> None:
    stream = MessageStream(HEAD)
    assert whole(stream, STARTED, FAILED) == START + (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"broke",'
        b'"code":"engine_failure"},"request_id":"r1"}\n\n'
    )
    assert stream.ended


def test_a_silence_is_a_ping() -> None:
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'
    assert MessageStream.framing.silence(None) == ping
    coming = Loading(request_id="r", model="m", state=ModelState.LOADING, position=1, progress=0.5)
    assert MessageStream.framing.silence(coming) == (
        b": loading m, 1 before it, 50% read\n\n" + ping
    )


def test_in_one_piece_with_what_was_cached() -> None:
    end = Finished(
        request_id="r",
        reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=9, completion_tokens=2, cached_tokens=4),
        timings=Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0),
    )
    told = whole_answer(HEAD, Choice(results=(delta("a"), delta("b")), finished=end))
    assert told["content"] == [{"type": "text", "text": "ab"}]
    assert told["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 2,
    }
    assert whole_answer(HEAD, Choice(results=(), finished=end))["content"] == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_types_of_errors(status: int, kind: str) -> None:
    assert type_of(status) == kind


def test_errors_to_the_letter() -> None:
    refusal = Refusal.of(Failed.of("x", QueueFull("full")))
    assert error_body(refusal) == (
        b'{"type":"error","error":{"type":"rate_limit_error","message":"full","code":"queue_full"},'
        b'"request_id":null}'
    )
    figures = {"context_tokens": 100, "prompt_tokens": 120}
    long: Any = msgspec.json.decode(
        error_body(Refusal.of(ContextExceeded("too long", figures=figures)))
    )
    assert long["error"]["message"] == "prompt is too long: 120 tokens > 99 maximum"
