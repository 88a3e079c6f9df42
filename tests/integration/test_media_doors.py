"""Real files in conversations through every door: a captioner and a speech model make texts of
them, and a model that reads text answers. The captioner's weights are random: what it writes is
held to what it writes when it is asked alone."""

from __future__ import annotations

import asyncio
import base64
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
from PIL import Image

from bench.daemon import free_port
from nsedge.api import Media, MediaPart, MediaRead, Message, Role, Sampling, TextPart
from nsedge.ipc.client import Client
from tests.integration.test_access_real import environment, up
from tests.integration.test_speech_doors import SAID
from tests.unit.web.forms import FORM, form
from tests.web_server import Answer, ask

pytestmark = pytest.mark.integration
WITHIN_S = 120


@dataclass(frozen=True, kw_only=True)
class Served:
    """A daemon with three models, and the port of its shim."""

    home: Path
    port: int
    writer: str
    eyes: str
    ears: str
    speech: Path

    def asked(self, path: str, body: object = None, *parts: Any) -> Answer:
        options: dict[str, Any] = {"raw": form(*parts), **FORM} if parts else {}

        async def within() -> Answer:
            async with asyncio.timeout(WITHIN_S):
                return await ask(self.port, "POST", path, body, **options)

        return asyncio.run(within())

    def caption_of(self, data: bytes, kind: str) -> str:
        answer = self.asked("/api/multimodal/vision/caption", None, ("image", data, kind))
        assert answer.status == 200, answer.body
        return str(answer.json["caption"]).strip()


@pytest.fixture(scope="module")
def served(
    starter_bundle: Path,
    speech_bundle: Path,
    captioner: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    home, port = tmp_path_factory.mktemp("media"), free_port()
    bundles = [starter_bundle, speech_bundle, captioner]
    paths = ",".join(str(one.resolve()) for one in bundles)
    with up(home, NSEDGE_MODELS_LOAD=paths, NSEDGE_WEB_PORT=str(port)):
        yield Served(
            home=home,
            port=port,
            writer=starter_bundle.name,
            eyes=captioner.name,
            ears=speech_bundle.name,
            speech=speech_bundle / "golden" / "0930.wav",
        )


def picture(form_: str, seed: int = 0) -> bytes:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 255, (40, 52, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form_)
    return file.getvalue()


def sound(served: Served, form_: str) -> bytes:
    samples, rate = soundfile.read(served.speech, dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form_)
    return file.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{b64(data)}"


def bodies(served: Served, png: bytes, wav: bytes) -> dict[str, tuple[dict[str, Any], int]]:
    """A body for each door, and how many media it brings."""
    said = {"type": "text", "text": "What is it?"}
    seen = {"type": "image_url", "image_url": {"url": url(png, "image/png")}}
    heard = {"type": "input_audio", "input_audio": {"data": b64(wav), "format": "wav"}}
    also = {"type": "audio_url", "audio_url": {"url": url(wav, "audio/wav")}}
    item = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": url(png, "image/png")},
        heard,
    ]
    source = {"type": "base64", "media_type": "image/png", "data": b64(png)}
    model = {"model": served.writer}
    few = {"max_tokens": 4, "temperature": 0}
    return {
        "/v1/chat/completions": (
            {**model, **few, "messages": [{"role": "user", "content": [said, seen, heard, also]}]},
            3,
        ),
        "/v1/responses": (
            {
                **model,
                "max_output_tokens": 4,
                "input": [{"type": "message", "role": "user", "content": item}],
            },
            2,
        ),
        "/v1/messages": (
            {
                **model,
                "max_tokens": 4,
                "messages": [
                    {"role": "user", "content": [said, {"type": "image", "source": source}]}
                ],
            },
            1,
        ),
        "/chat/vision": (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": "What is it?",
                        "images": [{"data_base64": b64(png), "mime_type": "image/png"}],
                    }
                ],
                "model_key": served.writer,
                "config": {"maxTokens": 4},
            },
            1,
        ),
        "/api/chat": (
            {
                **model,
                "stream": False,
                "options": {"num_predict": 4},
                "messages": [{"role": "user", "content": "What is it?", "images": [b64(png)]}],
            },
            1,
        ),
        "/api/generate": (
            {"text": "What is it?", **few, **model, "image": b64(png), "audio": [b64(wav)]},
            2,
        ),
    }


