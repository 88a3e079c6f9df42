"""Every step of sampling over the real model: rules kept, and texts the same in any company."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from nsedge.api import (
    AdaptiveP,
    Delta,
    Dry,
    DynamicTemperature,
    Finished,
    FinishReason,
    Generate,
    Mirostat,
    Request,
    SamplerStep,
    Sampling,
    Xtc,
)
from nsedge.api.stream import EventStream
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.runtime.settings import EngineSettings

pytestmark = pytest.mark.integration
MODEL = "smollm2-135m-instruct"
PROMPT = "The old lighthouse keeper walked down to the sea, and"
TOKENS = 24
BASE = Sampling(seed=7, max_tokens=TOKENS, ignore_eos=True)
SETTINGS = (
    replace(BASE, temperature=0.8, dynamic_temperature=DynamicTemperature(range=0.5)),
    replace(BASE, typical_p=0.6),
    replace(BASE, top_n_sigma=0.8, min_keep=3),
    replace(BASE, min_p=0.02, xtc=Xtc(probability=0.5, threshold=0.05)),
    replace(BASE, xtc=Xtc(probability=0.5, threshold=0.05), top_k=0, top_p=1.0),
    replace(BASE, dry=Dry(multiplier=0.8, allowed_length=1)),
    replace(BASE, mirostat=Mirostat(tau=3.0)),
    replace(BASE, min_p=0.05, adaptive_p=AdaptiveP(target=0.3)),
    replace(BASE, repetition_penalty=1.3, penalty_last_n=8, frequency_penalty=0.3),
    replace(BASE, no_repeat_ngram_size=2, temperature=0.0),
    replace(BASE, bad_words=("the", "sea", "."), temperature=0.0),
    replace(BASE, allowed_token_ids=tuple(range(1000, 3000))),
    replace(BASE, top_k=20, samplers=(SamplerStep.TOP_K, SamplerStep.TEMPERATURE)),
)


async def said(
    service: LocalService, sampling: Sampling, label: str = "r"
) -> tuple[str, list[int]]:
    """The text and the tokens of an answer."""
    request = Request(request_id=label, model=MODEL, task=Generate(text=PROMPT, sampling=sampling))
    async with EventStream(service, request) as stream:
        events = [event async for event in stream]
    assert isinstance(events[-1], Finished)
    deltas = [event for event in events if isinstance(event, Delta)]
    ids = [token for delta in deltas for token in delta.token_ids]
    return "".join(delta.text for delta in deltas), ids


def play(bundle: Path, scene: Callable[[LocalService], Awaitable[None]]) -> None:
    async def run() -> None:
        settings = EngineSettings(slots=len(SETTINGS), context_tokens=256)
        service = LocalService(ServiceSettings(bundles=(bundle,), engine=settings))
        await service.start()
        try:
            await scene(service)
        finally:
            await service.stop()

    asyncio.run(run())


def test_any_settings_write_the_same_alone_and_beside_all_others(starter_bundle: Path) -> None:
    async def scene(service: LocalService) -> None:
        alone = [await said(service, sampling) for sampling in SETTINGS]
        together = await asyncio.gather(
            *(said(service, sampling, f"r{n}") for n, sampling in enumerate(SETTINGS))
        )
        assert list(together) == alone
        assert len({text for text, _ in alone}) > 8

    play(starter_bundle, scene)


def test_rules_are_kept(starter_bundle: Path) -> None:
    tokenizer = Tokenizer.from_file(str(starter_bundle / "tokenizer.json"))

    async def scene(service: LocalService) -> None:
        greedy = replace(BASE, temperature=0.0)
        plain, plain_ids = await said(service, greedy)
        word = plain.split()[3]
        text, _ = await said(service, replace(greedy, bad_words=(word,)))
        assert word in plain.split()
        assert word not in text.split()
        _, ids = await said(service, replace(greedy, allowed_token_ids=tuple(plain_ids[:4])))
        assert set(ids) <= set(plain_ids[:4])
        _, ids = await said(service, replace(greedy, banned_token_ids=(plain_ids[5],)))
        assert ids[:5] == plain_ids[:5]
        assert plain_ids[5] not in ids
        _, ids = await said(service, replace(greedy, no_repeat_ngram_size=2, max_tokens=100))
        whole = [*tokenizer.encode(PROMPT).ids, *ids]
        pairs = list(itertools.pairwise(whole))
        assert len(set(pairs)) == len(pairs)

    play(starter_bundle, scene)


def test_a_stop_token_ends_the_text_once_it_may(starter_bundle: Path) -> None:
    async def ended(service: LocalService, sampling: Sampling) -> tuple[list[int], Finished]:
        request = Request(
            request_id="r", model=MODEL, task=Generate(text=PROMPT, sampling=sampling)
        )
        async with EventStream(service, request) as stream:
            events = [event async for event in stream]
        deltas = [event for event in events if isinstance(event, Delta)]
        assert isinstance(events[-1], Finished)
        return [token for delta in deltas for token in delta.token_ids], events[-1]

    async def scene(service: LocalService) -> None:
        greedy = replace(BASE, temperature=0.0)
        _, plain = await said(service, greedy)
        stop = plain[6]
        first = plain.index(stop)
        ids, end = await ended(service, replace(greedy, stop_token_ids=(stop,)))
        assert (ids, end.reason, end.usage.completion_tokens) == (
            plain[:first],
            FinishReason.STOP,
            first + 1,
        )
        later = replace(greedy, stop_token_ids=(stop,), min_tokens=first + 5)
        ids, end = await ended(service, later)
        assert ids[:first] == plain[:first]
        assert stop not in ids
        assert len(ids) >= first + 4

    play(starter_bundle, scene)
