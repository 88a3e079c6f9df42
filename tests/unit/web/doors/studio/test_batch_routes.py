"""Batches of prompts and ensembles of models at the studio door."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec
import pytest

from nsedge.api import Request, Sink
from nsedge.errors import EngineFailure
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL
from tests.unit.web.doors.studio.asking import EVENTS
from tests.web_server import Connection, PuppetService, Shim, answered, ask, served, until

FIELDS = {"id", "title", "content", "category", "model_used", "generation_time"}


def test_a_batch_of_prompts_and_models_of_which_none_sinks_another() -> None:
    asked = {"prompts": ["a b", "", "c"], "models": [MODEL, "none"]}
    answer: Any = answered("POST", "/api/v1/generate/batch", asked).json
    ideas = answer["ideas"]
    assert [(one["content"], one["model_used"], one.get("code")) for one in ideas] == [
        ("a b", MODEL, None),
        ("", "none", "unknown_model"),
        ("", MODEL, "empty_prompt"),
        ("", "none", "unknown_model"),
        ("c", MODEL, None),
        ("", "none", "unknown_model"),
    ]
    assert all(set(one) >= FIELDS and one["category"] == "general" for one in ideas)
    assert ideas[0]["title"] == "a b"
    counts = (answer["total_count"], answer["success_count"], answer["failed_count"])
    assert counts == (6, 2, 4)
    assert answer["total_time"] > 0


def test_a_batch_whose_model_is_nowhere() -> None:
    asked = {"prompts": ["a"], "models": ["none"]}
    answer: Any = answered("POST", "/api/v1/generate/batch", asked).json
    assert (answer["success_count"], answer["failed_count"]) == (0, 1)
    told: Any = answered("POST", "/api/v1/generate/batch", asked, **EVENTS).data
    assert [one["type"] for one in told] == ["start", "idea", "complete"]


def test_one_that_fails_at_the_core_sinks_nobody() -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        asked = {"prompts": ["a", "b", "c"]}
        asking = asyncio.create_task(ask(shim.port, "POST", "/api/v1/generate/batch", asked))
        tickets = [await service.ticket(number) for number in range(3)]
        tickets[1].refuse(EngineFailure("broke"))
        for ticket in (tickets[2], tickets[0]):
            ticket.start()
            ticket.say("x")
            ticket.finish()
        answer: Any = (await asking).json
        assert [one.get("error") for one in answer["ideas"]] == [None, "broke", None]
        assert not any(ticket.cancelled for ticket in tickets)

    served(test, service)


@pytest.mark.parametrize(("parallel", "at_once"), [(True, 3), (False, 1), (None, 3)])
def test_a_batch_runs_at_once_or_in_turn(parallel: bool | None, at_once: int) -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        asked = {"prompts": ["a", "b", "c"], "parallel": parallel}
        asking = asyncio.create_task(ask(shim.port, "POST", "/api/v1/generate/batch", asked))
        await service.ticket()
        assert len(service.tickets) == at_once
        for number in range(3):
            ticket = await service.ticket(number)
            ticket.start()
            ticket.refuse(EngineFailure("broke")) if number == 0 else ticket.finish()
        assert (await asking).json["success_count"] == 2
        stats: Any = (await ask(shim.port, "GET", "/api/v1/stats")).json["batch_stats"]
        method = "model_batch" if parallel is False else "parallel_batch"
        assert stats["batch_methods"][method] == stats["total_batch_requests"] == 1

    served(test, service)


def test_a_batch_is_told_live_where_that_is_asked_for() -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        asked = {"prompts": ["a", "b"], "models": [MODEL]}
        connection.say("POST", "/api/v1/generate/batch", asked, **EVENTS)
        first, second = await service.ticket(0), await service.ticket(1)
        second.start()
        assert (await connection.head())[0] == 200
        assert await connection.chunk() == (
            b'data: {"type":"start","total_count":2,"progress":0.0}\n\n'
        )
        second.say("x")
        second.finish()
        told = msgspec.json.decode((await connection.chunk())[6:])
        assert (told["type"], told["progress"], told["idea"]["content"]) == ("idea", 0.5, "x")
        path = f"/api/v1/ideas/{told['idea']['id']}/rating"
        assert (await ask(shim.port, "POST", path, {"rating": 5})).status == 200
        first.refuse(EngineFailure("broke"))
        last = [
            msgspec.json.decode(line[6:])
            for line in (await connection.chunk()).split(b"\n\n")
            if line
        ]
        assert [one["type"] for one in last] == ["idea", "complete"]
        assert (last[1]["success_count"], last[1]["failed_count"]) == (1, 1)
        assert await connection.chunk() == b""
        await connection.close()

    served(test, service)


@pytest.mark.parametrize("headers", [{}, EVENTS])
def test_a_client_that_is_killed_cancels_all_that_it_asked_for(headers: dict[str, str]) -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.say("POST", "/api/v1/generate/batch", {"prompts": ["a", "b"]}, **headers)
        tickets = [await service.ticket(0), await service.ticket(1)]
        tickets[0].start()
        if headers:
            await connection.head()
        connection.abort()
        await until(lambda: all(ticket.cancelled for ticket in tickets))

    served(test, service)


@pytest.mark.parametrize("headers", [{}, EVENTS])
def test_a_server_that_stops_ends_what_still_runs_and_keeps_what_is_there(
    headers: dict[str, str],
) -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        asked = {"prompts": ["a", "b", "c"], "parallel": True}
        path = "/api/v1/generate/batch"
        asking = asyncio.create_task(ask(shim.port, "POST", path, asked, **headers))
        tickets = [await service.ticket(number) for number in range(3)]
        tickets[1].start()
        tickets[1].say("x")
        tickets[1].finish()
        await until(lambda: len(tickets[1].taken) == 3)
        shim.stop.set()
        answer = await asking
        told: Any = answer.data if headers else [{"idea": one} for one in answer.json["ideas"]]  # type: ignore[attr-defined]
        ideas = [one["idea"] for one in told if "idea" in one]
        assert sorted(one.get("code", one["content"]) for one in ideas) == [
            "draining",
            "draining",
            "x",
        ]
        assert tickets[0].cancelled

    served(test, service, WebLimits(drain_s=0.01))


class Models(PuppetService):
    """Several models, which say what they are told to."""

    says = {"m1": "Yes.", "m2": "no", "m3": "yes"}  # noqa: RUF012

    async def models(self) -> Any:
        (model,) = await super().models()
        return tuple(dataclasses.replace(model, name=name) for name in self.says)

    def submit(self, request: Request, sink: Sink) -> Any:
        puppet = super().submit(request, sink)
        loop = asyncio.get_running_loop()
        for step in (puppet.start, lambda: puppet.say(self.says[request.model]), puppet.finish):
            loop.call_soon(step)
        return puppet


def test_an_ensemble_gives_all_answers_or_a_vote() -> None:
    asked = {"prompt": "Is it?", "models": ["m1", "m2", "m3", "none"]}
    path = "/api/v1/generate/ensemble"
    answer: Any = answered("POST", path, asked, service=Models()).json
    assert answer["mode"] == "all"
    assert [one["content"] for one in answer["ideas"]] == ["Yes.", "no", "yes", ""]
    vote: Any = answered("POST", path, asked | {"mode": "vote"}, service=Models()).json
    assert vote["chosen"]["content"] == "Yes."
    assert [(one["count"], one["models"]) for one in vote["votes"]] == [
        (2, ["m1", "m3"]),
        (1, ["m2"]),
    ]
    told: Any = answered("POST", path, asked | {"mode": "vote"}, service=Models(), **EVENTS).data
    assert told[-1]["chosen"]["model_used"] == "m1"


def test_an_ensemble_asks_for_logprobs_where_the_best_is_wanted() -> None:
    for mode, wanted in (("all", None), ("best", 0)):
        service = Models()
        asked = {"prompt": "Is it?", "models": ["m1", "m2"], "mode": mode}
        answer = answered("POST", "/api/v1/generate/ensemble", asked, service=service)
        assert answer.json["mode"] == mode
        tasks = [ticket.request.task for ticket in service.tickets]
        assert [task.sampling.logprobs for task in tasks] == [wanted] * 2  # type: ignore[union-attr]
