"""The service in process over the real model: batch invariance, fairness to the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nsedge.api import (
    Chat,
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Generate,
    Message,
    Request,
    Role,
    Sampling,
    Started,
)
from nsedge.api.stream import EventStream
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.errors import DeviceUnavailable
from nsedge.runtime.settings import Device, EngineSettings
from tests.ipc import until

pytestmark = pytest.mark.integration
MODEL = "smollm2-135m-instruct"


@asynccontextmanager
async def running(bundle: Path, **engine: int) -> AsyncIterator[LocalService]:
    service = LocalService(
        ServiceSettings(bundles=(bundle,), engine=EngineSettings(**engine))  # type: ignore[arg-type]
    )
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def play(
    bundle: Path, scene: Callable[[LocalService], Coroutine[None, None, None]], **engine: int
) -> None:
    async def run() -> None:
        async with running(bundle, **engine) as service:
            await scene(service)

    asyncio.run(run())


def asking(task: Generate | Chat, sampling: Sampling) -> Request:
    return Request(request_id="r", model=MODEL, task=replace(task, sampling=sampling))


def question(text: str) -> Chat:
    return Chat(messages=(Message(role=Role.USER, content=text),))


async def events_of(service: LocalService, request: Request) -> list[Event]:
    async with EventStream(service, request) as stream:
        return [event async for event in stream]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def test_it_knows_the_capital_of_france(starter_bundle: Path) -> None:
    async def scene(service: LocalService) -> None:
        prompt = question("Name the capital of France.")
        events = await events_of(service, asking(prompt, Sampling(temperature=0.0)))
        assert "Paris" in text_of(events)
        assert isinstance(events[0], Started)
        last = events[-1]
        assert isinstance(last, Finished)
        assert last.reason is FinishReason.STOP
        assert last.usage.prompt_tokens == events[0].prompt_tokens

    play(starter_bundle, scene)


def test_a_seed_gives_the_same_text_alone_and_among_fifteen_others(starter_bundle: Path) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.95, seed=42, max_tokens=24)
    mine = asking(question("Tell me about a lighthouse."), sampling)

    async def scene(service: LocalService) -> None:
        alone = text_of(await events_of(service, mine))
        others = [
            asking(
                Generate(text=f"Story {i}:" + " and then" * (3 * i)),
                Sampling(seed=i, max_tokens=10 + 2 * i, ignore_eos=True),
            )
            for i in range(15)
        ]
        connections = [asyncio.create_task(events_of(service, other)) for other in others[:8]]
        await asyncio.sleep(0)
        me = asyncio.create_task(events_of(service, mine))
        await asyncio.sleep(0)
        connections += [asyncio.create_task(events_of(service, other)) for other in others[8:]]
        assert text_of(await me) == alone
        for events in await asyncio.gather(*connections):
            assert isinstance(events[-1], Finished)

    play(starter_bundle, scene, slots=16, context_tokens=512, prefill_chunk_tokens=32)


def test_the_event_loop_stays_responsive_during_steps(starter_bundle: Path) -> None:
    """Lag of a 2 ms timer while 16 rows decode: under 20 ms at p99."""

    async def scene(service: LocalService) -> None:
        request = asking(Generate(text="Once"), Sampling(max_tokens=40, ignore_eos=True))
        connections = [asyncio.create_task(events_of(service, request)) for _ in range(16)]
        lags = []
        while not all(task.done() for task in connections):
            due = time.perf_counter() + 0.002
            await asyncio.sleep(0.002)
            lags.append(time.perf_counter() - due)
        await asyncio.gather(*connections)
        assert len(lags) > 100
        assert np.percentile(lags, 99) < 0.020

    play(starter_bundle, scene, slots=16, context_tokens=256)


def test_a_cancelled_request_frees_its_slot_within_one_step(starter_bundle: Path) -> None:
    async def scene(service: LocalService) -> None:
        endless = asking(Generate(text="Once"), Sampling(ignore_eos=True))
        seen: list[Event] = []
        ended = asyncio.Event()

        def sink(event: Event) -> None:
            seen.append(event)
            if isinstance(event, Finished | Failed):
                ended.set()

        ticket = service.submit(endless, sink)
        await until(lambda: len(seen) >= 5)
        steps = (await service.stats()).models[MODEL].steps
        ticket.cancel()
        await ended.wait()
        after = (await service.stats()).models[MODEL]
        # The step that ran while we asked, and at most one more.
        assert after.steps - steps <= 2
        assert after.running == after.kv_tokens_used == 0
        assert isinstance(seen[-1], Finished)
        assert seen[-1].reason is FinishReason.CANCELLED

    play(starter_bundle, scene, slots=1)


@pytest.mark.parametrize(
    ("prompt", "sampling", "code"),
    [
        (Generate(text=""), Sampling(), "empty_prompt"),
        (Generate(text="word " * 300), Sampling(), "context_exceeded"),
        (Generate(text="hi"), Sampling(max_tokens=256), "context_exceeded"),
        (Generate(text="hi"), Sampling(temperature=-1.0), "invalid_parameter"),
        (Generate(text="hi"), Sampling(logit_bias={49152: 1.0}), "invalid_parameter"),
    ],
)
def test_what_can_never_run_is_refused_at_the_door(
    starter_bundle: Path, prompt: Generate | Chat, sampling: Sampling, code: str
) -> None:
    async def scene(service: LocalService) -> None:
        (event,) = await events_of(service, asking(prompt, sampling))
        assert isinstance(event, Failed)
        assert (event.code, event.retryable) == (code, False)

    play(starter_bundle, scene, slots=1, context_tokens=256)


def test_clipping_is_done_where_asked_for_and_told(starter_bundle: Path) -> None:
    async def scene(service: LocalService) -> None:
        sampling = Sampling(max_tokens=10**6, clip_max_tokens=True, ignore_eos=True)
        events = await events_of(service, asking(Generate(text="hi"), sampling))
        last = events[-1]
        assert isinstance(last, Finished)
        assert last.reason is FinishReason.LENGTH
        assert last.clipped_max_tokens == last.usage.completion_tokens == 31

    play(starter_bundle, scene, slots=1, context_tokens=32)


def test_a_reader_that_takes_nothing_is_cut_off(starter_bundle: Path) -> None:
    async def scene(service: LocalService) -> None:
        seen: list[Event] = []
        ended = asyncio.Event()

        def sink(event: Event) -> None:
            seen.append(event)
            if isinstance(event, Finished | Failed):
                ended.set()

        service.submit(asking(Generate(text="Once"), Sampling(ignore_eos=True)), sink)
        await ended.wait()
        assert isinstance(seen[-1], Failed)
        assert seen[-1].code == "slow_consumer"
        idle = asking(Generate(text="Once"), Sampling(max_tokens=1))
        await events_of(service, idle)
        assert (await service.stats()).models[MODEL].running == 0

    async def run() -> None:
        settings = ServiceSettings(bundles=(starter_bundle,), max_untaken_events=10)
        service = LocalService(settings)
        await service.start()
        try:
            await scene(service)
        finally:
            await service.stop()

    asyncio.run(run())


def test_draining_waits_for_what_ends_and_fails_what_does_not(starter_bundle: Path) -> None:
    async def scene(service: LocalService) -> None:
        short = asking(Generate(text="Once"), Sampling(ignore_eos=True, max_tokens=3))
        patient = asyncio.create_task(events_of(service, short))
        await asyncio.sleep(0)
        await service.drain(60.0)
        assert patient.done()
        (refused,) = await events_of(service, short)
        assert isinstance(refused, Failed)
        assert (refused.code, refused.retryable) == ("draining", True)
        end = (await patient)[-1]
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.LENGTH

    async def impatient(service: LocalService) -> None:
        endless = asking(Generate(text="Once"), Sampling(ignore_eos=True))
        cut = asyncio.create_task(events_of(service, endless))
        await asyncio.sleep(0)
        await service.drain(0.1)
        end = (await cut)[-1]
        assert isinstance(end, Failed)
        assert (end.code, end.message) == (
            "draining",
            "the daemon stops, and waited 0.1 s for this",
        )

    play(starter_bundle, scene)
    play(starter_bundle, impatient)


def test_every_engine_shows_life_at_rest_and_at_work(starter_bundle: Path) -> None:
    async def scene(service: LocalService) -> None:
        assert await service.came_round(60.0)
        endless = asking(Generate(text="Once"), Sampling(ignore_eos=True, max_tokens=200))
        busy = asyncio.create_task(events_of(service, endless))
        await asyncio.sleep(0)
        assert await service.came_round(60.0)
        assert not busy.done()
        await busy

    play(starter_bundle, scene)


def test_stopping_at_once_ends_everything_once(starter_bundle: Path) -> None:
    """Whether decoding, in prefill, queued, being tokenised, or not yet looked at."""

    async def run() -> None:
        service = LocalService(
            ServiceSettings(bundles=(starter_bundle,), engine=EngineSettings(slots=2))
        )
        await service.start()
        seen: dict[str, list[Event]] = {}

        def submit(name: str) -> None:
            sampling = Sampling(ignore_eos=True)
            task = Generate(text="Once " * 60, sampling=sampling)
            request = Request(request_id=name, model=MODEL, task=task)
            service.submit(request, seen.setdefault(name, []).append)

        for number in range(4):
            submit(f"early {number}")
        await until(lambda: any(isinstance(e, Delta) for e in seen["early 0"]))
        for number in range(20):
            submit(f"late {number}")
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0)
        submit("too late")
        await stopping
        await asyncio.sleep(0)
        refused = seen.pop("too late")
        assert [type(event) for event in refused] == [Failed]
        for events in seen.values():
            ends = [event for event in events if isinstance(event, Finished | Failed)]
            assert ends == [events[-1]]
            assert isinstance(events[-1], Finished)
            assert events[-1].reason is FinishReason.CANCELLED

    asyncio.run(run())


def test_a_device_that_is_not_there_is_said_and_nothing_stands_in(starter_bundle: Path) -> None:
    async def run() -> None:
        settings = EngineSettings(device=Device.CUDA)
        service = LocalService(ServiceSettings(bundles=(starter_bundle,), engine=settings))
        with pytest.raises(DeviceUnavailable, match=r"no variant of .* runs on device 'cuda'"):
            await service.start()
        assert (await service.health()).status == "failed"

    asyncio.run(run())
