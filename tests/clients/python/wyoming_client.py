"""The wyoming package, as Home Assistant uses it."""

import asyncio
import os
import wave

from checking import run
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop, wav_to_chunks
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

SPEECH = os.environ["NSEDGE_SPEECH"]
URI = os.environ["NSEDGE_WYOMING"]
SAID = "he might even have been made amiable himself"


def plain(text: str) -> str:
    return "".join(one for one in text.lower() if one.isalpha() or one == " ").strip()


async def events_of(client: AsyncClient, last: str) -> list:
    heard = []
    while not heard or heard[-1].type != last:
        event = await client.read_event()
        assert event is not None, heard
        assert event.type == last or event.type != "error", event
        heard.append(event)
    return heard


def describe() -> None:
    async def asked() -> Info:
        async with AsyncClient.from_uri(URI) as client:
            await client.write_event(Describe().event())
            event = await client.read_event()
            await client.write_event(Ping(text="there?").event())
            assert Pong.from_event(await client.read_event()).text == "there?"
            return Info.from_event(event)

    (program,) = asyncio.run(asked()).asr
    assert program.installed
    assert program.supports_transcript_streaming
    (model,) = [one for one in program.models if one.name == SPEECH]
    assert model.languages == ["en"]


def transcript() -> None:
    async def spoken() -> None:
        async with AsyncClient.from_uri(URI) as client:
            for _ in range(2):
                await client.write_event(Transcribe(name=SPEECH, language="en").event())
                with wave.open(os.environ["NSEDGE_RECORDING"]) as recording:
                    for one in wav_to_chunks(recording, 1024, start_event=True, stop_event=True):
                        await client.write_event(one.event())
                heard = await events_of(client, "transcript-stop")
                assert TranscriptStart.is_type(heard[0].type)
                assert TranscriptStop.is_type(heard[-1].type)
                whole = Transcript.from_event(heard[-2])
                assert plain(whole.text) == SAID
                assert whole.language == "en"
                chunks = [one for one in heard if TranscriptChunk.is_type(one.type)]
                told = "".join(TranscriptChunk.from_event(one).text for one in chunks)
                assert told == whole.text

    asyncio.run(spoken())


def silence() -> None:
    async def spoken() -> str:
        async with AsyncClient.from_uri(URI) as client:
            form = {"rate": 22_050, "width": 2, "channels": 2}
            await client.write_event(AudioStart(**form).event())
            await client.write_event(AudioChunk(**form, audio=bytes(88_200)).event())
            await client.write_event(AudioStop().event())
            return Transcript.from_event((await events_of(client, "transcript"))[-1]).text

    assert asyncio.run(spoken()) == ""


def errors() -> None:
    async def asked() -> None:
        async with AsyncClient.from_uri(URI) as client:
            await client.write_event(AudioStart(rate=16_000, width=4, channels=1).event())
            error = Error.from_event((await events_of(client, "error"))[-1])
            assert error.code == "invalid_parameter"
            await client.write_event(Transcribe(name="nope").event())
            await client.write_event(AudioStart(rate=16_000, width=2, channels=1).event())
            error = Error.from_event((await events_of(client, "error"))[-1])
            assert error.code == "unknown_model"

    asyncio.run(asked())


run(describe, transcript, silence, errors)
