"""Bodies -> requests: what is taken over, what is refused and by which name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsedge.api import (
    AdaptiveP,
    Chat,
    Dry,
    DynamicTemperature,
    Message,
    Mirostat,
    Priority,
    Request,
    Role,
    SamplerStep,
    Sampling,
    Xtc,
)
from nsedge.api.sampling import MAX_SEED
from nsedge.errors import BadMessage, EmptyPrompt, InvalidParameter, MessageTooLarge, NsedgeError
from nsedge.web.bodies import beyond, decode
from nsedge.web.doors.openai.bodies import ChatBody, CompletionBody
from nsedge.web.doors.openai.requests import (
    CHAT_OTHERS,
    COMPLETION_OTHERS,
    chat_requests,
    completion_requests,
)
from nsedge.web.limits import WebLimits
from nsedge.web.other_fields import HARMLESS, NEUTRAL

EDKYPMXT = (
    SamplerStep.PENALTIES,
    SamplerStep.DRY,
    SamplerStep.TOP_K,
    SamplerStep.TYPICAL_P,
    SamplerStep.TOP_P,
    SamplerStep.MIN_P,
    SamplerStep.XTC,
    SamplerStep.TEMPERATURE,
)
LIMITS = WebLimits(max_messages=4, max_prompt_chars=500, max_choices=4)
USER = {"role": "user", "content": "Hi"}
SUN: dict[str, Any] = {
    "type": "function",
    "function": {"description": "When it shines.", "name": "sun", "parameters": {}},
}
NAMED: dict[str, Any] = {"type": "function", "function": {"name": "sun"}}
CALL: dict[str, Any] = {
    "id": "c1",
    "type": "function",
    "function": {"name": "sun", "arguments": "{}"},
}


def chat(**fields: Any) -> tuple[Request, ...]:
    raw = msgspec.json.encode({"model": "m", "messages": [USER]} | fields)
    body = decode(raw, ChatBody)
    CHAT_OTHERS.check(beyond(raw, ChatBody), honoured=ChatBody.__struct_fields__)
    return chat_requests(body, "r", LIMITS)


def messages(request: Request) -> tuple[Message, ...]:
    assert isinstance(request.task, Chat)
    return request.task.messages


def allowed(mode: str, name: str) -> dict[str, Any]:
    tools = [NAMED | {"function": {"name": name}}]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def completion(**fields: Any) -> tuple[Request, ...]:
    raw = msgspec.json.encode({"model": "m", "prompt": "Hi"} | fields)
    body = decode(raw, CompletionBody)
    COMPLETION_OTHERS.check(beyond(raw, CompletionBody), honoured=CompletionBody.__struct_fields__)
    return completion_requests(body, "r", LIMITS)


def test_a_bare_chat_leaves_every_choice_to_the_bundle() -> None:
    turn = Message(role=Role.USER, content="Hi")
    task = Chat(messages=(turn,), split_reasoning=True)
    assert chat() == (Request(request_id="r", model="m", task=task),)


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
    assert [request.deadline_s for request in chat(deadline_s=2.5, n=2)] == [2.5]


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
    assert request.task.sampling == Sampling(
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


STEPS = {
    "typical_p": 0.9,
    "top_n_sigma": 1.5,
    "min_keep": 2,
    "penalty_last_n": 64,
    "no_repeat_ngram_size": 3,
    "allowed_token_ids": [1, 2],
    "banned_token_ids": [3],
    "bad_words": ["sorry"],
    "stop_token_ids": [4],
    "dynatemp_range": 0.5,
    "dynatemp_exponent": 2,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.2,
    "dry_multiplier": 0.8,
    "dry_base": 2,
    "dry_allowed_length": 3,
    "dry_penalty_last_n": 256,
    "dry_sequence_breakers": ["."],
    "mirostat": 2,
    "mirostat_tau": 4,
    "mirostat_eta": 0.2,
    "adaptive_target": 0.5,
    "adaptive_decay": 0.8,
    "samplers": ["top_k", "typ_p", "temp"],
}


@pytest.mark.parametrize("route", [chat, completion])
def test_every_step_is_taken_over(route: Any) -> None:
    (request,) = route(**STEPS, max_tokens=5)
    assert request.task.sampling == Sampling(
        max_tokens=5,
        typical_p=0.9,
        top_n_sigma=1.5,
        min_keep=2,
        penalty_last_n=64,
        no_repeat_ngram_size=3,
        allowed_token_ids=(1, 2),
        banned_token_ids=(3,),
        bad_words=("sorry",),
        stop_token_ids=(4,),
        dynamic_temperature=DynamicTemperature(range=0.5, exponent=2.0),
        xtc=Xtc(probability=0.5, threshold=0.2),
        dry=Dry(
            multiplier=0.8,
            base=2.0,
            allowed_length=3,
            penalty_last_n=256,
            sequence_breakers=(".",),
        ),
        mirostat=Mirostat(tau=4.0, eta=0.2),
        adaptive_p=AdaptiveP(target=0.5, decay=0.8),
        samplers=(SamplerStep.TOP_K, SamplerStep.TYPICAL_P, SamplerStep.TEMPERATURE),
    )


def test_neutral_values_of_llama_cpps_clients_ask_for_nothing() -> None:
    neutral = {
        "top_k": -1,
        "top_n_sigma": None,
        "dynatemp_range": 0,
        "xtc_probability": 0.0,
        "dry_multiplier": 0,
        "mirostat": 0,
        "adaptive_target": -1,
    }
    details = {name: STEPS[name] for name in STEPS if name.partition("_")[0] in ("xtc", "dry")}
    details |= {"dynatemp_exponent": 1, "mirostat_tau": 5, "adaptive_decay": 0.9}
    assert chat(**{**details, **neutral}) == chat(top_k=0)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"repeat_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"repeat_last_n": 0}, {"penalty_last_n": 0}),
        ({"samplers": "edkypmxt"}, {"samplers": EDKYPMXT}),
        ({"samplers": ["Top-K", "min-p"]}, {"samplers": EDKYPMXT[2:3] + EDKYPMXT[5:6]}),
        ({"samplers": []}, {"samplers": ()}),
        (
            {"logit_bias": [[5, 1.5], [7, False], [9, -2]]},
            {"logit_bias": {5: 1.5, 9: -2.0}, "banned_token_ids": (7,)},
        ),
        (
            {"logit_bias": {"5": 1.5, "7": False}, "banned_token_ids": [1]},
            {"logit_bias": {5: 1.5}, "banned_token_ids": (1, 7)},
        ),
    ],
)
def test_other_names_and_forms(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    (request,) = chat(**fields)
    assert {name: getattr(request.task.sampling, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"mirostat": 1}, "mirostat", "mirostat 1 is not supported; 2 is, and 0 is off"),
        ({"samplers": ["tfs_z"]}, "samplers", "samplers: 'tfs_z' is none of penalties, dry"),
        ({"samplers": "kif"}, "samplers", "samplers: 'i' is none of e, d, s, k"),
        ({"samplers": "kk"}, "samplers", "samplers has top_k twice"),
        ({"repeat_penalty": 0}, "repeat_penalty", "repeat_penalty must be above 0.0"),
        ({"repeat_last_n": -2}, "repeat_last_n", "repeat_last_n must be at least -1"),
        (
            {"repeat_penalty": 1.1, "repetition_penalty": 1.2},
            "repetition_penalty",
            "repeat_penalty 1.1 and repetition_penalty 1.2 differ",
        ),
        ({"xtc_probability": 2}, "xtc_probability", "xtc_probability must be at least 0.0"),
        ({"dry_multiplier": 1, "dry_base": 0.5}, "dry_base", "dry_base must be at least 1.0"),
        ({"dynatemp_range": -1}, "dynatemp_range", "dynatemp_range must be at least 0.0"),
        ({"adaptive_target": 1.5}, "adaptive_target", "adaptive_target must be"),
        ({"mirostat": 2, "mirostat_tau": -1}, "mirostat_tau", "mirostat_tau must be"),
        ({"logit_bias": [["Hello", 1]]}, "logit_bias", "logit_bias[0] must begin with a token id"),
        ({"logit_bias": [[5, 10**400]]}, "logit_bias", "logit_bias[5] must be at least -100.0"),
        ({"logit_bias": [[5, True]]}, "logit_bias", "logit_bias[0] must be a number, or false"),
        ({"logit_bias": [[5, "x"]]}, "logit_bias", "logit_bias[0] must be a number, or false"),
        ({"logit_bias": [[5]]}, "logit_bias", "logit_bias"),
        ({"allowed_token_ids": []}, "allowed_token_ids", "allowed_token_ids entries"),
        ({"bad_words": [""]}, "bad_words", "a bad word's length"),
    ],
)
def test_steps_that_cannot_be_are_refused_by_name(
    fields: dict[str, Any], param: str, told: str
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        chat(**fields)
    assert told in caught.value.message
    assert (caught.value.param or "").partition("[")[0] == param


def test_null_is_absent() -> None:
    fields = {*ChatBody.__struct_fields__, *NEUTRAL, *HARMLESS} - {"model", "messages"}
    assert chat(**dict.fromkeys(fields)) == chat()


def test_fields_that_change_no_answer_are_taken() -> None:
    assert chat(user="u", store=True, service_tier="auto", metadata={"a": [1]}) == chat()
    others = HARMLESS - set(ChatBody.__struct_fields__)
    assert chat(**dict.fromkeys(others, "x")) == chat()


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
    assert messages(request) == (Message(role=ours, content="x", name="n"),)


def test_text_parts_are_joined_by_lines() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    (request,) = chat(messages=[{"role": "user", "content": parts}])
    assert messages(request) == (Message(role=Role.USER, content="one\ntwo"),)


@pytest.mark.parametrize(
    ("turn", "text"),
    [
        ({"content": [{"type": "refusal", "refusal": "I cannot."}]}, "I cannot."),
        ({"content": None, "refusal": "I cannot."}, "I cannot."),
        ({"refusal": "I cannot."}, "I cannot."),
        ({"content": "x", "refusal": None, "tool_calls": [], "annotations": []}, "x"),
    ],
)
def test_what_the_assistant_refused_is_part_of_the_history(turn: Any, text: str) -> None:
    (request,) = chat(messages=[USER, {"role": "assistant", **turn}, USER])
    assert messages(request)[1] == Message(role=Role.ASSISTANT, content=text)


def test_stop_may_be_one_string() -> None:
    assert chat(stop="END")[0].task.sampling.stop == ("END",)


def test_a_negative_seed_wraps() -> None:
    assert chat(seed=-1)[0].task.sampling.seed == MAX_SEED
    assert chat(seed=MAX_SEED)[0].task.sampling.seed == MAX_SEED


def test_n_choices_are_one_request() -> None:
    (request,) = chat(n=3, seed=MAX_SEED)
    assert (request.request_id, request.choices) == ("r", 3)
    assert request.task.sampling.seed == MAX_SEED
    assert [one.choices for one in (*chat(), *completion(n=4))] == [1, 4]


def test_the_best_of_several_are_told_by_their_log_probabilities() -> None:
    (request,) = completion(n=2, best_of=4)
    assert (request.choices, request.task.sampling.logprobs) == (4, 0)
    (request,) = completion(n=2, best_of=4, logprobs=3)
    assert request.task.sampling.logprobs == 3
    assert completion(n=2, best_of=2, stream=True) == completion(n=2)


def test_an_echo_wants_the_prompts_log_probabilities_where_it_tells_any() -> None:
    def of_prompt(**fields: Any) -> int | None:
        return completion(**fields)[0].task.sampling.prompt_logprobs

    assert of_prompt(echo=True) is None
    assert of_prompt(logprobs=3) is None
    assert of_prompt(echo=True, logprobs=3) == 3
    assert of_prompt(echo=True, logprobs=3, prompt_logprobs=5) == 5
    assert of_prompt(prompt_logprobs=0) == 0
    assert chat(prompt_logprobs=2)[0].task.sampling.prompt_logprobs == 2


def test_an_echo_may_be_all_that_is_wanted() -> None:
    (request,) = completion(echo=True, max_tokens=0)
    assert request.task.sampling.max_tokens == 1
    with pytest.raises(InvalidParameter) as caught:
        completion(max_tokens=0)
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("fields", "max_tokens", "clips"),
    [
        ({}, 16, True),
        ({"min_tokens": 40}, 40, True),
        ({"max_tokens": 9}, 9, False),
        ({"max_completion_tokens": 900}, 900, False),
    ],
)
def test_a_completion_that_gives_no_max_tokens_has_16(
    fields: dict[str, Any], max_tokens: int, clips: bool
) -> None:
    (request,) = completion(**fields)
    assert request.task.sampling.max_tokens == max_tokens
    assert request.task.sampling.clip_max_tokens is clips


def test_prompts_of_a_completion_come_in_turn() -> None:
    requests = completion(prompt=["a", "b"], n=2)
    assert [request.task.text for request in requests] == ["a", "b"]
    assert [request.request_id for request in requests] == ["r/0", "r/1"]
    assert [request.choices for request in requests] == [2, 2]


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
