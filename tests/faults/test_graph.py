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


def test_a_step_that_raises_fails_the_request_at_fault_and_no_other(
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
                end = (await gather(client.generate(where.model, WORD)))[-1]
                assert isinstance(end, Failed), end
                assert (end.code, end.retryable) == ("computation_failure", False)
                assert end.message == "the model cannot compute this request: its step raises"
                for stream in (first, second):
                    assert isinstance(await anext(stream), Delta)
                assert await answer(client, where.model) == said
            stats = await until_idle(client, where.model)
            assert stats.finished["computation_failure"] == 1
            assert "engine_failure" not in stats.finished
            assert where.core.log.count("a step is run again in parts") == 1
            assert "a step failed" not in where.core.log

        play(where, scene)


def test_a_crowd_beside_it_is_served(starter_bundle: Path, tmp_path: Path) -> None:
    bundle = poisoned(starter_bundle, tmp_path)
    with site(bundle) as where:
        where.core.start()

        async def scene(client: AsyncClient) -> None:
            said = await answer(client, where.model)
            short = Sampling(temperature=0.0, max_tokens=16, ignore_eos=True)
            crowd = [
                client.generate(where.model, WORD if number % 8 == 0 else PROMPT, sampling=short)
                for number in range(40)
            ]
            for number, events in enumerate(await asyncio.gather(*map(gather, crowd))):
                if number % 8 == 0:
                    assert [type(event) for event in events] == [Failed]
                else:
                    assert text_of(events) == said
            await until_idle(client, where.model)

        play(where, scene)
