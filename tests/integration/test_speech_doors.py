"""A real speech model through every door: whole and streamed, in every format, over ZeroMQ, on the
command line; files of all kinds; and nothing said where nobody speaks."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from bench.daemon import free_port
from tests.integration.test_access_real import environment, up
from tests.unit.runtime.audio.files import written
from tests.unit.web.forms import FORM, form
from tests.web_server import Answer, ask

pytestmark = pytest.mark.integration

SAID = "He might even have been made amiable himself."
WITHIN_S = 120


@dataclass(frozen=True, kw_only=True)
class Served:
    """A daemon with a speech model: its home, its shim's port, and a recording of `SAID`."""

    home: Path
    port: int
    model: str
    speech: Path

    def asked(self, path: str, data: bytes, **fields: str) -> Answer:
        given = [(name, value.encode()) for name, value in fields.items()]
        name = "audio" if path.startswith("/api") else "file"
        raw = form((name, data, "audio/wav"), *given)

        async def within() -> Answer:
            async with asyncio.timeout(WITHIN_S):
                return await ask(self.port, "POST", path, raw=raw, **FORM)

        return asyncio.run(within())

    def transcript(self, data: bytes, **fields: str) -> Any:
        answer = self.asked("/v1/audio/transcriptions", data, model=self.model, **fields)
        return answer.status, answer.json

    def command(self, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "nsedge", "transcribe", *words],
            env=environment(self.home),
            input=data,
            capture_output=True,
            check=False,
            timeout=WITHIN_S,
        )


