"""Media from a client through a real server: seen, kept, lost, refused."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from nsedge import api
from nsedge.errors import UnknownMedia
from nsedge.ipc.client import AsyncClient, Client, Failed, Finished, Media, MediaPart, TextPart
from nsedge.ipc.limits import KIB, Limits
from tests.fakes import MODEL, FakeService
from tests.ipc import RawClient, gathered, serving, short_directory, text_of
from tests.unit.exporters.deploy.deployable import Home, write_deployable
from tests.unit.ipc.test_media import hash_of
from tests.unit.ipc.test_sync_client import daemon_thread

LARGE = bytes(range(256)) * 8 * KIB
"""2 MiB: twice what fits a message."""
SMALL = b"a little picture"


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def turn(*shown: bytes, text: str = "see") -> list[api.Message]:
    parts = [MediaPart(media=Media(type="image/png", data=data)) for data in shown]
    return [api.Message(role=api.Role.USER, content=(TextPart(text=text), *parts))]


def seen(service: FakeService) -> list[tuple[bytes, ...]]:
    """The media of each request that the service got."""
    return [
        tuple(media.data for message in request.task.messages for media in message.media)
        for request in service.requests
        if isinstance(request.task, api.Chat)
    ]


def test_a_recording_of_any_size_is_heard() -> None:
    async def scenario() -> None:
        service = FakeService()
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            heard = await client.transcribe(MODEL, b"one two").transcript()
            assert heard.text == "one two"
            for media in (LARGE, Media(type="audio/x-wav", data=LARGE)):
                await client.transcribe(MODEL, media).transcript()
        tasks = [one.task for one in service.requests if isinstance(one.task, api.Transcribe)]
        assert [(task.media.type, len(task.media.data)) for task in tasks] == [
            ("audio/unknown", 7),
            ("audio/unknown", len(LARGE)),
            ("audio/x-wav", len(LARGE)),
        ]

    run(scenario())


def test_a_conversation_shows_pictures_of_any_size() -> None:
    async def scenario() -> None:
        service = FakeService()
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            for shown in ([SMALL], [LARGE, SMALL], [LARGE], [SMALL, LARGE, SMALL]):
                events = await gathered(client.chat(MODEL, turn(*shown)))
                assert isinstance(events[-1], Finished)
                sizes = [f"image/png={len(data)}" for data in shown]
                assert text_of(events) == " ".join(["see", *sizes])
            assert seen(service) == [
                (SMALL,),
                (LARGE, SMALL),
                (LARGE,),
                (SMALL, LARGE, SMALL),
            ]

    run(scenario())


def test_what_has_left_the_daemon_is_sent_again_unasked() -> None:
    async def scenario() -> None:
        service = FakeService()
        limits = Limits(sweep_s=0.01, media_bytes=8 * 1024 * KIB + 10)
        async with serving(service, limits=limits) as endpoint, AsyncClient(endpoint) as client:
            others = [bytes([n]) * (2 * 1024 * KIB) for n in range(4)]
            for shown in (LARGE, *others, LARGE):
                end = (await gathered(client.chat(MODEL, turn(shown))))[-1]
                assert isinstance(end, Finished)
            assert seen(service) == [(shown,) for shown in (LARGE, *others, LARGE)]

    run(scenario())


class Forgetful(FakeService):
    """Never has what it is shown."""

    def _words(self, request: api.Request) -> list[str]:
        raise UnknownMedia("gone again", param="messages")


def test_a_second_loss_is_told() -> None:
    async def scenario() -> None:
        service = Forgetful()
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            (failure,) = await gathered(client.chat(MODEL, turn(SMALL)))
            assert isinstance(failure, Failed)
            assert failure.code == "unknown_media"
            assert seen(service) == [(SMALL,)] * 2

    run(scenario())


def test_a_daemon_that_keeps_nothing_takes_what_fits_a_message() -> None:
    async def scenario() -> None:
        limits = Limits(sweep_s=0.01, media_bytes=0)
        async with serving(FakeService(), limits=limits) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.3")
            part = {"type": "media", "media_type": "image/png", "sha256": hash_of(SMALL)}
            message = {"role": "user", "content": [part]}
            ask = {"type": "chat", "id": "a", "model": MODEL, "messages": [message]}
            await client.say(ask)
            (failed,) = await client.hear_until_end("a")
            assert (failed["code"], failed["retryable"]) == ("unknown_media", False)
            async with AsyncClient(endpoint) as other:
                for _ in range(2):
                    events = await gathered(other.chat(MODEL, turn(SMALL)))
                    assert isinstance(events[-1], Finished)
                (failure,) = await gathered(other.chat(MODEL, turn(LARGE)))
                assert isinstance(failure, Failed)
                assert failure.code == "message_too_large"

    run(scenario())


def test_a_request_that_is_left_during_its_upload_ends_as_cancelled() -> None:
    async def scenario() -> None:
        service = FakeService()
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            stream = client.chat(MODEL, turn(LARGE))
            stream.cancel()
            (end,) = await gathered(stream)
            assert isinstance(end, Finished)
            assert end.reason == "cancelled"
            events = await gathered(client.chat(MODEL, turn(LARGE)))
            assert isinstance(events[-1], Finished)
            assert len(service.requests) == 1

    run(scenario())


def test_the_synchronous_client_shows_pictures_too() -> None:
    service = FakeService()
    with daemon_thread(service) as endpoint, Client(endpoint) as client:
        for _ in range(2):
            assert f"image/png={len(LARGE)}" in text_of(list(client.chat(MODEL, turn(LARGE))))
    assert seen(service) == [(LARGE,), (LARGE,)]


async def put(client: RawClient, label: str, offset: int, data: bytes, whole: bytes) -> None:
    sha256 = hash_of(whole)
    fields = {"sha256": sha256, "size": len(whole), "offset": offset, "data": data}
    await client.say({"type": "media_put", "id": label, **fields})


def test_an_upload_by_hand() -> None:
    async def scenario() -> None:
        limits = Limits(sweep_s=0.01, media_credit_bytes=10)
        async with serving(FakeService(), limits=limits) as endpoint, RawClient(endpoint) as client:
            welcome = await client.hello("1.3")
            assert welcome["media_credit_bytes"] == 10
            assert welcome["max_media_bytes"] == limits.media_bytes // 4
            await put(client, "u", 0, SMALL[:10], SMALL)
            assert await client.hear() == {"type": "credit", "id": "u", "bytes": 10}
            await put(client, "u", 10, SMALL[10:], SMALL)
            ready = {"type": "media_ready", "id": "u", "sha256": hash_of(SMALL)}
            assert await client.hear() == ready
            await put(client, "v", 0, b"", SMALL)
            assert await client.hear() == {**ready, "id": "v"}

    run(scenario())


def test_an_upload_that_stalls_is_told_so_and_one_that_is_wrong_too() -> None:
    async def scenario() -> None:
        limits = Limits(sweep_s=0.01, stall_s=0.05, media_credit_bytes=10)
        async with serving(FakeService(), limits=limits) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.3")
            await put(client, "u", 0, SMALL[:10], SMALL)
            assert (await client.hear())["type"] == "credit"
            stalled = await client.hear()
            assert (stalled["type"], stalled["id"]) == ("failed", "u")
            assert stalled["code"] == "upload_stalled"
            await put(client, "v", 0, SMALL, SMALL)
            beyond = await client.hear()
            assert (beyond["id"], beyond["code"], beyond["param"]) == ("v", "out_of_order", "data")

    run(scenario())


def test_a_session_that_ends_leaves_no_half_upload() -> None:
    async def scenario() -> None:
        limits = Limits(sweep_s=0.01, media_bytes=4 * len(SMALL))
        async with serving(FakeService(), limits=limits) as endpoint:
            for _ in range(9):
                async with RawClient(endpoint) as client:
                    await client.hello("1.3")
                    await put(client, "u", 0, SMALL[:4], SMALL)
                    await client.say({"type": "bye"}, {"type": "hello", "protocol": "1.3"})
                    assert (await client.hear())["type"] == "welcome"
            async with AsyncClient(endpoint) as client:
                events = await gathered(client.chat(MODEL, turn(SMALL)))
                assert isinstance(events[-1], Finished)

    run(scenario())


TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def test_a_text_model_refuses_media_by_name() -> None:
    with short_directory() as directory:
        home = Home(directory)
        write_deployable(home.store / "tiny", template=TEMPLATE)
        with home.serving(), Client(home.endpoint) as client:
            for shown in (SMALL, LARGE):
                (failure,) = list(client.chat("tiny", turn(shown, text="w1 w2")))[-1:]
                assert isinstance(failure, Failed)
                assert (failure.code, failure.param) == ("invalid_parameter", "messages")
                assert "takes no image/png" in failure.message
            words = [TextPart(text="w1"), TextPart(text="w2")]
            said = [api.Message(role=api.Role.USER, content=tuple(words))]
            end = list(client.chat("tiny", said, sampling=api.Sampling(max_tokens=3)))[-1]
            assert isinstance(end, Finished)
            assert end.usage.prompt_tokens == 2
