"""Sound while it comes, heard by a real speech model: over ZeroMQ and the WebSocket."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import numpy as np
import pytest
import soundfile
import soxr

from bench.daemon import free_port
from nsedge.api import Activity, Committed, Event, Failed, Feed, Finished, Mark, Segment, SoundForm
from nsedge.api.transcripts import joined_text
from nsedge.ipc.client import AsyncClient
from tests.integration.test_access_real import up

pytestmark = pytest.mark.integration

SAID = "He might even have been made amiable himself."
RATE = 16_000
WITHIN_S = 120


@dataclass(frozen=True, kw_only=True)
class Served:
    """A daemon with a speech model: its endpoint, its shim's port, and a recording of `SAID`."""

    endpoint: str
    port: int
    model: str
    samples: np.ndarray

    def listened(self, pieces: list[bytes | Mark], **fields: Any) -> list[Event]:
        """The events of sound that is pushed as fast as it is heard."""

        async def within() -> list[Event]:
            feed = Feed()
            async with asyncio.timeout(WITHIN_S), AsyncClient(self.endpoint) as client:
                stream = client.listen(self.model, feed, **fields)
                saying = asyncio.create_task(asyncio.to_thread(_say, feed, pieces))
                told = [event async for event in stream]
                await saying
                return told

        return asyncio.run(within())


def _say(feed: Feed, pieces: list[bytes | Mark]) -> None:
    for piece in pieces:
        if isinstance(piece, Mark):
            feed.mark(piece)
        else:
            feed.put(piece)


def whole(events: list[Event]) -> str:
    return joined_text(one for one in events if isinstance(one, Segment) and one.final)


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower().replace("-", " ")).split())


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


@pytest.fixture(scope="module")
def served(speech_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home, port = tmp_path_factory.mktemp("listen"), free_port()
    samples, rate = soundfile.read(speech_bundle / "golden" / "0930.wav", dtype="float32")
    assert rate == RATE
    endpoint = f"ipc://{home}/core.sock"
    with up(
        home,
        NSEDGE_MODELS_LOAD=str(speech_bundle.resolve()),
        NSEDGE_WEB_PORT=str(port),
        NSEDGE_ENDPOINT=endpoint,
    ):
        yield Served(endpoint=endpoint, port=port, model=speech_bundle.name, samples=samples)


def test_two_utterances_are_told_apart_and_as_a_file_is(served: Served) -> None:
    speech = pcm(served.samples)
    told = served.listened([silence(1.0), speech, silence(1.5), speech, silence(1.5), Mark.END])
    assert plain(whole(told)) == plain(f"{SAID} {SAID}")
    turns = [one.speaking for one in told if isinstance(one, Activity)]
    assert turns == [True, False, True, False]
    assert len([one for one in told if isinstance(one, Committed)]) == 3
    finals = [one for one in told if isinstance(one, Segment) and one.final]
    assert 0.5 <= finals[0].start_s <= 1.5
    assert finals[0].end_s <= finals[1].start_s
    assert 5.0 <= finals[1].start_s <= 6.5
    assert isinstance(end := told[-1], Finished)
    assert end.usage.audio_s == pytest.approx(4.0 + 2 * len(served.samples) / RATE, abs=0.01)


@pytest.mark.parametrize(
    ("form", "rate"),
    [(SoundForm.F32LE, 48_000), (SoundForm.S16LE, 24_000), (SoundForm.ULAW, 8_000)],
)
def test_other_forms_and_rates_are_heard(served: Served, form: SoundForm, rate: int) -> None:
    samples = soxr.resample(served.samples, RATE, rate)
    if form is SoundForm.ULAW:
        out = io.BytesIO()
        soundfile.write(out, samples, rate, format="RAW", subtype="ULAW")
        data = out.getvalue()
    else:
        data = samples.astype("<f4").tobytes() if form is SoundForm.F32LE else pcm(samples)
    told = served.listened([data, Mark.END], form=form, rate=rate, partials=False)
    assert plain(whole(told)) == plain(SAID)


def test_partials_never_take_back_what_was_stable(served: Served) -> None:
    stable = ""
    done = ""
    for event in served.listened([pcm(served.samples), Mark.END], step_s=0.3):
        if isinstance(event, Segment):
            now = done + event.text[: event.stable]
            assert now.startswith(stable)
            stable = now
            done += event.text if event.final else ""
    assert plain(stable) == plain(SAID)


def test_without_a_detector_the_client_commits(served: Served) -> None:
    speech = pcm(served.samples)
    told = served.listened(
        [speech, Mark.COMMIT, speech, Mark.CLEAR, speech, Mark.END],
        vad=False,
        partials=False,
        word_timestamps=True,
    )
    finals = [one for one in told if isinstance(one, Segment)]
    assert plain(whole(told)) == plain(f"{SAID} {SAID}")
    seconds = len(served.samples) / RATE
    assert [one.at_s for one in told if isinstance(one, Committed)] == [
        pytest.approx(seconds, abs=0.05),
        pytest.approx(3 * seconds, abs=0.05),
    ]
    for segment in finals:
        times = [time for word in segment.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times)
        assert segment.start_s - 0.1 <= times[0] <= times[-1] <= segment.end_s + 0.1


def test_nothing_is_said_where_nobody_speaks(served: Served) -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.01, 20 * RATE).clip(-1, 1)
    told = served.listened([pcm(noise), silence(20.0), Mark.END])
    assert whole(told) == ""


def test_silence_of_the_client_ends_it(served: Served) -> None:
    told = served.listened([pcm(served.samples)], idle_s=1.0)
    assert isinstance(end := told[-1], Failed)
    assert (end.code, end.message) == ("upload_stalled", "no sound came for 1 s")


def test_the_same_over_a_websocket(served: Served) -> None:
    async def within() -> list[dict[str, Any]]:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{served.port}/v1/stream") as socket,
        ):
            asked = {"type": "listen", "id": "a", "model": served.model, "partials": False}
            await socket.send_bytes(msgpack.packb(asked))
            audio = {"type": "audio", "id": "a", "data": pcm(served.samples), "then": "end"}
            await socket.send_bytes(msgpack.packb(audio))
            heard: list[dict[str, Any]] = []
            while not heard or heard[-1]["type"] not in ("finished", "failed"):
                message = await socket.receive(WITHIN_S)
                heard.append(msgpack.unpackb(message.data))
            return heard

    heard = asyncio.run(within())
    assert heard[-1]["type"] == "finished"
    assert plain(" ".join(one["text"] for one in heard if one["type"] == "segment")) == plain(SAID)


def test_a_command_writes_what_a_recorder_makes_until_it_is_interrupted(served: Served) -> None:
    command = [sys.executable, "-m", "nsedge", "transcribe", "--quiet", "--live", "--raw", "16000"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "NSEDGE_ENDPOINT": served.endpoint},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write(pcm(served.samples) + silence(1.5) + pcm(served.samples))
        process.stdin.flush()
        assert plain(process.stdout.readline().decode()) == plain(SAID)
        process.send_signal(signal.SIGINT)  # standard input stays open, as a recorder's does
        assert plain(process.stdout.readline().decode()) == plain(SAID)
        process.stdin.close()
    assert process.returncode == 0