@pytest.fixture(scope="module")
def served(speech_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home, port = tmp_path_factory.mktemp("speech"), free_port()
    with up(home, NSEDGE_MODELS_LOAD=str(speech_bundle.resolve()), NSEDGE_WEB_PORT=str(port)):
        yield Served(
            home=home,
            port=port,
            model=speech_bundle.name,
            speech=speech_bundle / "golden" / "0930.wav",
        )


def test_every_format_tells_the_same(served: Served) -> None:
    data = served.speech.read_bytes()
    assert served.transcript(data)[1]["text"] == SAID
    _, verbose = served.transcript(data, response_format="verbose_json")
    assert (verbose["text"], verbose["language"]) == (SAID, "english")
    assert verbose["duration"] == pytest.approx(3.3, abs=0.1)
    (segment,) = verbose["segments"]
    assert 0.0 <= segment["start"] < segment["end"] <= verbose["duration"]
    assert -1.0 < segment["avg_logprob"] < 0.0
    for wanted in ("text", "srt", "vtt"):
        path, fields = "/v1/audio/transcriptions", {"response_format": wanted}
        assert SAID in served.asked(path, data, model=served.model, **fields).body.decode()
    door = served.asked("/api/multimodal/audio/transcribe", data).json
    assert (door["text"], door["language"], door["model"]) == (SAID, "en", served.model)


def test_words_follow_each_other(served: Served) -> None:
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    _, told = served.transcript(served.speech.read_bytes(), **fields)
    assert " ".join(one["word"] for one in told["words"]) == SAID
    times = [time for one in told["words"] for time in (one["start"], one["end"])]
    assert times == sorted(times)
    assert times[-1] > 2.5


def test_a_stream_is_the_text(served: Served) -> None:
    data = served.speech.read_bytes()
    path = "/v1/audio/transcriptions"
    events: Any = served.asked(path, data, model=served.model, stream="true").data
    assert events[-1]["type"] == "transcript.text.done"
    assert "".join(one["delta"] for one in events[:-1]) == events[-1]["text"] == SAID


def test_the_command_line_writes_what_is_said(served: Served) -> None:
    speech = str(served.speech)
    assert served.command(speech).stdout.decode() == f"{SAID}\n"
    assert served.command("-", data=served.speech.read_bytes()).stdout.decode() == f"{SAID}\n"
    assert SAID in served.command("--srt", speech).stdout.decode()
    words = served.command("--words", speech).stdout.decode().splitlines()
    assert [line.split("\t")[2] for line in words] == SAID.split()
    two = served.command("--json", speech, speech).stdout.decode().splitlines()
    assert [json.loads(line)["text"] for line in two] == [SAID] * 2


@pytest.mark.parametrize(
    ("form_", "subtype", "rate", "channels"),
    [
        ("FLAC", "PCM_24", 48_000, 2),
        ("OGG", "VORBIS", 44_100, 1),
        ("MP3", "MPEG_LAYER_III", 44_100, 2),
        ("WAV", "PCM_16", 192_000, 1),
        ("WAV", "FLOAT", 16_000, 8),
    ],
)
def test_files_of_every_kind_are_heard(
    served: Served, form_: str, subtype: str, rate: int, channels: int
) -> None:
    samples, own = soundfile.read(served.speech, dtype="float32")
    mono = soxr.resample(samples, own, rate)
    data = written(
        np.repeat(mono[:, None], channels, axis=1), rate=rate, form=form_, subtype=subtype
    )
    status, told = served.transcript(data)
    assert (status, told["text"]) == (200, SAID)


def test_what_cannot_be_heard_is_told_in_a_line(served: Served) -> None:
    speech = served.speech.read_bytes()
    for data, why in (
        (b"\0\0\0\x20ftypM4A " + bytes(99), "MP4"),
        (bytes(5000), "no sound that is read here"),
        (speech[:20], "no sound"),
        (written(np.zeros((0, 1), np.float32)), "no samples"),
    ):
        status, told = served.transcript(data)
        assert (status, told["error"]["code"], told["error"]["param"]) == (
            400,
            "invalid_media",
            "file",
        )
        assert why in told["error"]["message"]
        assert "\n" not in told["error"]["message"]
    _, told = served.transcript(speech, language="de")
    assert told["error"]["param"] == "language"
    answer = served.asked("/v1/audio/translations", speech, model=served.model)
    assert (answer.status, answer.json["error"]["param"]) == (400, "translate")  # type: ignore[index]


def quiet(seconds: float, kind: str) -> bytes:
    """Sound that nobody speaks in."""
    rng, times = np.random.default_rng(1), np.arange(round(16_000 * seconds)) / 16_000
    made = {
        "silence": np.zeros(len(times)),
        "hum": 0.01 * np.sin(2 * np.pi * 50 * times),
        "noise": 0.05 * rng.normal(size=len(times)),
        "clicks": (rng.random(len(times)) > 0.9999).astype(float),
        "music": sum(
            0.1 * np.sin(2 * np.pi * hertz * times) * (np.sin(2 * np.pi * beat * times) > 0)
            for hertz, beat in ((220, 0.5), (277, 0.7), (330, 1.1), (440, 2.0))
        ),
        "one sample": np.full(1, 0.5),
    }[kind]
    file = io.BytesIO()
    soundfile.write(file, np.asarray(made, np.float32), 16_000, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("seconds", [5.0, 45.0])
@pytest.mark.parametrize("kind", ["silence", "hum", "noise", "clicks", "music", "one sample"])
def test_nothing_is_said_where_nobody_speaks(served: Served, kind: str, seconds: float) -> None:
    status, told = served.transcript(quiet(seconds, kind))
    assert (status, told["text"]) == (200, "")


def test_silence_between_speech_keeps_the_times(served: Served) -> None:
    samples, _ = soundfile.read(served.speech, dtype="float32")
    gap = np.zeros(16_000 * 20, np.float32)
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([gap, samples, gap, samples, gap]), 16_000, format="FLAC")
    _, told = served.transcript(file.getvalue(), response_format="verbose_json")
    starts = [one["start"] for one in told["segments"]]
    spoken_s = len(samples) / 16_000
    assert told["text"] == f"{SAID} {SAID}"
    assert starts == pytest.approx([20.0, 40.0 + spoken_s], abs=0.8)
    assert told["duration"] == pytest.approx(60.0 + 2 * spoken_s, abs=0.1)
