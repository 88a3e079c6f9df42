"""Batches: their records to the letter, titles, votes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from nsedge.api import Chat, Failed, Logprobs, Request
from nsedge.errors import Draining
from nsedge.web.choices import Choice
from nsedge.web.doors.studio.batch import (
    BatchStream,
    Plan,
    answer_of,
    idea_of,
    likeliest,
    title_of,
    voted,
)
from nsedge.web.errors import Refusal
from tests.unit.web.events import FAILED, STARTED, delta, finished

ASKED = Request(request_id="r", model="m", task=Chat(messages=()))
UNKNOWN = Refusal(code="unknown_model", message="no model 'x'")


def plan(name: str, asked: Request | Refusal = ASKED) -> Plan:
    return Plan(idea_id=name, category="c", model="m", asked=asked)


def choice(text: str) -> Choice:
    return Choice(results=(delta(text),), finished=finished())


def gathered(plans: list[Plan]) -> Any:
    def gather(outcomes: list[Any]) -> dict[str, Any]:
        return answer_of([idea_of(p, o) for p, o in zip(plans, outcomes, strict=True)], 2.0)

    return gather


def test_a_batch_as_a_stream_to_the_letter() -> None:
    plans = [plan("i-0"), plan("i-1", UNKNOWN), plan("i-2")]
    there: list[str] = []
    stream = BatchStream(
        plans, there=lambda plan, choice: there.append(plan.idea_id), gather=gathered(plans)
    )
    assert stream.encode([(0, STARTED), (0, delta("# A\nb"))]) == (
        b'data: {"type":"start","total_count":3,"progress":0.0}\n\n'
        b'data: {"type":"idea","idea":{"id":"i-1","title":"","content":"","category":"c",'
        b'"model_used":"m","generation_time":0.0,"error":"no model \'x\'",'
        b'"code":"unknown_model"},"progress":0.3333}\n\n'
    )
    assert stream.encode([(1, FAILED)]) == (
        b'data: {"type":"idea","idea":{"id":"i-2","title":"","content":"","category":"c",'
        b'"model_used":"m","generation_time":0.0,"error":"broke","code":"engine_failure"},'
        b'"progress":0.6667}\n\n'
    )
    assert not stream.ended
    assert stream.encode([(0, finished())]) == (
        b'data: {"type":"idea","idea":{"id":"i-0","title":"A","content":"# A\\nb","category":"c",'
        b'"model_used":"m","generation_time":0.6},"progress":1.0}\n\n'
        b'data: {"type":"complete","progress":1.0,"total_count":3,"success_count":1,'
        b'"failed_count":2,"total_time":2.0,"average_time":0.6}\n\n'
    )
    assert (stream.ended, there) == (True, ["i-0"])


def test_a_server_that_stops_ends_all_that_run() -> None:
    plans = [plan("i-0"), plan("i-1")]
    stream = BatchStream(plans, there=lambda plan, choice: None, gather=gathered(plans))
    stream.encode([(1, finished())])
    told = stream.encode([(0, Failed.of(None, Draining("the server is stopping")))])
    ideas = [msgspec.json.decode(line[6:]) for line in told.split(b"\n\n") if line]
    assert [one["type"] for one in ideas] == ["idea", "complete"]
    assert (ideas[0]["idea"]["id"], ideas[0]["idea"]["code"]) == ("i-0", "draining")
    assert stream.ended


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("", ""),
        ("\n  \n## **A plan**\nmore", "A plan"),
        ("- one", "one"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "\u2026"),
    ],
)
def test_titles(text: str, title: str) -> None:
    assert title_of(text) == title


def test_times_are_those_of_what_went_well() -> None:
    ideas = [idea_of(plan("a"), choice("x")), idea_of(plan("b"), UNKNOWN)]
    answer = answer_of(ideas, 1.0)
    assert (answer["total_count"], answer["success_count"], answer["failed_count"]) == (2, 1, 1)
    assert answer["average_time"] == 0.6
    assert answer_of([idea_of(plan("b"), UNKNOWN)], 1.0)["average_time"] == 0.0


@pytest.mark.parametrize(
    ("texts", "chosen", "counts"),
    [
        (["Yes.", "no", "yes", " YES! "], "Yes.", [3, 1]),
        (["no", "Yes"], "no", [1, 1]),
        (["\u00e9", "e\u0301"], "\u00e9", [2]),
        (["...", "a"], "...", [1, 1]),
        ([], None, []),
    ],
)
def test_votes(texts: list[str], chosen: str | None, counts: list[int]) -> None:
    ideas = [idea_of(plan(str(at)), choice(text)) for at, text in enumerate(texts)]
    best, votes = voted([*ideas, idea_of(plan("f"), UNKNOWN)])
    assert (best and best["content"]) == chosen
    assert [vote["count"] for vote in votes] == counts


def sure(*logprobs: float | None) -> Choice:
    said = tuple(Logprobs(id=1, logprob=one, rank=1, text="x") for one in logprobs)
    return Choice(results=(replace(delta("x"), logprobs=said),), finished=finished())


def test_the_surest_is_the_best_by_the_mean_of_its_tokens() -> None:
    outcomes = [sure(-3.0, -1.0), sure(-1.0, -1.5, -1.25), UNKNOWN, sure(), sure(-1.25)]
    ideas = [idea_of(plan(str(at)), outcome) for at, outcome in enumerate(outcomes)]
    best = likeliest(ideas, outcomes)
    assert best is not None
    assert best["id"] == "1"
    assert [idea["mean_logprob"] for idea in ideas] == [-2.0, -1.25, None, None, -1.25]
    assert likeliest(ideas[2:3], outcomes[2:3]) is None
