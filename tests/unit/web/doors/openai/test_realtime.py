"""Realtime sessions over a real loopback socket."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from nsedge.api import Listen, SoundForm
from nsedge.errors import InvalidParameter
from nsedge.web.doors.openai.realtime.settings import Settings, updated, updated_beta
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.web_server import Shim, ask, served, until

PATH = "/v1/realtime?intent=transcription"
SOUND = b"one two"


class Session:
    """A client of a session."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **fields}))

    async def append(self, data: bytes) -> None:
        await self.say("input_audio_buffer.append", audio=b64encode(data).decode())

    async def hear(self) -> dict[str, Any]:
        message = await self.socket.receive(5)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        told = json.loads(message.data)
        assert told.pop("event_id").startswith("event_")
        return told

    async def until(self, kind: str) -> list[dict[str, Any]]:
        heard = [await self.hear()]
        while heard[-1]["type"] != kind:
            heard.append(await self.hear())
        return heard


COMPLETED = "conversation.item.input_audio_transcription.completed"


def talk(
    said: Callable[[Session], Awaitable[None]],
    service: FakeService | None = None,
    *,
    path: str = PATH,
    limits: WebLimits | None = None,
    **headers: str,
) -> FakeService:
    used = service or FakeService()

    async def test(shim: Shim) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{shim.url}{path}", headers=headers) as socket,
        ):
            await said(Session(socket))

    served(test, used, limits)
    return used


def test_a_turn_from_its_first_sound_to_its_transcript() -> None:
    async def said(session: Session) -> None:
        created = await session.hear()
        assert created["type"] == "session.created"
        assert created["session"]["type"] == "transcription"
        detection = created["session"]["audio"]["input"]["turn_detection"]
        assert detection["silence_duration_ms"] == 500
        await session.append(b"one two three.")
        heard = await session.until(COMPLETED)
        assert heard[-1]["transcript"] == "one two three."
        assert heard[0]["type"] == "input_audio_buffer.speech_started"
        await session.append(b"four.")
        again = await session.until(COMPLETED)
        assert again[-1]["transcript"] == "four."
        assert again[-1]["item_id"] != heard[-1]["item_id"]

    task = talk(said).requests[0].task
    assert isinstance(task, Listen)
    assert (task.form, task.rate, task.vad, task.silence_s) == (SoundForm.S16LE, 24_000, None, 0.5)


def test_a_session_is_set_and_told_back_and_the_next_sound_is_heard_so() -> None:
    async def said(session: Session) -> None:
        await session.hear()
        await session.append(b"one.")
        await session.until(COMPLETED)
        audio = {
            "format": {"type": "audio/pcmu"},
            "noise_reduction": {"type": "near_field"},
            "transcription": {"model": MODEL, "language": "german", "prompt": "Dashwood"},
            "turn_detection": None,
        }
        wanted = {"type": "transcription", "audio": {"input": audio}}
        await session.say("session.update", session=wanted, event_id="mine")
        (*_, updated) = await session.until("session.updated")
        assert updated["session"]["audio"]["input"] == {
            "format": {"type": "audio/pcmu"},
            "noise_reduction": None,
            "transcription": {"model": MODEL, "language": "german", "prompt": "Dashwood"},
            "turn_detection": None,
        }
        await session.append(b"x" * 800)
        await session.say("input_audio_buffer.commit")
        heard = await session.until(COMPLETED)
        assert heard[0]["type"] == "input_audio_buffer.committed"
        assert heard[-1]["transcript"] == "x" * 800

    second = talk(said).requests[1].task
    assert isinstance(second, Listen)
    assert (second.form, second.rate, second.vad, second.partials) == (
        SoundForm.ULAW,
        8_000,
        False,
        False,
    )
    assert (second.language, second.prompt) == ("de", "Dashwood")


def test_the_beta_is_spoken_to_as_it_speaks() -> None:
    async def said(session: Session) -> None:
        created = await session.hear()
        assert created["type"] == "transcription_session.created"
        assert created["session"]["input_audio_format"] == "pcm16"
        wanted = {
            "input_audio_format": "g711_alaw",
            "input_audio_transcription": {"model": MODEL},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 800},
        }
        await session.say("transcription_session.update", session=wanted)
        told = await session.hear()
        assert told["type"] == "transcription_session.updated"
        assert told["session"]["input_audio_format"] == "g711_alaw"
        assert told["session"]["turn_detection"]["silence_duration_ms"] == 800
        await session.append(b"one.")
        heard = await session.until(COMPLETED)
        assert "conversation.item.created" in [one["type"] for one in heard]

    talk(said, **{"OpenAI-Beta": "realtime=v1"})


