"""Bodies -> requests: what is refused, and by which name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsedge.errors import BadMessage, EmptyPrompt, InvalidParameter, MessageTooLarge, NsedgeError
from nsedge.web.bodies import decode
from nsedge.web.doors.openai.bodies import ChatBody, CompletionBody
from nsedge.web.doors.openai.requests import CHAT_OTHERS, COMPLETION_OTHERS
from nsedge.web.other_fields import NEUTRAL
from tests.unit.web.doors.openai.asking import CALL, NAMED, SUN, USER, allowed, chat, completion


@pytest.mark.parametrize("route", [chat, completion])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temprature": 0.5}, "'temprature' is not a field that is known here; did you mean temp"),
        ({"max_token": 5}, "did you mean max_tokens?"),
        ({"zzz": 1}, "'zzz' is not a field that is known here"),
        ({"n_predict": 5}, "n_predict is not supported here; max_tokens is"),
    ],
)
def test_what_may_be_a_slip_is_not_passed_over(
    route: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        route(**fields)
    assert caught.value.param == next(iter(fields))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("route", "name"),
    [
        (route, name)
        for route, body in ((chat, ChatBody), (completion, CompletionBody))
        for name in sorted(set(NEUTRAL) - set(body.__struct_fields__))
    ],
)
def test_what_cannot_be_had_is_refused_by_name_unless_it_asks_for_nothing(
    route: Any, name: str
) -> None:
    own = (CHAT_OTHERS if route is chat else COMPLETION_OTHERS).own
    for value in own.get(name, NEUTRAL[name]):
        assert route(**{name: value}) == route()
    with pytest.raises(InvalidParameter, match=f"^{name} is not supported here") as caught:
        route(**{name: {"something": "else"}})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs"),
        ({"structural_tag": "x"}, "structural_tag"),
        ({"guided_whitespace_pattern": " ?"}, "guided_whitespace_pattern"),
        ({"add_special_tokens": True}, "add_special_tokens"),
        ({"stream_options": {"continuous_usage_stats": True}}, "stream_options"),
        ({"top_p": -0.1}, "top_p"),
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
        ({"messages": [USER | {"content": "x" * 501}]}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [USER, USER | {"role": "robot"}]}, "messages[1].role"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"messages": [USER | {"refusal": "no"}]}, "messages[0].refusal"),
        (
            {"messages": [USER | {"content": [{"type": "refusal", "refusal": "no"}]}]},
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "prefix": True}, USER]},
            "messages[0].prefix",
        ),
        ({"messages": [USER | {"partial": True}]}, "continue_final_message"),
        ({"continue_final_message": True}, "continue_final_message"),
        (
            {
                "messages": [{"role": "assistant", "content": "x"}],
                "continue_final_message": True,
                "add_generation_prompt": True,
            },
            "continue_final_message",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tools": [SUN, SUN]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": 1}}]},
            "tools",
        ),
        ({"tools": [SUN], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [SUN], "tool_choice": NAMED | {"function": {"name": "rain"}}}, "tool_choice"),
        ({"tools": [SUN], "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"tools": [SUN], "tool_choice": allowed("auto", "rain")}, "tool_choice"),
        ({"functions": [SUN["function"]]}, "functions"),
        ({"function_call": {"name": "sun"}}, "function_call"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs"),
        ({"reasoning_format": "odd"}, "reasoning_format"),
        ({"messages": [USER | {"tool_calls": [CALL]}]}, "messages"),
        ({"messages": [USER | {"reasoning_content": "hm"}]}, "messages"),
        ({"messages": [USER | {"tool_call_id": "c"}]}, "messages"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [CALL | {"type": "custom"}]}]},
            "messages[0].tool_calls[0].type",
        ),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
            "messages[0].tool_calls[0]",
        ),
        (
            {"messages": [USER | {"content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
        ),
        (
            {"messages": [USER | {"content": [{"type": "file", "image_url": "data:,"}]}]},
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
        ({"prompt": [1, "x"]}, "prompt"),
        ({"prompt": [[1, -2]]}, "prompt"),
        ({"prompt": [[1, 2]], "echo": True}, "echo"),
        ({"prompt": ["x" * 260, "y" * 260]}, "prompt"),
        ({"prompt": ["a"] * 3, "n": 2}, "n"),
        ({"logprobs": 101}, "logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"add_special_tokens": False}, "add_special_tokens"),
        ({"n": 2, "best_of": 1}, "best_of"),
        ({"best_of": 0}, "best_of"),
        ({"best_of": 5}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": "many"}, "best_of"),
        ({"prompt_logprobs": 101}, "prompt_logprobs"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"echo": 3}, "echo"),
        ({"echo": True, "suffix": "x"}, "echo"),
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
    assert chat(top_p=0)[0].task.sampling.top_p == 0
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
    fields=st.dictionaries(st.sampled_from(sorted({*ChatBody.__struct_fields__, *NEUTRAL})), JSON),
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
        request.task.sampling.check()
