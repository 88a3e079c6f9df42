"""A graph that raises in the middle of a batch."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nsedge.api import Delta, Failed, Sampling
from nsedge.ipc.client import AsyncClient
from tests.faults.poison import WORD, poisoned
from tests.faults.site import PROMPT, answer, gather, play, site, streaming, text_of, until_idle

pytestmark = pytest.mark.integration


def test_a_step_that_raises_fails_its_batch_and_the_engine_is_rebuilt(
    starter_bundle: Path, tmp_path: Path
) -> None:
    with site(poisoned(starter_bundle, tmp_path), engine="prefix_reuse = 'off'\n") as where:
        where.core.start()

        async def scene(client: AsyncClient) -> None:
            said = await answer(client, where.model)
            async with (
                streaming(client, where.model) as first,
                streaming(client, where.model) as second,
            ):
                poison = asyncio.create_task(gather(client.generate(where.model, WORD)))
                ends = [(await poison)[-1]]
                ends += [[event async for event in stream][-1] for stream in (first, second)]
            for end in ends:
                assert isinstance(end, Failed), end
                assert (end.code, end.retryable) == ("engine_failure", True)
                assert end.message == "a model step failed"
            assert await answer(client, where.model) == said
            stats = await until_idle(client, where.model)
            assert stats.finished["engine_failure"] == 3
            assert where.core.log.count("a step failed") == 1
            assert "goes on with the session" not in where.core.log

        play(where, scene)


def test_those_that_wait_are_served_after_it(starter_bundle: Path, tmp_path: Path) -> None:
    bundle = poisoned(starter_bundle, tmp_path)
    with site(bundle) as where:
        where.core.start()

        async def scene(client: AsyncClient) -> None:
            said = await answer(client, where.model)
            short = Sampling(temperature=0.0, max_tokens=16, ignore_eos=True)
            crowd = [
                client.generate(where.model, WORD if number == 0 else PROMPT, sampling=short)
                for number in range(40)
            ]
            ends = await asyncio.gather(*map(gather, crowd))
            failed = [events for events in ends if isinstance(events[-1], Failed)]
            texts = {text_of(events) for events in ends if events not in failed}
            assert isinstance(ends[0][-1], Failed)
            assert 1 <= len(failed) <= 8, "as many as run at once"
            assert texts == {said}
            assert not any(isinstance(event, Delta) for event in ends[0])
            await until_idle(client, where.model)

        play(where, scene)
