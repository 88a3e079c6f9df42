"""The asyncio client against a real server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from nsedge import api
from nsedge.api.found import MAX_ARRAY_BYTES
from nsedge.errors import (
    ConfigInvalid,
    InvalidParameter,
    MessageTooLarge,
    NsedgeError,
    Unavailable,
)
from nsedge.ipc import client as door
from nsedge.ipc.client import AsyncClient, Client, Delta, Failed, Finished, Message, Role, Vectors
from nsedge.ipc.limits import Limits
from tests.fake_answers import DIMENSIONS, vector
from tests.fakes import MODEL, FakeService
from tests.ipc import QUICK, gathered, serving, text_of, until

SMALL = Limits(sweep_s=0.01, initial_credit_bytes=400)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_the_public_surface() -> None:
    names = {name for name in vars(door) if not name.startswith("_")}
    assert names == set(door.__all__)
    assert sorted(door.__all__) == [
        "Activation",
        "Activity",
        "Aggregation",
        "AliasResult",
        "ArtifactPending",
        "ArtifactReady",
        "AsyncClient",
        "ChoiceFailed",
        "ChoiceFinished",
        "Client",
        "ClientCurve",
        "Committed",
        "Constraint",
        "ConstraintKind",
        "Delta",
        "Event",
        "EventStream",
        "Events",
        "Failed",
        "Feed",
        "Filling",
        "Fillings",
        "FinishReason",
        "Finished",
        "Health",
        "HealthStatus",
        "KeyPair",
        "Label",
        "Labels",
        "Language",
        "LoadOutcome",
        "LoadResult",
        "LoadWish",
        "Loading",
        "Logprobs",
        "Mark",
        "Media",
        "MediaPart",
        "Message",
        "ModelCard",
        "ModelInfo",
        "ModelMemory",
        "ModelState",
        "ModelStats",
        "ModelUsage",
        "NsedgeError",
        "Picture",
        "PictureRecord",
        "Preview",
        "Progress",
        "PromptLogprobs",
        "PromptQuestion",
        "PromptReading",
        "ReasoningDelta",
        "Recommendation",
        "ResidencyStats",
        "Role",
        "Sampling",
        "Scores",
        "Segment",
        "SoundForm",
        "Started",
        "Stats",
        "TextPart",
        "Timings",
        "TokenLogprob",
        "Tool",
        "ToolCall",
        "ToolCallDelta",
        "ToolChoice",
        "TranscriptText",
        "Usage",
        "UsageReport",
        "Vectors",
        "Word",
    ]
    asking = {
        "caption",
        "chat",
        "classify",
        "fill",
        "score",
        "close",
        "connected",
        "embed",
        "generate",
        "health",
        "imagine",
        "listen",
        "models",
        "new_id",
        "stats",
        "transcribe",
    }
    both = asking | {"load", "unload", "reload", "alias", "usage"}
    both |= {"read_prompt", "detokenize", "describe"}
    assert {name for name in dir(Client) if not name.startswith("_")} == both
    assert both < set(dir(AsyncClient))


def test_generate_and_chat() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, AsyncClient(endpoint) as client:
            events = await gathered(client.generate(MODEL, "one two"))
            assert text_of(events) == "one two"
            assert isinstance(events[-1], Finished)
            said = [Message(role=Role.USER, content="three four")]
            events = await gathered(client.chat(MODEL, said, request_id="mine"))
            assert text_of(events) == "three four"
            assert {event.request_id for event in events} == {"mine"}

    run(scenario())


def test_embed() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, AsyncClient(endpoint) as client:
            inputs = ["one", [1, 2], "two"]
            events = await gathered(client.embed(MODEL, inputs, dimensions=4))
            assert [event.shape for event in events if isinstance(event, Vectors)] == [
                (2, 4),
                (1, 4),
            ]
            found = await client.embed(MODEL, inputs).embeddings()
            assert found.array.dtype == np.float32
            assert found.array.tobytes() == b"".join(map(vector, ("one", (1, 2), "two")))
            assert found.array.shape == (3, DIMENSIONS)
            assert found.usage.prompt_tokens == 3
            alone = await client.embed(MODEL, "one").embeddings()
            assert np.array_equal(alone.array, found.array[:1])
            with pytest.raises(InvalidParameter, match="dimensions"):
                await client.embed(MODEL, "one", dimensions=10**6).embeddings()
            with pytest.raises(NsedgeError, match="no vectors"):
                await client.generate(MODEL, "one").embeddings()

    run(scenario())


def test_a_large_batch_is_read_within_its_credit() -> None:
    rows, width = 2048, 384
    whole = np.random.default_rng(1).standard_normal((rows, width), np.float32)
    each = MAX_ARRAY_BYTES // (4 * width)
    pieces = tuple(
        Vectors(request_id="", first=row, shape=piece.shape, data=piece.tobytes())
        for row in range(0, rows, each)
        for piece in [whole[row : row + each]]
    )

    async def scenario() -> None:
        service = FakeService(shows={"all": pieces})
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            found = await client.generate(MODEL, "all").embeddings()
            assert np.array_equal(found.array, whole)

    run(scenario())


def test_inputs_beyond_one_message_go_in_parts_and_come_back_as_one() -> None:
    inputs = [f"{number} {'x' * (20 * number)}" for number in range(60)]
    inputs[7] = "y" * 1500  # a part of its own

    async def scenario() -> None:
        service = FakeService()
        async with (
            serving(service, limits=Limits(max_message_bytes=2000)) as endpoint,
            AsyncClient(endpoint) as client,
        ):
            events = await gathered(client.embed(MODEL, [*inputs, [1, 2, 3]]))
            assert [event.first for event in events if isinstance(event, Vectors)] == sorted(
                {event.first for event in events if isinstance(event, Vectors)}
            )
            assert sum(isinstance(event, api.Started) for event in events) == 1
            assert sum(api.is_terminal(event) for event in events) == 1
            assert len(service.requests) > 10
            found = await client.embed(MODEL, [*inputs, [1, 2, 3]]).embeddings()
            wanted = b"".join(map(vector, [*inputs, (1, 2, 3)]))
            assert found.array.tobytes() == wanted
            whole = FakeService()
            async with serving(whole) as other, AsyncClient(other) as roomy:
                at_once = await roomy.embed(MODEL, [*inputs, [1, 2, 3]]).embeddings()
            assert found.usage == at_once.usage
            assert len(whole.requests) == 1
            with pytest.raises(MessageTooLarge, match=r"input 1 has 30\d\d bytes"):
                await client.embed(MODEL, ["a", "z" * 3000]).embeddings()

    run(scenario())


def test_a_cancelled_part_ends_all_of_them() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        async with (
            serving(service, limits=Limits(max_message_bytes=2000)) as endpoint,
            AsyncClient(endpoint) as client,
        ):
            stream = client.embed(MODEL, ["x" * 900] * 9)
            gathering = asyncio.ensure_future(stream.embeddings())
            await until(lambda: len(service.live) == 1)
            stream.cancel()
            with pytest.raises(Unavailable, match="cancelled"):
                await gathering
            assert len(service.requests) == 1

    run(scenario())


def test_a_cancelled_batch_is_no_array() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            stream = client.embed(MODEL, ["one"] * 9)
            gathering = asyncio.ensure_future(stream.embeddings())
            await until(lambda: len(service.live) == 1)
            stream.cancel()
            with pytest.raises(Unavailable, match="cancelled"):
                await gathering

    run(scenario())


def test_a_reader_that_keeps_up_is_granted_credit_anew() -> None:
    async def scenario() -> None:
        async with serving(FakeService(), limits=SMALL) as endpoint:
            for options in ({}, {"credit_bytes": 1}, {"credit_bytes": 10**9}):
                async with AsyncClient(endpoint, **options) as client:
                    text = " ".join(f"word{n}" for n in range(300))
                    events = await gathered(client.generate(MODEL, text))
                    assert text_of(events) == text
                    ids = [
                        n for event in events if isinstance(event, Delta) for n in event.token_ids
                    ]
                    assert ids == list(range(300))

    run(scenario())


@pytest.mark.parametrize("way", ["break", "error", "with", "task", "cancel"])
def test_leaving_cancels(way: str) -> None:
    async def scenario() -> None:
        service = FakeService(repeat=10**6)
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            await leave(client, way)
            gc.collect()
            await until(lambda: service.cancelled == 1 and not service.live)

    run(scenario())


async def leave(client: AsyncClient, way: str) -> None:
    if way == "break":
        async for event in client.generate(MODEL, "x"):
            if isinstance(event, Delta):
                break
    elif way == "error":
        with pytest.raises(ZeroDivisionError):
            await stumble(client)
    elif way == "with":
        async with client.generate(MODEL, "x") as events:
            await anext(events)
    elif way == "task":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gathered(client.generate(MODEL, "x")), 0.05)
    else:
        stream = client.generate(MODEL, "x")
        await anext(stream)
        stream.cancel()
        end = (await gathered(stream))[-1]
        assert isinstance(end, Finished)
        assert end.reason == "cancelled"


async def stumble(client: AsyncClient) -> None:
    async for event in client.generate(MODEL, "x"):
        if isinstance(event, Delta):
            raise ZeroDivisionError


def test_refusals_are_events() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, AsyncClient(endpoint) as client:
            hot = api.Sampling(temperature=99.0)
            cases = [
                (client.generate("nope", "x"), "unknown_model"),
                (client.generate(MODEL, ""), "empty_prompt"),
                (client.generate(MODEL, "x", sampling=hot), "invalid_parameter"),
                (client.generate(MODEL, "\ud800"), "invalid_request"),
                (client.generate(MODEL, "x", request_id="y" * 200), "invalid_request"),
                (client.generate(MODEL, "x" * QUICK.max_message_bytes), "message_too_large"),
            ]
            for stream, code in cases:
                (failure,) = await gathered(stream)
                assert isinstance(failure, Failed)
                assert failure.code == code
            assert client.connected

    run(scenario())


def test_a_live_id_is_refused_here_already() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            first = client.generate(MODEL, "x", request_id="a")
            (failure,) = await gathered(client.generate(MODEL, "y", request_id="a"))
            assert isinstance(failure, Failed)
            assert failure.code == "out_of_order"
            assert service.gate is not None
            service.gate.set()
            assert text_of(await gathered(first)) == "x"

    run(scenario())


def test_a_sink_that_fails_hurts_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    def sink(event: api.Event) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, AsyncClient(endpoint) as client:
            request = api.Request(request_id="a", model=MODEL, task=api.Generate(text="x"))
            client.submit(request, sink)
            assert text_of(await gathered(client.generate(MODEL, "y"))) == "y"

    run(scenario())
    assert "the sink of request 'a' failed" in caplog.text


def test_malformed_endpoints_are_refused() -> None:
    for kind in (AsyncClient, Client):
        with pytest.raises(ConfigInvalid):
            kind("nonsense")