def test_what_is_wrong_with_an_event_is_told_and_the_session_goes_on() -> None:
    async def said(session: Session) -> None:
        await session.hear()
        await session.say("response.create", event_id="e1")
        error = (await session.hear())["error"]
        assert (error["type"], error["event_id"]) == ("invalid_request_error", "e1")
        assert "response.create" in error["message"]
        await session.say("input_audio_buffer.append", audio="***")
        assert (await session.hear())["error"]["param"] == "audio"
        await session.say("input_audio_buffer.commit")
        error = (await session.hear())["error"]
        assert error["code"] == "input_audio_buffer_commit_empty"
        await session.socket.send_bytes(b"x")
        assert (await session.hear())["error"]["message"] == "events are text messages"
        wanted = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}
        await session.say("session.update", session={"type": "transcription", **wanted})
        assert (await session.hear())["error"]["code"] == "model_not_found"
        await session.say("input_audio_buffer.clear")
        assert (await session.hear())["type"] == "input_audio_buffer.cleared"
        await session.append(b"one.")
        assert (await session.until(COMPLETED))[-1]["transcript"] == "one."

    talk(said)


def test_a_request_that_fails_is_told_and_the_next_sound_begins_another() -> None:
    async def said(session: Session) -> None:
        await session.hear()
        await session.append(b"one.")
        (*_, error) = await session.until("error")
        assert error["error"]["code"] == "queue_full"
        service.max_requests = 1
        await session.append(b"two.")
        assert (await session.until(COMPLETED))[-1]["transcript"] == "two."

    service = FakeService(max_requests=0)
    talk(said, service)


def test_a_client_that_leaves_while_it_is_heard_out_is_noticed() -> None:
    service = FakeService(gate=asyncio.Event())

    async def said(session: Session) -> None:
        await session.hear()
        await session.append(b"one two")
        await session.until("input_audio_buffer.speech_started")
        audio = {"input": {"transcription": {"language": "de"}}}
        await session.say("session.update", session={"type": "transcription", "audio": audio})
        await until(lambda: any(ticket.request.task.feed.ended for ticket in service.live))
        await session.socket.close()
        await until(lambda: not service.live)

    assert talk(said, service).cancelled == 1


def test_sound_comes_as_fast_as_it_is_heard() -> None:
    async def said(session: Session) -> None:
        await session.hear()
        for _ in range(12):
            await session.append(b"word " * 40_000)
            await session.say("input_audio_buffer.clear")
        await session.append(b"end.")
        heard = await session.until(COMPLETED)
        assert heard[-1]["transcript"].endswith("end.")

    limits = WebLimits(max_body_bytes=400_000)
    talk(said, FakeService(max_untaken=100_000), limits=limits)


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/realtime", "intent"),
        (f"{PATH}&model=nope", "model"),
        ("/v1/realtime?intent=x", "intent"),
    ],
)
def test_a_session_that_cannot_be_is_refused_before_it_begins(path: str, param: str) -> None:
    async def test(shim: Shim) -> None:
        answer = await ask(shim.port, "GET", path)
        assert answer.status in (400, 404)
        assert answer.json["error"]["param"] == param

    served(test)


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"type": "realtime"}, "session.type"),
        ({"include": ["item.input_audio_transcription.logprobs"]}, "session.include"),
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "session.audio.input.format"),
        (
            {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
            "session.audio.input.format.rate",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}},
            "session.audio.input.turn_detection.type",
        ),
        (
            {"audio": {"input": {"turn_detection": {"silence_duration_ms": 1}}}},
            "silence_duration_ms",
        ),
        ({"audio": {"input": {"turn_detection": {"threshold": 7}}}}, "threshold"),
        ({"audio": {"input": {"transcription": {"language": "xx"}}}}, "language"),
        ({"audio": {"output": {}}}, "session"),
        ({"instructions": "be brief"}, "session"),
    ],
)
def test_what_cannot_be_set_is_refused_by_name(session: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        updated(Settings(), session)
    assert refused.value.param == param


def test_only_what_is_given_is_set() -> None:
    first = updated_beta(
        Settings(model="m"),
        {"input_audio_transcription": {"language": "en"}, "turn_detection": None},
    )
    assert (first.model, first.language, first.turns) == ("m", "en", False)
    second = updated(first, {"audio": {"input": {"transcription": {"prompt": None}}}})
    assert (second.model, second.language, second.prompt, second.turns) == ("m", "en", "", False)
    assert updated(second, {"audio": {"input": {"transcription": None}}}).model is None
