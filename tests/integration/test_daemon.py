"""The real daemon process with the real model, over its real sockets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from bench.daemon import Daemon, daemon
from nsedge.api import Delta, Event, Finished, Message, ModelStats, Role, Sampling
from nsedge.api.stream import EventStream
from nsedge.ipc.client import AsyncClient, Client

pytestmark = pytest.mark.integration
PATIENCE_S = 240.0
TOPICS = ["the sea", "a hash table", "sleep", "Spanish", "the blue sky", "bread", "Mars", "rain"]


def play(bundle: Path, scene: Callable[[Daemon, AsyncClient], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        async with (
            daemon(bundle, slots=16, context_tokens=1024, prefill_chunk_tokens=64) as door,
            AsyncClient(door.endpoint) as client,
        ):
            await scene(door, client)

    asyncio.run(run())


async def gather(stream: EventStream) -> list[Event]:
    async with asyncio.timeout(PATIENCE_S), stream:
        return [event async for event in stream]


def mixed(number: int) -> tuple[str, Sampling]:
    """Prompts of 10 to 200 tokens, greedy and sampled, with and without stops and penalties."""
    prompt = f"Write about {TOPICS[number % 8]}. " + "Be vivid and clear. " * (number * 5 % 37)
    greedy = number % 3 == 0
    sampling = Sampling(
        temperature=0.0 if greedy else 0.9,
        top_k=40 if number % 3 == 1 else None,
        seed=number,
        max_tokens=8 + number,
        repetition_penalty=1.2 if number % 4 == 0 else None,
        stop=("\n\n",) if number % 5 == 0 else (),
    )
    return prompt, sampling


async def until_idle(client: AsyncClient, model: str) -> ModelStats:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            stats = (await client.stats()).models[model]
            if stats.running + stats.waiting == 0:
                return stats
            await asyncio.sleep(0.02)


def text_of(events: list[Event]) -> str:
    assert isinstance(events[-1], Finished), events[-1]
    return "".join(event.text for event in events if isinstance(event, Delta))


def ask(door: Daemon, client: AsyncClient, number: int) -> EventStream:
    prompt, sampling = mixed(number)
    return client.chat(door.model, [Message(role=Role.USER, content=prompt)], sampling=sampling)


def test_32_mixed_requests_at_once_equal_their_single_streams(starter_bundle: Path) -> None:
    async def scene(door: Daemon, client: AsyncClient) -> None:
        together = await asyncio.gather(*(gather(ask(door, client, n)) for n in range(32)))
        alone = [await gather(ask(door, client, n)) for n in range(32)]
        assert [text_of(events) for events in together] == [text_of(events) for events in alone]
        stats = await until_idle(client, door.model)
        assert sum(stats.finished.values()) == 64
        assert stats.kv_tokens_used == 0

    play(starter_bundle, scene)


def test_32_mixed_requests_at_once_without_operators_of_our_own(standard_bundle: Path) -> None:
    """ONNX Runtime's kernels round by the number of rows, so that texts need not be equal."""

    async def scene(door: Daemon, client: AsyncClient) -> None:
        texts = [text_of(await gather(ask(door, client, 0)))]
        together = await asyncio.gather(*(gather(ask(door, client, n)) for n in range(32)))
        texts += [text_of(events) for events in together]
        assert all(texts)
        stats = await until_idle(client, door.model)
        assert sum(stats.finished.values()) == 33
        assert stats.kv_tokens_used == 0

    play(standard_bundle, scene)


VICTIM = """
import sys
from nsedge.ipc.client import Client, Delta, Sampling
with Client(sys.argv[1]) as client:
    for event in client.generate(sys.argv[2], "Once", sampling=Sampling(ignore_eos=True)):
        if isinstance(event, Delta):
            print("streaming", flush=True)
"""


def test_a_client_killed_in_mid_stream_frees_its_slot(starter_bundle: Path) -> None:
    async def scene(door: Daemon, client: AsyncClient) -> None:
        neighbour = asyncio.create_task(
            gather(client.generate(door.model, "Twice", sampling=Sampling(max_tokens=60)))
        )
        victim = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", VICTIM, door.endpoint, door.model),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert victim.stdout is not None
            await victim.stdout.readline()
        finally:
            victim.kill()
            await victim.wait()
        began = asyncio.get_running_loop().time()
        stats = await until_idle(client, door.model)
        assert stats.finished.get("cancelled") == 1
        # Well before the liveness time: the dead connection is noticed, not timed out.
        assert asyncio.get_running_loop().time() - began < 8.0
        assert isinstance((await neighbour)[-1], Finished)

    play(starter_bundle, scene)


def test_the_synchronous_client_and_leaving_its_loop(starter_bundle: Path) -> None:
    async def scene(door: Daemon, client: AsyncClient) -> None:
        def use() -> str:
            with Client(door.endpoint) as plain:
                for event in plain.generate(
                    door.model, "Once upon", sampling=Sampling(ignore_eos=True)
                ):
                    if isinstance(event, Delta):
                        break
                answer = plain.chat(
                    door.model,
                    [Message(role=Role.USER, content="Name the capital of France.")],
                    sampling=Sampling(temperature=0.0),
                )
                return "".join(event.text for event in answer if isinstance(event, Delta))

        assert "Paris" in await asyncio.to_thread(use)
        stats = await until_idle(client, door.model)
        assert stats.finished == {"cancelled": 1, "stop": 1}

    play(starter_bundle, scene)


def test_the_official_openai_client_streams_from_the_real_model(starter_bundle: Path) -> None:
    from openai import OpenAI

    async def scene(door: Daemon, client: AsyncClient) -> None:
        def use() -> tuple[str, int]:
            with OpenAI(base_url=f"{door.url}/v1", api_key="none") as openai:
                stream = openai.chat.completions.create(
                    model=door.model,
                    messages=[{"role": "user", "content": "Name the capital of France."}],
                    temperature=0.0,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                chunks = list(stream)
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            usage = chunks[-1].usage
            assert usage is not None
            return text, usage.completion_tokens

        text, tokens = await asyncio.to_thread(use)
        assert "Paris" in text
        assert tokens == (await until_idle(client, door.model)).completion_tokens

    play(starter_bundle, scene)
