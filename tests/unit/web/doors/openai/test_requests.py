"""Bodies -> requests: what is taken over, what is refused and by which name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsedge.api import (
    MAX_SEED,
    ChatPrompt,
    Message,
    Priority,
    Request,
    Role,
    Sampling,
    TextPrompt,
)
from nsedge.errors import BadMessage, EmptyPrompt, InvalidParameter, MessageTooLarge, NsedgeError
from nsedge.web.bodies import decode
from nsedge.web.doors.openai.bodies import ChatBody, CompletionBody
from nsedge.web.doors.openai.requests import chat_requests, completion_requests
from nsedge.web.limits import WebLimits

LIMITS = WebLimits(max_messages=4, max_prompt_chars=100, max_choices=4)
USER = {"role": "user", "content": "Hi"}


def chat(**fields: Any) -> tuple[Request, ...]:
    raw = msgspec.json.encode({"model": "m", "messages": [USER]} | fields)
    return chat_requests(decode(raw, ChatBody), "r", LIMITS)


def completion(**fields: Any) -> tuple[Request, ...]:
    raw = msgspec.json.encode({"model": "m", "prompt": "Hi"} | fields)
    return completion_requests(decode(raw, CompletionBody), "r", LIMITS)


def test_a_bare_chat_leaves_every_choice_to_the_bundle() -> None:
    turn = Message(role=Role.USER, content="Hi")
    assert chat() == (Request(request_id="r", model="m", prompt=ChatPrompt(messages=(turn,))),)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (None, Priority.NORMAL),
        ("interactive", Priority.INTERACTIVE),
        ("batch", Priority.BATCH),
        (0, Priority.NORMAL),
        (-3, Priority.INTERACTIVE),
        (10, Priority.BATCH),
    ],
)
def test_a_priority_is_a_class_or_a_number_as_in_vllm(said: Any, meant: Priority) -> None:
    for request in (*chat(priority=said, n=2), *completion(priority=said)):
        assert request.priority is meant


def test_a_deadline_is_taken_over() -> None:
    assert [request.deadline_s for request in chat(deadline_s=2.5, n=2)] == [2.5, 2.5]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"priority": "urgent"}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": -1.0}, "deadline_s"),
        ({"deadline_s": "soon"}, "deadline_s"),
    ],
)
def test_scheduling_that_cannot_be_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        chat(**fields)
    assert caught.value.param == param


def test_every_sampling_field_is_taken_over() -> None:
    (request,) = chat(
        temperature=0,
        top_p=0.9,
        presence_penalty=-1,
        frequency_penalty=0.5,
        logit_bias={"12": -100, "7": 1.5},
        seed=3,
        stop=["a", "b"],
        max_completion_tokens=9,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        min_tokens=2,
        ignore_eos=True,
        clip_max_tokens=True,
    )
    assert request.sampling == Sampling(
        temperature=0.0,
        top_k=40,
        top_p=0.9,
        min_p=0.05,
        repetition_penalty=1.1,
        presence_penalty=-1.0,
        frequency_penalty=0.5,
        logit_bias={12: -100.0, 7: 1.5},
        seed=3,
        stop=("a", "b"),
        max_tokens=9,
        min_tokens=2,
        ignore_eos=True,
        clip_max_tokens=True,
    )


def test_null_is_absent() -> None:
    fields = set(ChatBody.__struct_fields__) - {"model", "messages"}
    assert chat(**dict.fromkeys(fields)) == chat()


def test_unknown_fields_are_ignored() -> None:
    assert chat(user="u", store=True, service_tier="auto", metadata={"a": [1]}) == chat()


@pytest.mark.parametrize(
    ("role", "ours"),
    [
        ("system", Role.SYSTEM),
        ("developer", Role.SYSTEM),
        ("user", Role.USER),
        ("assistant", Role.ASSISTANT),
        ("tool", Role.TOOL),
        ("function", Role.TOOL),
    ],
)
def test_roles(role: str, ours: Role) -> None:
    (request,) = chat(messages=[{"role": role, "content": "x", "name": "n"}])
    assert request.prompt == ChatPrompt(messages=(Message(role=ours, content="x"),))


def test_text_parts_are_joined_by_lines() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    (request,) = chat(messages=[{"role": "user", "content": parts}])
    assert request.prompt == ChatPrompt(messages=(Message(role=Role.USER, content="one\ntwo"),))


def test_stop_may_be_one_string() -> None:
    assert chat(stop="END")[0].sampling.stop == ("END",)


def test_a_negative_seed_wraps() -> None:
    assert chat(seed=-1)[0].sampling.seed == MAX_SEED
    assert chat(seed=MAX_SEED)[0].sampling.seed == MAX_SEED


def test_n_choices_are_n_requests_with_seeds_of_their_own() -> None:
    requests = chat(n=3, seed=MAX_SEED)
    assert [request.request_id for request in requests] == ["r/0", "r/1", "r/2"]
    assert [request.sampling.seed for request in requests] == [MAX_SEED, 0, 1]
    assert {request.sampling.seed for request in chat(n=2)} == {None}


def test_prompts_of_a_completion_come_in_turn() -> None:
    prompts = [request.prompt for request in completion(prompt=["a", "b"], n=2)]
    assert prompts == [TextPrompt(text=text) for text in "aabb"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{}]}, "functions"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"n": 0}, "n"),
        ({"n": 5}, "n"),
        ({"n": 10**30}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
        ({"max_tokens": 2**63 - 1}, "max_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"seed": 10**400}, "seed"),
        ({"temperature": 11}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"min_tokens": 3, "max_tokens": 2}, "min_tokens"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [USER] * 5}, "messages"),
        ({"messages": [USER | {"content": "x" * 101}]}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [USER, USER | {"role": "robot"}]}, "messages[1].role"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
            "messages[0].tool_calls",
        ),
        (
            {"messages": [USER | {"content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [USER | {"content": [{"type": "text"}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_a_chat_cannot_have_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(NsedgeError) as caught:
        chat(**fields)
    assert isinstance(caught.value, InvalidParameter | EmptyPrompt | MessageTooLarge)
    assert caught.value.param == param
    assert param.split("[")[0] in caught.value.message or "n x prompts" in caught.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": ["x" * 60, "y" * 60]}, "prompt"),
        ({"prompt": ["a"] * 3, "n": 2}, "n"),
        ({"logprobs": 0}, "logprobs"),
        ({"echo": True}, "echo"),
        ({"suffix": "!"}, "suffix"),
        ({"best_of": 2}, "best_of"),
    ],
)
def test_what_a_completion_cannot_have_is_refused_by_name(
    fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(NsedgeError) as caught:
        completion(**fields)
    assert caught.value.param == param


def test_values_that_change_nothing_are_let_through() -> None:
    assert chat(
        tools=[],
        tool_choice="auto",
        logprobs=False,
        top_logprobs=0,
        response_format={"type": "text"},
        modalities=["text"],
        n=1,
    ) == chat(n=1)
    assert completion(echo=False, suffix="", best_of=2, n=2) == completion(n=2)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b'{"model": "m", "messages": [], "x": NaN}',
        b'{"model": "\xff", "messages": []}',
        b'{"model": "m", "messages": [], "x": "\xff"}',
        b'{"model": "\\ud800", "messages": []}',
        b'{"x":' + b"[" * 200_000,
        b'{"x":' + b'{"x":' * 200_000,
    ],
)
def test_what_is_not_usable_json_is_a_bad_message(raw: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        decode(raw, ChatBody)
    assert caught.value.message.startswith("the body ")


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidParameter, match="messages is missing") as caught:
        decode(b'{"model": "m"}', ChatBody)
    assert caught.value.param == "messages"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    fields=st.dictionaries(st.sampled_from(sorted(ChatBody.__struct_fields__)), JSON),
    route=st.sampled_from([chat, completion]),
)
def test_whatever_a_body_holds_it_is_taken_or_refused(fields: dict[str, Any], route: Any) -> None:
    requests, refusal = (), ""
    try:
        requests = route(**fields)
    except NsedgeError as error:
        refusal = error.message
    assert bool(requests) != bool(refusal)
    for request in requests:
        request.sampling.check()
