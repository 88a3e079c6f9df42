"""Choices of one request among those of others, and the best of several."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nsedge.api import (
    ChoiceFailed,
    ChoiceFinished,
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Generate,
    Logprobs,
    PromptLogprobs,
    Request,
    Sampling,
    Started,
    Timings,
    Usage,
)
from nsedge.errors import QueueFull
from nsedge.web.choices import Choices
from nsedge.web.errors import Refusal, Refused
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL
from tests.web_server import PuppetService, PuppetTicket, Shim, ask, served

COMPLETIONS = "/v1/completions"
TIMINGS = Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0)


def asking(n: int, label: str = "r") -> Request:
    return Request(request_id=label, model=MODEL, task=Generate(text="x", sampling=Sampling(n=n)))


def delta(choice: int, text: str) -> Delta:
    return Delta(request_id="r", seq=0, text=text, token_ids=(1,), choice=choice)


def end(choice: int, logprob: float | None = None, tokens: int = 2) -> ChoiceFinished:
    return ChoiceFinished(
        request_id="r",
        choice=choice,
        reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=5, completion_tokens=tokens),
        timings=TIMINGS,
        cumulative_logprob=logprob,
    )


BROKE = ChoiceFailed(
    request_id="r", choice=1, code="internal", message="broke", retryable=False, param="seed"
)
ALL = Finished(
    request_id="r",
    reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=5, completion_tokens=6),
    timings=TIMINGS,
)


def play(scene: Callable[[PuppetService], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(PuppetService()), 60))


def test_each_choice_has_what_is_its_own() -> None:
    async def scene(service: PuppetService) -> None:
        first = Logprobs(id=1, logprob=None, rank=None, text="x")
        told = PromptLogprobs(request_id="r", first=0, logprobs=(first,))
        requests = [asking(1), asking(3), asking(1)]
        choices = Choices(service.submit, requests, at_once=99)
        async with choices:
            one, several, last = service.tickets
            for ticket, text in ((one, "first"), (last, "last")):
                ticket.start()
                ticket.say(text)
                ticket.finish()
            several.start()
            several.emit(told, delta(2, "c"), delta(0, "a"), delta(1, "b"), delta(0, "A"))
            several.emit(end(2), end(0), end(1), ALL)
            found = await choices.collect()
        assert [choice.text for choice in found] == ["first", "aA", "b", "c", "last"]
        assert [told in choice.results for choice in found] == [False, True, True, True, False]
        assert [choice.finished.usage.completion_tokens for choice in found] == [1, 2, 2, 2, 1]
        assert {type(choice.finished) for choice in found} == {Finished}
        assert len(several.taken) == 10, "every event of the service is taken once"

    play(scene)


def test_a_choice_that_broke_off_is_one_of_those_that_stand_apart() -> None:
    async def scene(service: PuppetService) -> None:
        choices = Choices(service.submit, [asking(3)], at_once=99, apart=True)
        async with choices:
            (ticket,) = service.tickets
            ticket.emit(delta(0, "a"), end(0), BROKE, end(2), ALL)
            first, broke, third = await choices.collect_each()
        assert isinstance(broke, Refusal)
        assert (broke.code, broke.message) == ("internal", "broke")
        assert not isinstance(first, Refusal)
        assert not isinstance(third, Refusal)

    play(scene)


def test_where_it_is_one_answer_a_choice_that_broke_off_ends_it() -> None:
    async def scene(service: PuppetService) -> None:
        choices = Choices(service.submit, [asking(3)], at_once=99)
        async with choices:
            service.tickets[0].emit(end(0), BROKE)
            with pytest.raises(Refused):
                await choices.collect()
        assert service.tickets[0].cancelled

    play(scene)


@pytest.mark.parametrize("ended", [0, 2])
def test_a_request_that_fails_fails_for_every_choice_that_has_not_ended(ended: int) -> None:
    async def scene(service: PuppetService) -> None:
        choices = Choices(service.submit, [asking(3)], at_once=99, apart=True)
        async with choices:
            (ticket,) = service.tickets
            ticket.emit(*(end(choice) for choice in range(ended)))
            ticket.refuse(QueueFull("full"))
            found = await choices.collect_each()
        assert [isinstance(one, Refusal) for one in found] == [
            choice >= ended for choice in range(3)
        ]

    play(scene)


def test_requests_wait_until_there_is_room_for_all_their_choices() -> None:
    async def scene(service: PuppetService) -> None:
        requests = [asking(3), asking(3), asking(1), asking(9)]
        choices = Choices(service.submit, requests, at_once=4)
        async with choices:
            assert len(service.tickets) == 1
            service.tickets[0].emit(*map(end, range(3)), ALL)
            assert len(service.tickets) == 3
            service.tickets[2].finish()
            assert len(service.tickets) == 3
            service.tickets[1].emit(*map(end, range(3)), ALL)
            assert len(service.tickets) == 4, "more than there is room for goes alone"
            service.tickets[3].emit(*map(end, range(9)), ALL)
            assert len(await choices.collect()) == 16

    play(scene)


def best_of(body: dict[str, Any], *events: Event) -> Any:
    """What a completion is answered with where the core says `events`."""
    service, found = PuppetService(), []

    async def test(shim: Shim) -> None:
        asked = {"model": MODEL, "prompt": "x", "max_tokens": 9} | body
        answer = asyncio.create_task(ask(shim.port, "POST", COMPLETIONS, asked))
        ticket: PuppetTicket = await service.ticket()
        ticket.start()
        ticket.emit(*events)
        found.append(await answer)

    served(test, service, limits=WebLimits())
    return found[0]


SAID = [delta(choice, f"<{choice}>") for choice in range(4)]


def test_the_best_are_those_of_the_greatest_mean() -> None:
    ends = [end(0, -4.0), end(1, -5.0, tokens=5), end(2, -1.0, tokens=1), end(3, -6.0)]
    answer = best_of({"n": 2, "best_of": 4}, *SAID, *ends, ALL)
    assert [one["text"] for one in answer.json["choices"]] == ["<1>", "<2>"]
    assert [one["index"] for one in answer.json["choices"]] == [0, 1]
    assert answer.json["choices"][0]["logprobs"] is None
    usage = answer.json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 10)
    assert usage["total_tokens"] == 15


def test_the_best_are_chosen_of_those_that_ended_well() -> None:
    ends = [end(0, -4.0), BROKE, end(2, -1.0), end(3, -6.0)]
    answer = best_of({"n": 2, "best_of": 4}, *SAID, *ends, ALL)
    assert [one["text"] for one in answer.json["choices"]] == ["<2>", "<0>"]


def test_where_too_few_ended_well_there_is_no_best() -> None:
    failed = [BROKE, *(ChoiceFailed(**FIELDS, choice=choice) for choice in (0, 2))]
    answer = best_of({"n": 2, "best_of": 4}, *SAID, *failed, end(3, -6.0), ALL)
    assert answer.status == 500
    assert answer.json["error"]["message"] == "broke"
    assert answer.json["error"]["param"] == "seed"


FIELDS: dict[str, Any] = {
    "param": "seed",
    "request_id": "r",
    "code": "internal",
    "message": "broke",
    "retryable": False,
}


def test_a_request_that_is_refused_is_refused_in_its_own_words() -> None:
    refusal = Failed.of("r", QueueFull("full"))
    answer = best_of({"n": 1, "best_of": 2}, refusal)
    assert (answer.status, answer.json["error"]["code"]) == (429, "queue_full")


def test_choices_of_a_stream_mix_and_end_apart() -> None:
    started = Started(request_id="r", prompt_tokens=5, queue_s=0.0)
    body = {"n": 2, "stream": True, "stream_options": {"include_usage": True}}
    events = [delta(1, "b"), delta(0, "a"), end(1), delta(0, "A"), end(0), ALL]
    answer = best_of(body, started, *events)
    *pieces, totals, done = answer.data
    told = [(p["choices"][0]["index"], p["choices"][0]["text"]) for p in pieces]
    assert told == [(1, "b"), (0, "a"), (1, ""), (0, "A"), (0, "")]
    assert (totals["usage"]["prompt_tokens"], totals["usage"]["completion_tokens"]) == (5, 4)
    assert done == "[DONE]"
