"""OpenAI's responses to the letter: streams, and what they come to in one piece."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from nsedge.api import (
    Delta,
    FinishReason,
    Logprobs,
    ReasoningDelta,
    Result,
    Role,
    TokenLogprob,
    ToolCallDelta,
)
from nsedge.web.doors.openai.responses.answers import (
    Building,
    ResponseStream,
    answer_of,
    whole_answer,
)
from nsedge.web.doors.openai.responses.bodies import ResponsesBody
from tests.unit.web.events import FAILED, STARTED, delta, finished, whole


def building(**body: Any) -> Building:
    counts = itertools.count()
    asked = msgspec.convert({"model": "m", "input": "hi", **body}, ResponsesBody)
    return Building(
        id="resp_1", created=7, body=asked, new_id=lambda prefix: f"{prefix}_{next(counts)}"
    )


def response(
    status: bytes, output: bytes, usage: bytes = b"null", details: bytes = b"null"
) -> bytes:
    return (
        b'{"id":"resp_1","object":"response","created_at":7,"status":"' + status + b'",'
        b'"background":false,"error":null,"incomplete_details":' + details + b","
        b'"instructions":null,"max_output_tokens":null,"metadata":{},"model":"m",'
        b'"output":' + output + b',"parallel_tool_calls":true,"previous_response_id":null,'
        b'"reasoning":{"effort":null,"summary":null},"store":true,"temperature":null,'
        b'"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,'
        b'"truncation":"disabled","usage":' + usage + b',"user":null}'
    )


def event(number: int, kind: bytes, fields: bytes) -> bytes:
    head = b"event: " + kind + b'\ndata: {"type":"' + kind + b'","sequence_number":%d,' % number
    return head + fields + b"}\n\n"


BEGUN = response(b"in_progress", b"[]")
USAGE = (
    b'{"input_tokens":3,"input_tokens_details":{"cached_tokens":0},"output_tokens":2,'
    b'"output_tokens_details":{"reasoning_tokens":0},"total_tokens":5}'
)
PLACE = b'"item_id":"msg_0","output_index":0,"content_index":0'
PART = b'{"type":"output_text","text":"ab","annotations":[],"logprobs":[]}'


def test_a_text_to_the_letter() -> None:
    told = whole(
        ResponseStream(building(), lambda *_: None), STARTED, delta("a"), delta("b"), finished()
    )
    item = (
        b'{"id":"msg_0","type":"message","status":"completed","content":[' + PART + b"],"
        b'"role":"assistant"}'
    )
    assert told == b"".join(
        [
            event(0, b"response.created", b'"response":' + BEGUN),
            event(1, b"response.in_progress", b'"response":' + BEGUN),
            event(
                2,
                b"response.output_item.added",
                b'"output_index":0,"item":{"id":"msg_0","type":"message","status":"in_progress",'
                b'"content":[],"role":"assistant"}',
            ),
            event(
                3,
                b"response.content_part.added",
                PLACE + b',"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}',
            ),
            event(4, b"response.output_text.delta", PLACE + b',"delta":"a","logprobs":[]'),
            event(5, b"response.output_text.delta", PLACE + b',"delta":"b","logprobs":[]'),
            event(6, b"response.output_text.done", PLACE + b',"text":"ab","logprobs":[]'),
            event(7, b"response.content_part.done", PLACE + b',"part":' + PART),
            event(8, b"response.output_item.done", b'"output_index":0,"item":' + item),
            event(
                9,
                b"response.completed",
                b'"response":' + response(b"completed", b"[" + item + b"]", USAGE),
            ),
        ]
    )


def piece(arguments: str, name: str | None = None, index: int = 0) -> ToolCallDelta:
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
CALLED: tuple[Result, ...] = (
    THOUGHT,
    delta("a"),
    piece("{", "look"),
    piece("}"),
    piece("", "go", 1),
)


def kinds(told: bytes) -> list[str]:
    return [line[7:].decode() for line in told.splitlines() if line.startswith(b"event: ")]


def test_items_of_every_kind_follow_each_other() -> None:
    end = finished(FinishReason.TOOL_CALLS)
    told = whole(ResponseStream(building(), lambda *_: None), STARTED, *CALLED, end)
    assert kinds(told)[2:] == [
        "response.output_item.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_items_of_every_kind_in_one_piece() -> None:
    told = whole_answer(building(), CALLED, finished(FinishReason.TOOL_CALLS))
    assert told["output"] == [
        {
            "id": "rs_0",
            "type": "reasoning",
            "status": "completed",
            "content": [{"type": "reasoning_text", "text": "hm"}],
            "summary": [],
        },
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}],
        },
        {
            "id": "fc_2",
            "type": "function_call",
            "status": "completed",
            "name": "look",
            "call_id": "c0",
            "arguments": "{}",
        },
        {
            "id": "fc_3",
            "type": "function_call",
            "status": "completed",
            "name": "go",
            "call_id": "c1",
            "arguments": "",
        },
    ]


def test_what_was_thought_is_counted() -> None:
    usage = whole_answer(building(), CALLED, finished())["usage"]
    assert usage["output_tokens_details"] == {"reasoning_tokens": 1}


def test_what_the_conversation_goes_on_from() -> None:
    turn = answer_of(CALLED)
    assert (turn.role, turn.content, turn.reasoning) == (Role.ASSISTANT, "a", "hm")
    assert [(call.id, call.name, call.arguments) for call in turn.tool_calls] == [
        ("c0", "look", "{}"),
        ("c1", "go", ""),
    ]


def test_an_answer_that_was_cut() -> None:
    told = whole_answer(building(), (delta("a"),), finished(FinishReason.LENGTH))
    assert (told["status"], told["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert told["output"][0]["status"] == "incomplete"
    stream = ResponseStream(building(), lambda *_: None)
    cut = whole(stream, STARTED, delta("a"), finished(FinishReason.LENGTH))
    assert kinds(cut)[-1] == "response.incomplete"


def test_a_failure_in_mid_stream() -> None:
    kept: list[Any] = []
    stream = ResponseStream(building(), lambda *found: kept.append(found))
    told = whole(stream, STARTED, delta("a"), FAILED)
    assert kinds(told)[-1] == "response.failed"
    last = msgspec.json.decode(told.rpartition(b"data: ")[2])
    assert last["response"]["error"] == {
        "code": "engine_failure",
        "message": "broke",
        "type": "server_error",
        "param": None,
    }
    assert (last["response"]["status"], kept, stream.ended) == ("failed", [], True)


def test_log_probabilities() -> None:
    other = TokenLogprob(id=2, logprob=-1.0, text="b")
    one = Logprobs(id=1, logprob=-0.5, rank=1, text="a", top=(other,))
    likely = Delta(request_id="r", seq=0, text="a", token_ids=(1,), logprobs=(one,))
    told = whole_answer(building(), (likely,), finished())
    assert told["output"][0]["content"][0]["logprobs"] == [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": [98]}],
        }
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, {"type": "text"}),
        ({"format": {"type": "json_object"}}, {"type": "json_object"}),
        (
            {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}},
            {"type": "json_schema", "name": "n", "schema": {}, "strict": True},
        ),
    ],
)
def test_what_was_asked_for_is_told_again(text: object, told: object) -> None:
    tools = [{"type": "function", "name": "f", "parameters": {}}]
    said = building(text=text, tools=tools, metadata={"a": "b"}).response("completed")
    assert said["text"] == {"format": told}
    assert said["metadata"] == {"a": "b"}
    assert said["tools"] == [
        {
            "type": "function",
            "name": "f",
            "description": None,
            "parameters": {},
            "strict": False,
        }
    ]
