"""Several choices of the real model: one reading of the prompt, and each as it is alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from nsedge.api import (
    ChoiceFinished,
    Constraint,
    Delta,
    Event,
    Finished,
    Generate,
    Sampling,
    is_terminal,
)
from nsedge.core.service import LocalService
from tests.integration.test_engine_real import MODEL, asking, events_of, play, question, text_of

pytestmark = pytest.mark.integration
STORY = Generate(text="Once upon a time, there was a lighthouse keeper who" + " waited and" * 20)


def text_of_choice(events: list[Event], choice: int) -> str:
    return "".join(e.text for e in events if isinstance(e, Delta) and e.choice == choice)


async def prompt_tokens(service: LocalService) -> int:
    return (await service.stats()).models[MODEL].prompt_tokens


@pytest.mark.parametrize("slots", [2, 16])
@pytest.mark.parametrize("bundle", ["starter_bundle", "standard_bundle"])
def test_each_choice_is_what_its_seed_gives_alone(
    bundle: str, slots: int, request: pytest.FixtureRequest
) -> None:
    wanted = Sampling(temperature=0.9, top_p=0.95, seed=11, max_tokens=12, ignore_eos=True)

    async def scene(service: LocalService) -> None:
        before = await prompt_tokens(service)
        events = await events_of(service, asking(STORY, replace(wanted, n=5)))
        last = events[-1]
        assert isinstance(last, Finished)
        assert await prompt_tokens(service) - before == last.usage.prompt_tokens
        assert last.usage.completion_tokens == 5 * 12
        assert len([event for event in events if isinstance(event, ChoiceFinished)]) == 5
        texts = [text_of_choice(events, choice) for choice in range(5)]
        assert len(set(texts)) > 1
        for choice, text in enumerate(texts):
            alone = await events_of(service, asking(STORY, replace(wanted, seed=11 + choice)))
            assert text_of(alone) == text

    play(request.getfixturevalue(bundle), scene, slots=slots, context_tokens=256)


def test_choices_are_held_to_a_schema_each(starter_bundle: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "size": {"enum": [1, 2, 3]}},
        "required": ["city", "size"],
        "additionalProperties": False,
    }
    task = replace(question("Name a city, as JSON."), constraint=Constraint.json_schema(schema))
    wanted = Sampling(temperature=1.0, seed=21, max_tokens=60)

    async def scene(service: LocalService) -> None:
        events = await events_of(service, asking(task, replace(wanted, n=4)))
        for choice in range(4):
            text = text_of_choice(events, choice)
            assert set(json.loads(text)) == {"city", "size"}
            alone = await events_of(service, asking(task, replace(wanted, seed=21 + choice)))
            assert text_of(alone) == text

    play(starter_bundle, scene, slots=2, context_tokens=256)


def test_32_mixed_requests_end_once_each(starter_bundle: Path) -> None:
    async def one(service: LocalService, number: int) -> list[Event]:
        sampling = Sampling(
            seed=number,
            max_tokens=4 + number % 9,
            n=1 + number % 5,
            logprobs=number % 4 if number % 2 else None,
            prompt_logprobs=2 if number % 7 == 0 else None,
            prompt_lookup=number % 3 == 0,
        )
        task = question(f"Count to {number}.") if number % 2 else STORY
        request = replace(asking(task, sampling), request_id=str(number))
        return await events_of(service, request)

    async def scene(service: LocalService) -> None:
        found = await asyncio.gather(*(one(service, number) for number in range(32)))
        for number, events in enumerate(found):
            assert [is_terminal(event) for event in events].count(True) == 1
            assert isinstance(events[-1], Finished)
            ends = [event for event in events if isinstance(event, ChoiceFinished)]
            n = 1 + number % 5
            assert sorted(end.choice for end in ends) == (list(range(n)) if n > 1 else [])
        stats = (await service.stats()).models[MODEL]
        assert (stats.running, stats.waiting) == (0, 0)

    play(starter_bundle, scene, slots=4, context_tokens=256)
