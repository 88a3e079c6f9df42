"""Bodies -> requests: whom they ask, what is said, and how many answers they want."""

from __future__ import annotations

from typing import Any

import pytest

from nsedge.api import Chat, Message, Priority, Request, Role
from nsedge.api.sampling import MAX_SEED
from nsedge.errors import InvalidParameter
from tests.unit.web.doors.openai.asking import USER, chat, completion, messages


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
