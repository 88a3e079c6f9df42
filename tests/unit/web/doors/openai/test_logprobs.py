"""Log-probabilities in OpenAI's two shapes, whole and streamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import msgspec
import pytest

from nsedge.api import (
    Delta,
    Logprobs,
    PromptLogprobs,
    ReasoningDelta,
    TokenLogprob,
    ToolCallDelta,
)
from nsedge.errors import InvalidParameter
from nsedge.web.choices import Choice
from nsedge.web.doors.openai.answers import Head, chat_answer, completion_answer
from nsedge.web.doors.openai.logprobs import CompletionLogprobs, Telling, chat_logprobs
from nsedge.web.doors.openai.stream import ChatStream, CompletionStream, OpenAiStream
from tests.unit.web.doors.openai.asking import chat, completion
from tests.unit.web.events import STARTED, finished, whole

HEAD = Head(id="i", created=7, model="m")
TELLING = Telling(logprobs=5)
END = TokenLogprob(id=0, logprob=-3.0, text="<end>", special=True)


def likely(token: int, text: str, raw: bytes | None = None, **fields: Any) -> Logprobs:
    own = TokenLogprob(id=token, logprob=-0.5, text=text, raw=raw)
    one = Logprobs(id=token, logprob=-0.5, rank=1, text=text, raw=raw, top=(own, END))
    return replace(one, **fields)


A = likely(1, " a")
HALF, REST = likely(2, "\\xc3", b"\xc3"), likely(3, "\\xa9", b"\xa9")


def delta(seq: int, text: str, *tokens: Logprobs) -> Delta:
    ids = tuple(one.id for one in tokens)
    return Delta(request_id="r", seq=seq, text=text, token_ids=ids, logprobs=tokens)


DELTAS = (delta(0, " a", A), delta(1, "é", HALF, REST), delta(2, "", A))


def test_a_chat_tells_tokens_as_openai_does() -> None:
    assert chat_logprobs([A, HALF], TELLING) == {
        "content": [
            {
                "token": " a",
                "logprob": -0.5,
                "bytes": [32, 97],
                "top_logprobs": [
                    {"token": " a", "logprob": -0.5, "bytes": [32, 97]},
                    {"token": "<end>", "logprob": -3.0, "bytes": None},
                ],
            },
            {
                "token": "\\xc3",
                "logprob": -0.5,
                "bytes": [195],
                "top_logprobs": [
                    {"token": "\\xc3", "logprob": -0.5, "bytes": [195]},
                    {"token": "<end>", "logprob": -3.0, "bytes": None},
                ],
            },
        ],
        "refusal": None,
    }


def test_a_completion_tells_them_as_openai_did() -> None:
    assert CompletionLogprobs(TELLING).of([A, HALF, REST, A]) == {
        "tokens": [" a", "bytes:\\xc3", "bytes:\\xa9", " a"],
        "token_logprobs": [-0.5] * 4,
        "top_logprobs": [
            {" a": -0.5, "<end>": -3.0},
            {"bytes:\\xc3": -0.5, "<end>": -3.0},
            {"bytes:\\xa9": -0.5, "<end>": -3.0},
            {" a": -0.5, "<end>": -3.0},
        ],
        "text_offset": [0, 2, 2, 3],
    }


def test_the_chosen_token_is_always_among_the_likeliest_of_a_completion() -> None:
    unlikely = likely(9, " z", logprob=-7.0, rank=40)
    (top,) = CompletionLogprobs(TELLING).of([unlikely])["top_logprobs"]
    assert top == {" z": -0.5, "<end>": -3.0}  # one of its name is likelier
    other = replace(unlikely, text=" y")
    (top,) = CompletionLogprobs(TELLING).of([other])["top_logprobs"]
    assert top == {" z": -0.5, "<end>": -3.0, " y": -7.0}


def test_the_first_token_of_a_prompt_has_none() -> None:
    first = likely(1, "a", logprob=None, rank=None, top=())
    told = CompletionLogprobs(TELLING).of([first, A])
    assert told["token_logprobs"] == [None, -0.5]
    assert told["top_logprobs"][0] is None


def test_tokens_go_by_their_ids_where_the_client_wants_it() -> None:
    by_ids = Telling(logprobs=5, as_ids=True)
    content = chat_logprobs([HALF], by_ids)["content"][0]
    assert (content["token"], content["bytes"]) == ("token_id:2", [195])
    told = CompletionLogprobs(by_ids).of([HALF])
    assert told["tokens"] == ["token_id:2"]
    assert set(told["top_logprobs"][0]) == {"token_id:2", "token_id:0"}


def chunks_of(stream: OpenAiStream, events: Sequence[Any] = DELTAS) -> list[dict[str, Any]]:
    written = whole(stream, STARTED, *events, finished())
    records = [one.removeprefix(b"data: ") for one in written.split(b"\n\n")]
    return [msgspec.json.decode(one)["choices"][0] for one in records if one[:1] == b"{"]


def test_a_chat_stream_brings_each_token_once_and_whole() -> None:
    stream = ChatStream(HEAD, choices=1, per_prompt=1, usage=False, telling=TELLING)
    chunks = chunks_of(stream)
    told = [chunk["logprobs"]["content"] for chunk in chunks if chunk["logprobs"]]
    answer = chat_answer(HEAD, [Choice(results=DELTAS, finished=finished())], 1, TELLING)
    (choice,) = answer["choices"]
    assert [len(tokens) for tokens in told] == [1, 2, 1]
    assert [*chain(*told)] == choice["logprobs"]["content"]
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == " aé"
    assert chunks[-1]["finish_reason"] == "stop"


def test_thoughts_and_calls_have_those_of_their_own_tokens_whole_and_streamed() -> None:
    said: dict[str, Any] = {"request_id": "r", "token_ids": (1,), "logprobs": (A,)}
    more = {"index": 0, "call_id": None, "name": None}
    events = (
        ReasoningDelta(seq=0, text="hm", **said),
        ToolCallDelta(seq=1, arguments="", **said, index=0, call_id="c", name="sun"),
        ToolCallDelta(seq=2, arguments='{"a"', **said | {"logprobs": (HALF, REST)}, **more),
        ToolCallDelta(seq=3, arguments=":1}", **said | {"logprobs": ()}, **more),
        delta(4, "", A),
    )
    stream = ChatStream(HEAD, choices=1, per_prompt=1, usage=False, telling=TELLING)
    opening, *pieces, closing = chunks_of(stream, events)
    names = [[*piece["delta"]] for piece in pieces]
    assert names == [["reasoning_content"], *[["tool_calls"]] * 3, ["content"]]
    told = [piece["logprobs"] and piece["logprobs"]["content"] for piece in pieces]
    tokens = [found and [one["token"] for one in found] for found in told]
    assert tokens == [[" a"], [" a"], ["\\xc3", "\\xa9"], None, [" a"]]
    assert (opening["logprobs"], closing["logprobs"]) == (None, None)
    (choice,) = chat_answer(HEAD, [Choice(results=events, finished=finished())], 1, TELLING)[
        "choices"
    ]
    assert choice["logprobs"]["content"] == [*chain(*(found for found in told if found))]


def test_a_completion_stream_counts_offsets_on() -> None:
    stream = CompletionStream(HEAD, choices=1, per_prompt=1, usage=False, telling=TELLING)
    chunks = [chunk for chunk in chunks_of(stream) if chunk["logprobs"]]
    answer = completion_answer(HEAD, [Choice(results=DELTAS, finished=finished())], 1, TELLING)
    (choice,) = answer["choices"]
    for name, values in choice["logprobs"].items():
        assert [*chain(*(chunk["logprobs"][name] for chunk in chunks))] == values
    assert [chunk["text"] for chunk in chunks] == [" a", "é", ""]


# Prompts.

FIRST = likely(1, "On", logprob=None, rank=None, top=())
SCORED = (
    PromptLogprobs(request_id="r", first=0, logprobs=(FIRST, HALF)),
    PromptLogprobs(request_id="r", first=2, logprobs=(REST,)),
)
ECHO = replace(TELLING, echo=("Oné",))


def completed(telling: Telling) -> dict[str, Any]:
    choice = Choice(results=(*SCORED, *DELTAS), finished=finished())
    answer = completion_answer(HEAD, [choice], 1, telling)
    (told,) = answer["choices"]
    return {**told, "usage": answer["usage"]}


def test_an_echo_is_the_prompt_before_the_text_with_offsets_through_both() -> None:
    plain = completed(replace(ECHO, logprobs=None))
    assert (plain["text"], plain["logprobs"]) == ("Oné aé", None)
    told = completed(ECHO)
    assert told["text"] == "Oné aé"
    logprobs = told["logprobs"]
    assert logprobs["tokens"] == [
        "On", "bytes:\\xc3", "bytes:\\xa9", " a", "bytes:\\xc3", "bytes:\\xa9", " a",
    ]  # fmt: skip
    assert logprobs["text_offset"] == [0, 2, 2, 3, 5, 5, 6]
    assert logprobs["token_logprobs"] == [None] + [-0.5] * 6
    assert logprobs["top_logprobs"][0] is None


def test_an_echo_may_be_all_that_is_told() -> None:
    told = completed(replace(ECHO, written=False))
    assert (told["text"], told["finish_reason"]) == ("Oné", "length")
    assert len(told["logprobs"]["tokens"]) == 3
    assert told["usage"]["completion_tokens"] == 0
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("count", [None, 1])
def test_a_streamed_echo_is_the_whole_one_in_pieces(count: int | None, written: bool) -> None:
    telling = replace(ECHO, logprobs=count, written=written)
    stream = CompletionStream(HEAD, choices=1, per_prompt=1, usage=True, telling=telling)
    written_bytes = whole(stream, STARTED, *SCORED, *DELTAS, finished())
    records = [one.removeprefix(b"data: ") for one in written_bytes.split(b"\n\n")]
    chunks = [msgspec.json.decode(one) for one in records if one[:1] == b"{"]
    *pieces, totals = chunks
    choices = [piece["choices"][0] for piece in pieces]
    wanted = completed(telling)
    assert "".join(choice["text"] for choice in choices) == wanted["text"]
    assert choices[0]["text"] == "Oné"
    if count is None:
        assert [choice["logprobs"] for choice in choices] == [None] * len(choices)
    else:
        for name, values in wanted["logprobs"].items():
            told = [choice["logprobs"][name] for choice in choices if choice["logprobs"]]
            assert [*chain(*told)] == values
    assert choices[-1]["finish_reason"] == wanted["finish_reason"]
    assert totals["usage"] == wanted["usage"]


def test_prompt_logprobs_are_vllms() -> None:
    telling = Telling(prompt_logprobs=1)
    assert completed(telling)["prompt_logprobs"] == [
        None,
        {"2": {"logprob": -0.5, "rank": 1, "decoded_token": "\\xc3"}},
        {"3": {"logprob": -0.5, "rank": 1, "decoded_token": "\\xa9"}},
    ]
    two = completed(replace(telling, prompt_logprobs=2))["prompt_logprobs"]
    assert two[1]["0"] == {"logprob": -3.0, "rank": 2, "decoded_token": "<end>"}
    unlikely = replace(SCORED[1], logprobs=(replace(REST, id=8, logprob=-9.0, rank=70),))
    choice = Choice(results=(unlikely,), finished=finished())
    answer = chat_answer(HEAD, [choice], 1, telling)
    assert answer["prompt_logprobs"] == [
        {
            "8": {"logprob": -9.0, "rank": 70, "decoded_token": "\\xa9"},
            "3": {"logprob": -0.5, "rank": 1, "decoded_token": "\\xa9"},
        }
    ]
    assert "prompt_logprobs" not in chat_answer(HEAD, [choice], 1)


def test_no_line_end_of_a_token_ends_a_record() -> None:
    stream = ChatStream(HEAD, choices=1, per_prompt=1, usage=False, telling=TELLING)
    written = whole(stream, delta(0, "\u2028", likely(4, "\u2028")))
    assert "\u2028".encode() not in written
    assert written.count(b"\\u2028") == 3


def test_what_is_asked_for_goes_to_the_core() -> None:
    assert chat(logprobs=True)[0].task.sampling.logprobs == 0
    assert chat(logprobs=True, top_logprobs=5)[0].task.sampling.logprobs == 5
    assert chat(logprobs=False)[0].task.sampling.logprobs is None
    assert completion(logprobs=0)[0].task.sampling.logprobs == 0
    assert completion(logprobs=5)[0].task.sampling.logprobs == 5


@pytest.mark.parametrize(
    ("route", "fields", "param"),
    [
        (chat, {"top_logprobs": 3}, "top_logprobs"),
        (chat, {"logprobs": True, "top_logprobs": 101}, "top_logprobs"),
        (chat, {"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        (chat, {"logprobs": 3}, "logprobs"),
        (completion, {"logprobs": 101}, "logprobs"),
        (completion, {"logprobs": True}, "logprobs"),
    ],
)
def test_what_cannot_be_told_is_refused(route: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        route(**fields)
    assert caught.value.param == param
