"""What is no picture or film that can be seen, before a model that sees, through every door: it is
refused once, by the part of the message that it is, and nobody else notices."""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from nsedge.api import (
    Failed,
    Media,
    MediaPart,
    Message,
    Role,
    TextPart,
    is_terminal,
)
from nsedge.bundle.fields import FileEntry
from nsedge.bundle.files import sha256_of, write_manifest
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vision_lm import VisionLm
from nsedge.ipc.client import AsyncClient
from nsedge.web.door_settings import DoorSettings
from tests.export.tiny_vision_lms import write_vision_folder
from tests.export.vision_rig import (
    GREEDY,
    PICTURES,
    Bundles,
    said,
    serving,
    tokens_of,
)
from tests.films import animation, film, sound_alone
from tests.web_server import running

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    root = tmp_path_factory.mktemp("models")
    return Bundles(
        {"llava": write_vision_folder(root / "Tiny-llava")}, tmp_path_factory.mktemp("bundles")
    )


@pytest.fixture
def bundle(made: Bundles, own_places: None) -> Path:
    """Asked for within a test, whose places it is made in."""
    return made["llava"]


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header says so, whatever its data are."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        told = kind + content
        return struct.pack(">I", len(content)) + told + struct.pack(">I", zlib.crc32(told))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            chunk(b"IDAT", zlib.compress(data)),
            chunk(b"IEND", b""),
        ]
    )


