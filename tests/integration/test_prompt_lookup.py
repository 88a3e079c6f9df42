"""Decoding by guesses over the real model: the same text, in fewer steps."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from nsedge.api import Delta, Dry, Finished, Generate, Mirostat, Request, Sampling
from nsedge.api.stream import EventStream
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.runtime.settings import EngineSettings

pytestmark = pytest.mark.integration
MODEL = "smollm2-135m-instruct"
TOKENS = 60
ENTRY = (
    "Third of May. The lamp was lit before dusk and three boats came in with nets full of silver"
    " fish. Anna Petersen wrote down wind and weather: south-west, force four, rain after midnight."
)
COPIED = f"{ENTRY}\n\nThe same entry, copied word for word:\n\nThird of May. The lamp was"
GREEDY = Sampling(temperature=0.0, max_tokens=TOKENS, ignore_eos=True)
DRAWN = Sampling(temperature=0.7, top_p=0.9, seed=5, max_tokens=TOKENS, ignore_eos=True)
"""Rounding differs between a check and a decode step, so that near-ties may fall otherwise; in
these texts there is none."""


async def answered(service: LocalService, sampling: Sampling) -> tuple[list[int], int]:
    """The tokens of the answer, and how many steps the engine made for them."""
    request = Request(request_id="r", model=MODEL, task=Generate(text=COPIED, sampling=sampling))
    before = (await service.stats()).models[MODEL].steps
    async with EventStream(service, request) as stream:
        events = [event async for event in stream]
    assert isinstance(events[-1], Finished)
    ids = [i for event in events if isinstance(event, Delta) for i in event.token_ids]
    return ids, (await service.stats()).models[MODEL].steps - before


STEERED = Sampling(
    temperature=0.7,
    mirostat=Mirostat(tau=2.0),
    dry=Dry(multiplier=0.1, allowed_length=12),
    penalty_last_n=32,
    frequency_penalty=0.05,
    no_repeat_ngram_size=40,
    bad_words=("nowhere",),
    seed=5,
    max_tokens=TOKENS,
    ignore_eos=True,
)


@pytest.mark.parametrize(
    ("sampling", "most"),
    [(GREEDY, 0.6), (DRAWN, 0.6), (STEERED, 0.95)],
    ids=["greedy", "drawn", "steered"],
)
def test_guesses_change_the_steps_and_not_the_text(
    starter_bundle: Path, sampling: Sampling, most: float
) -> None:
    async def scene() -> None:
        settings = EngineSettings(slots=2, context_tokens=512)
        service = LocalService(ServiceSettings(bundles=(starter_bundle,), engine=settings))
        await service.start()
        try:
            plain, plain_steps = await answered(service, sampling)
            guessing = dataclasses.replace(sampling, prompt_lookup=True)
            guessed, steps = await answered(service, guessing)
        finally:
            await service.stop()
        assert guessed == plain
        assert len(plain) == TOKENS
        assert steps < most * plain_steps

    asyncio.run(scene())
