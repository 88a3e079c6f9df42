"""Events -> bytes, against golden sequences."""

from __future__ import annotations

import msgspec

from nsedge.api import FinishReason
from nsedge.web.choices import Choice
from nsedge.web.doors.openai.answers import Head, chat_answer, completion_answer
from nsedge.web.doors.openai.stream import ChatStream, CompletionStream
from tests.unit.web.events import CALLS, FAILED, STARTED, delta, finished, thought, whole

HEAD = Head(id="chatcmpl-1", created=7, model="m")


def chat_stream(choices: int = 1, *, usage: bool = False, per_prompt: int = 1) -> ChatStream:
    return ChatStream(HEAD, choices=choices, per_prompt=per_prompt, usage=usage)


CHUNK = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m",'
TEXT = b'data: {"id":"chatcmpl-1","object":"text_completion","created":7,"model":"m",'


def test_a_chat_stream_to_the_letter() -> None:
    stream = chat_stream()
    assert whole(stream, STARTED, delta("Hé"), delta(""), delta('"\n'), finished()) == (
        CHUNK + b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},'
        b'"logprobs":null,"finish_reason":null}]}\n\n'
        + CHUNK
        + '"choices":[{"index":0,"delta":{"content":"Hé"},'.encode()
        + b'"logprobs":null,"finish_reason":null}]}\n\n'
        + CHUNK
        + b'"choices":[{"index":0,"delta":{"content":"\\"\\n"},'
        b'"logprobs":null,"finish_reason":null}]}\n\n'
        + CHUNK
        + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
        b"data: [DONE]\n\n"
    )
    assert stream.ended


def test_calls_and_thoughts_to_the_letter() -> None:
    events = (STARTED, thought("Hm."), delta("So:"), *CALLS, finished(FinishReason.TOOL_CALLS))
    chunks = whole(chat_stream(), *events).split(b"\n\n")
    deltas = [b'"delta":' + chunk.split(b'"delta":')[1] for chunk in chunks[1:-2]]
    assert [one.split(b',"logprobs"')[0] for one in deltas] == [
        b'"delta":{"reasoning_content":"Hm."}',
        b'"delta":{"content":"So:"}',
        b'"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function",'
        b'"function":{"name":"sun","arguments":""}}]}',
        b'"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\""}}]}',
        b'"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}',
        b'"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function",'
        b'"function":{"name":"rain","arguments":"{}"}}]}',
        b'"delta":{}',
    ]
    assert deltas[-1].endswith(b'"finish_reason":"tool_calls"}]}')


def test_calls_and_thoughts_in_one_piece() -> None:
    end = finished(FinishReason.TOOL_CALLS)
    choice = Choice(results=(thought("Hm"), thought("."), delta("\n"), *CALLS), finished=end)
    (told,) = chat_answer(HEAD, [choice], 1)["choices"]
    assert told["finish_reason"] == "tool_calls"
    assert told["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Hm.",
        "tool_calls": [
            {
                "id": "call_a",
                "type": "function",
                "function": {"name": "sun", "arguments": '{"a":1}'},
            },
            {"id": "call_b", "type": "function", "function": {"name": "rain", "arguments": "{}"}},
        ],
    }


def test_usage_is_null_until_its_own_chunk() -> None:
    written = whole(chat_stream(usage=True), STARTED, delta("a"), finished(FinishReason.LENGTH))
    *chunks, last, done, end = written.split(b"\n\n")
    assert all(chunk.endswith(b',"usage":null}') for chunk in chunks)
    assert b'"finish_reason":"length"' in chunks[-1]
    assert last == (
        CHUNK + b'"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,'
        b'"prompt_tokens_details":{"cached_tokens":0}}}'
    )
    assert (done, end) == (b"data: [DONE]", b"")


def test_a_completion_stream_to_the_letter() -> None:
    stream = CompletionStream(HEAD, choices=1, per_prompt=1, usage=False)
    assert whole(stream, STARTED, delta("a"), finished()) == (
        b": started\n\n"
        + TEXT
        + b'"choices":[{"text":"a","index":0,"logprobs":null,"finish_reason":null}]}\n\n'
        + TEXT
        + b'"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}]}\n\n'
        b"data: [DONE]\n\n"
    )


def test_a_batch_is_the_same_bytes_as_its_events_one_by_one() -> None:
    events = [STARTED, delta("a"), delta("b"), finished()]
    together = chat_stream().encode([(0, event) for event in events])
    assert together == whole(chat_stream(), *events)


def test_a_failure_ends_the_stream_without_done() -> None:
    stream = chat_stream()
    written = whole(stream, STARTED, delta("a"), FAILED, delta("late"))
    assert written.endswith(
        b'data: {"error":{"message":"broke","type":"server_error","param":null,'
        b'"code":"engine_failure"}}\n\n'
    )
    assert b"late" not in written
    assert b"[DONE]" not in written
    assert stream.ended


def test_a_cancellation_nobody_asked_for_is_a_failure() -> None:
    written = whole(chat_stream(), STARTED, finished(FinishReason.CANCELLED))
    assert b'"code":"unavailable"' in written
    assert b"finish_reason" not in written.split(b"\n\n")[1]


def test_choices_open_and_end_apart_and_the_prompt_counts_once() -> None:
    stream = chat_stream(2, usage=True, per_prompt=2)
    first = stream.encode([(1, STARTED), (1, delta("x")), (0, STARTED), (1, finished())])
    assert first.count(b'"role":"assistant"') == 2
    assert not stream.ended
    last = stream.encode([(0, delta("y")), (0, finished())])
    assert (
        b'"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":0}}'
        in last
    )
    assert stream.ended


def test_a_lowered_max_tokens_is_owned_up_to() -> None:
    written = whole(chat_stream(), STARTED, finished(FinishReason.LENGTH, clipped_max_tokens=5))
    assert b'"finish_reason":"length","clipped_max_tokens":5}' in written


def test_a_model_name_cannot_break_the_frame() -> None:
    head = Head(id="i", created=0, model='\x00"}\n\ndata: x')
    stream = ChatStream(head, choices=1, per_prompt=1, usage=False)
    pieces = whole(stream, STARTED, delta("a")).split(b"\n\n")
    chunks = [msgspec.json.decode(piece.removeprefix(b"data: ")) for piece in pieces if piece]
    assert [chunk["model"] for chunk in chunks] == [head.model] * 2
    assert chunks[1]["choices"][0]["delta"] == {"content": "a"}


def test_the_answers_in_one_piece() -> None:
    choices = [Choice(results=(delta(text),), finished=finished()) for text in "ab"]
    assert chat_answer(HEAD, choices, 2) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
            for index, text in enumerate("ab")
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    assert completion_answer(HEAD, choices, 1)["choices"][1] == {
        "text": "b",
        "index": 1,
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert completion_answer(HEAD, choices, 1)["usage"]["prompt_tokens"] == 6