def encoded(form: str, size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    PICTURES[0].resize(size).save(file, form)
    return file.getvalue()


JPEG, PNG = encoded("JPEG"), encoded("PNG")
BROKEN: dict[str, bytes] = {
    "zero bytes": b"",
    "noise": bytes(range(1, 100)),
    "a PNG's first bytes alone": PNG[:8],
    "half a PNG": PNG[: len(PNG) // 2],
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "a JPEG without its tables": JPEG[:20] + JPEG[-20:],
    "a GIF without a frame": b"GIF89a\x10\x00\x10\x00\x00\x00\x00;",
    "a bomb": png(16_000, 16_000, bytes(16_000 * 2001)),
    "a header of a billion pixels": png(40_000, 40_000),
    "sound": sound_alone(),
    "a film": film(4),
    "a document": b"%PDF-1.7 and so on",
}
FILMS: dict[str, bytes] = {
    "zero bytes": b"",
    "noise": bytes(range(1, 100)),
    "half a film": (whole := film(8))[: len(whole) // 2],
    "sound alone": sound_alone(),
    "a picture": PNG,
    "a GIF that breaks off": animation(4)[:400],
    "a billion frames": whole.replace(
        whole[(at := whole.index(b"stsz") + 4) : at + 12], struct.pack(">III", 0, 0, 10**9)
    ),
}
SEEN: dict[str, bytes] = {
    "one pixel": encoded("PNG", (1, 1)),
    "a line": encoded("PNG", (1, 300)),
    "a lying line": encoded("JPEG", (300, 1)),
    "an animation": animation(3),
    "WebP": encoded("WEBP"),
    "BMP": encoded("BMP"),
}
"""What is odd, and can be seen."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request to a route about a medium: its body, and how it calls the medium."""

    path: str
    place: str
    json: Any = None
    form: aiohttp.FormData | None = None


def _turn(*content: Any) -> list[Any]:
    return [{"role": "user", "content": list(content)}]


def of_picture(data: bytes) -> list[Asked]:
    """Every way of asking about a picture over HTTP."""
    text = base64.b64encode(data).decode()
    url, question = f"data:image/png;base64,{text}", "What is this?"
    model = {"model": "tiny"}
    form = aiohttp.FormData({"text": question, "model": "tiny"})
    form.add_field("image", data, filename="a.png", content_type="image/png")
    alone = aiohttp.FormData({"text": question, "model": "tiny"})
    alone.add_field("image", data, filename="a.png", content_type="image/png")
    of_openai = {
        **model,
        "messages": _turn(
            {"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}
        ),
    }
    of_anthropic = {
        **model,
        "max_tokens": 4,
        "messages": _turn(
            {"type": "text", "text": question},
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": text},
            },
        ),
    }
    of_chat = {
        "messages": [
            {
                "role": "user",
                "content": question,
                "images": [{"data_base64": text, "mime_type": "image/png"}],
            }
        ],
        "config": {"maxTokens": 4},
    }
    turn = {"role": "user", "content": question, "images": [text]}
    return [
        Asked(path="/v1/chat/completions", place="messages[0].content[1]", json=of_openai),
        Asked(
            path="/v1/chat/completions",
            place="messages[0].content[1]",
            json={**of_openai, "stream": True},
        ),
        Asked(
            path="/v1/responses",
            place="input[0].content[0]",
            json={
                **model,
                "input": _turn(
                    {"type": "input_image", "image_url": url},
                    {"type": "input_text", "text": question},
                ),
            },
        ),
        Asked(path="/v1/messages", place="messages.0.content.1", json=of_anthropic),
        Asked(
            path="/v1/messages",
            place="messages.0.content.1",
            json={**of_anthropic, "stream": True},
        ),
        Asked(path="/api/chat", place="messages[0].images[0]", json={**model, "messages": [turn]}),
        Asked(
            path="/api/generate",
            place="image",
            json={**model, "text": question, "image": url},
        ),
        Asked(path="/api/generate", place="image", form=form),
        Asked(path="/api/multimodal/vision/caption", place="image", form=alone),
        Asked(path="/chat/vision", place="messages[0].images[0]", json=of_chat),
        Asked(path="/chat/vision/stream", place="messages[0].images[0]", json=of_chat),
    ]


def of_film(data: bytes) -> list[Asked]:
    """Every way of asking about a film over HTTP."""
    text = base64.b64encode(data).decode()
    url, question, model = f"data:video/mp4;base64,{text}", "What happens?", {"model": "tiny"}
    form = aiohttp.FormData({"text": question, "model": "tiny"})
    form.add_field("video", data, filename="a.mp4", content_type="video/mp4")
    return [
        Asked(
            path="/v1/chat/completions",
            place="messages[0].content[0]",
            json={**model, "messages": _turn({"type": "video_url", "video_url": {"url": url}})},
        ),
        Asked(
            path="/v1/responses",
            place="input[0].content[0]",
            json={**model, "input": _turn({"type": "input_video", "video_url": url})},
        ),
        Asked(path="/api/generate", place="video", json={**model, "text": question, "video": url}),
        Asked(path="/api/generate", place="video", form=form),
        Asked(
            path="/chat/vision",
            place="messages[0].videos[0]",
            json={
                "messages": [
                    {
                        "role": "user",
                        "content": question,
                        "videos": [{"data_base64": text, "mime_type": "video/mp4"}],
                    }
                ]
            },
        ),
    ]


@asynccontextmanager
async def shim_of(endpoint: str) -> AsyncIterator[tuple[AsyncClient, aiohttp.ClientSession, str]]:
    settings = DoorSettings(vision_model="tiny")
    async with (
        AsyncClient(endpoint) as client,
        running(client, settings=settings) as shim,
        aiohttp.ClientSession() as session,
    ):
        yield client, session, shim.url


async def asked(session: aiohttp.ClientSession, url: str, one: Asked) -> tuple[int, str]:
    body: dict[str, Any] = {"json": one.json} if one.form is None else {"data": one.form}
    async with session.post(url + one.path, **body) as answer:
        return answer.status, await answer.text()


async def refused(
    session: aiohttp.ClientSession, url: str, ways: Callable[[bytes], list[Asked]], data: bytes
) -> list[str]:
    """What is wrong with how each way refused a medium."""
    wrong = []
    for one in ways(data):
        status, text = await asked(session, url, one)
        ok = 400 <= status < 500 or (status == 200 and text.count("error") >= 1)
        if not ok or one.place not in text or "Traceback" in text:
            wrong.append(f"{one.path}: {status} {text[:300]}")
    return wrong


@pytest.mark.parametrize(("ways", "broken"), [(of_picture, BROKEN), (of_film, FILMS)])
def test_every_door_refuses_what_cannot_be_seen_by_its_place(
    ways: Callable[[bytes], list[Asked]], broken: dict[str, bytes], bundle: Path
) -> None:
    async def scene(endpoint: str) -> dict[str, list[str]]:
        async with shim_of(endpoint) as (client, session, url):
            good = [said("What is this?", PICTURES[0])]
            wanted = (await client.chat("tiny", good, sampling=GREEDY).collected()).text
            wrong = {}
            for name, data in broken.items():
                beside = asyncio.ensure_future(
                    client.chat("tiny", good, sampling=GREEDY).collected()
                )
                wrong[name] = await refused(session, url, ways, data)
                assert (await beside).text == wanted
            return wrong

    with serving(bundle, "cpu-fp32") as (_, endpoint):
        wrong = asyncio.run(scene(endpoint))
    assert {name: found for name, found in wrong.items() if found} == {}


def test_what_is_odd_is_seen_through_every_door(bundle: Path) -> None:
    async def scene(endpoint: str) -> list[str]:
        wrong = []
        async with shim_of(endpoint) as (_, session, url):
            for name, data in SEEN.items():
                for one in of_picture(data):
                    status, text = await asked(session, url, one)
                    if status != 200:
                        wrong.append(f"{name}, {one.path}: {status} {text[:200]}")
        return wrong

    with serving(bundle, "cpu-fp32") as (_, endpoint):
        assert asyncio.run(scene(endpoint)) == []


def test_over_zeromq_each_ends_once_in_a_mixed_batch(bundle: Path) -> None:
    kinds = {"image/png": BROKEN, "video/mp4": FILMS}
    bad = [
        Message(
            role=Role.USER,
            content=(TextPart(text="?"), MediaPart(media=Media(type=kind, data=data))),
        )
        for kind, broken in kinds.items()
        for data in broken.values()
        if data
    ]
    with serving(bundle, "cpu-fp32", slots=16) as (client, _):
        good = [[said("What?", PICTURES[number % 3])] for number in range(len(bad))]
        alone = [tokens_of(client.chat("tiny", turns, sampling=GREEDY)) for turns in good]
        asked = [
            (client.chat("tiny", turns, sampling=GREEDY), client.chat("tiny", [turn]))
            for turns, turn in zip(good, bad, strict=True)
        ]
        for (well, badly), wanted in zip(asked, alone, strict=True):
            assert tokens_of(well) == wanted
            events = list(badly)
            assert [type(event) for event in events if is_terminal(event)] == [Failed]
            end = events[-1]
            assert isinstance(end, Failed)
            assert end.code in ("invalid_media", "message_too_large")
            assert end.message.startswith("messages[0].content[1]: ")
            assert end.param == "messages[0].content[1]"


def test_over_a_websocket_each_ends_once(bundle: Path) -> None:
    async def scene(endpoint: str) -> None:
        async with (
            shim_of(endpoint) as (_, session, url),
            session.ws_connect(f"{url}/v1/stream") as socket,
        ):
            for number, data in enumerate(filter(None, BROKEN.values())):
                part = {"type": "media", "media_type": "image/png", "data": data}
                content = [{"type": "text", "text": "?"}, part]
                turn = {"role": "user", "content": content}
                chat = {"type": "chat", "id": str(number), "model": "tiny", "messages": [turn]}
                await socket.send_bytes(msgpack.packb(chat))
                end = {"type": "loading"}
                while end["type"] == "loading":
                    end = msgpack.unpackb((await socket.receive()).data)
                assert (end["type"], end["id"]) == ("failed", str(number)), end
                assert end["message"].startswith("messages[0].content[1]: ")

    with serving(bundle, "cpu-fp32") as (_, endpoint):
        asyncio.run(scene(endpoint))


def poisoned(bundle: Path, folder: Path) -> Path:
    """A copy of `bundle` whose encoder gives NaN for a picture that is white, and no other."""
    copy = Path(shutil.copytree(bundle, folder / bundle.name))
    manifest = Bundle.open(copy).of_kind(VisionLm).manifest
    files = dict(manifest.files)
    for encoder in manifest.components.image.variants:
        path = copy / encoder.graph
        model = onnx.load(path, load_external_data=False)
        _spoil(model.graph, encoder.io.pixel_values, encoder.io.embeds)
        onnx.save(model, path)
        files[encoder.graph] = FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)
    write_manifest(copy, msgspec.structs.replace(manifest, files=files))
    return copy


def _spoil(graph: Any, pixels: str, rows: str) -> None:
    """Have NaN in the rows of a picture whose least number is above 1.9: of CLIP's, white alone."""
    for node in graph.node:
        node.output[:] = ["well" if name == rows else name for name in node.output]
    for name, value in (("limit", 1.9), ("none", 0.0), ("nan", np.nan)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    for name, axes in (("behind", [1, 2]), ("within", [1, 2, 3])):
        graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), name))
    graph.node.extend(
        [
            helper.make_node("ReduceMin", [pixels, "within"], ["least"], keepdims=0),
            helper.make_node("Greater", ["least", "limit"], ["white"]),
            helper.make_node("Where", ["white", "nan", "none"], ["harm"]),
            helper.make_node("Unsqueeze", ["harm", "behind"], ["spread"]),
            helper.make_node("Add", ["well", "spread"], [rows]),
        ]
    )


def test_a_picture_that_the_encoder_fails_on_fails_its_own_request_alone(
    bundle: Path, tmp_path: Path
) -> None:
    white = Image.new("RGB", (40, 30), "white")
    bad, good = [said("Hm?", PICTURES[1], white)], [said("What?", PICTURES[0])]
    with serving(poisoned(bundle, tmp_path), "cpu-fp32", slots=8) as (client, _):
        wanted = tokens_of(client.chat("tiny", good, sampling=GREEDY))
        asked = [client.chat("tiny", turns, sampling=GREEDY) for turns in [good, bad] * 4]
        for number, one in enumerate(asked):
            events = list(one)
            assert sum(map(is_terminal, events)) == 1
            if number % 2 == 0:
                assert tokens_of(events) == wanted
            else:
                assert isinstance(end := events[-1], Failed)
                assert (end.code, end.message) == (
                    "engine_failure",
                    "the model failed on messages[0].content[2]",
                )
        assert tokens_of(client.chat("tiny", good, sampling=GREEDY)) == wanted