def test_every_door_joins_what_others_made(served: Served) -> None:
    png, wav = picture("PNG"), served.speech.read_bytes()
    caption = served.caption_of(png, "image/png")
    for path, (body, count) in bodies(served, png, wav).items():
        answer = served.asked(path, body)
        assert answer.status == 200, (path, answer.body)
        media: Any = answer.json["media"]
        assert len(media) == count, path
        for one in media:
            made = (one["model"], one["text"])
            assert made in ((served.eyes, caption), (served.ears, SAID)), path


def test_files_of_every_kind_in_a_form(served: Served) -> None:
    for form_ in ("PNG", "JPEG", "WebP", "GIF"):
        data, kind = picture(form_, seed=3), f"image/{form_.lower()}"
        caption = served.caption_of(data, kind)
        answer = served.asked(
            "/api/generate/stream", None, ("text", b"Well?"), ("max_tokens", b"2"),
            ("model", served.writer.encode()), ("image", data, kind),
        )  # fmt: skip
        events: list[Any] = answer.data
        (told,) = events[0]["media"]
        assert (told["text"], told["place"]) == (caption, "image"), form_
        assert events[-1]["done"]
    for form_ in ("WAV", "FLAC", "MP3"):
        parts = [
            ("text", b"Well?"),
            ("max_tokens", b"2"),
            ("model", served.writer.encode()),
            ("audio", sound(served, form_), f"audio/{form_.lower()}"),
        ]
        answer = served.asked("/api/generate", None, *parts)
        (told,) = answer.json["media"]  # type: ignore[misc]
        assert (told["text"], told["model"]) == (SAID, served.ears), form_


def test_raw_frames_over_zeromq(served: Served) -> None:
    frame = np.random.default_rng(5).integers(0, 255, (40, 52, 3), dtype=np.uint8)
    raw = Media(type="image/x-raw", data=frame.tobytes(), shape=frame.shape, dtype=str(frame.dtype))
    parts = (MediaPart(media=raw), TextPart(text="Well?"))
    turn = Message(role=Role.USER, content=parts)
    endpoint = f"ipc://{served.home}/core.sock"
    with Client(endpoint) as client:
        events = list(client.chat(served.writer, [turn], sampling=Sampling(max_tokens=2)))
        alone = list(client.caption(served.eyes, raw))
    (told,) = (one for one in events if isinstance(one, MediaRead))
    assert told.place == "messages[0].content[0]"
    assert told.text == "".join(getattr(one, "text", "") for one in alone).strip()


def test_a_broken_file_is_named_by_its_place(served: Served) -> None:
    png = picture("PNG")[:60]
    for path, (body, _) in bodies(served, png, served.speech.read_bytes()).items():
        answer = served.asked(path, body)
        assert answer.status == 400, (path, answer.body)
        told = answer.body.decode()
        assert "picture" in told, path
        assert any(place in told for place in ("content", "images[0]", "image:")), (path, told)


def test_the_command_line_shows_and_plays(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "quay.png"
    file.write_bytes(picture("PNG"))
    words = ["--image", str(file), "--audio", str(served.speech), "--max-tokens", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "nsedge", "run", served.writer, *words, "Well?"],
        env=environment(served.home),
        capture_output=True,
        check=True,
        timeout=WITHIN_S,
        text=True,
    )
    assert f"{served.speech}: {SAID} ({served.ears})" in done.stderr
    assert f"{file}: " in done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "nsedge", "run", "--json", served.writer, *words, "Well?"],
        env=environment(served.home),
        capture_output=True,
        check=True,
        timeout=WITHIN_S,
        text=True,
    )
    kinds = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    assert kinds.count("media_read") == 2
    assert kinds[-1] == "finished"
