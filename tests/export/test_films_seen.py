"""Films before models that see: what a daemon answers about the frames of one is what transformers
answers about these as pictures; and a batch of rows of all kinds is each row alone."""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch
from PIL import Image

from nsedge.api import (
    Chat,
    Media,
    MediaPart,
    Message,
    PromptQuestion,
    Role,
    TextPart,
)
from nsedge.errors import ContextExceeded, InvalidMedia, InvalidParameter
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.settings import PrefixReuse
from nsedge.runtime.vision.films import Film, FilmLimits
from nsedge.web.door_settings import DoorSettings
from tests.export.tiny_vision_lms import marker_of, write_vision_folder
from tests.export.vision_rig import (
    GREEDY,
    PICTURES,
    ROWS,
    TOKENS,
    Bundles,
    ByTransformers,
    media,
    said,
    serving,
    tokens_of,
)
from tests.films import animation, film
from tests.web_server import running

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

FAMILIES = {"llava": ROWS, "idefics3": ROWS // 4, "qwen2_5_vl": 6 * 4}
"""With how many tokens a frame has."""
SCENES = [picture.resize((96, 64)) for picture in PICTURES for _ in range(5)]
FILM = film(pictures=SCENES)
"""Of 3 s: three pictures, a second each."""
TIMES = ("0:00", "0:01", "0:02")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: write_vision_folder(root / f"Tiny-{family}", family) for family in FAMILIES}


@pytest.fixture(scope="module")
def made(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(folders, tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def bundles(made: Bundles, own_places: None) -> Bundles:
    """Asked for within a test, whose places they are made in."""
    return made


def filmed(data: bytes, text: str, **choice: Any) -> Message:
    part = MediaPart(media=Media(type="video/mp4", data=data), **choice)
    return Message(role=Role.USER, content=(part, TextPart(text=text)))


def by_transformers(folder: Path, family: str, question: str) -> list[int]:
    """The answer about the frames of FILM, each behind its time."""
    reference = ByTransformers(folder, family)
    told = [{"type": "image"}, {"type": "text", "text": question}]
    prompt = reference.processor.apply_chat_template(
        [{"role": "user", "content": told}], add_generation_prompt=True
    )
    marker = marker_of(family)
    prompt = prompt.replace(marker, "".join(f"Frame at {time}: {marker}\n" for time in TIMES))
    opened = Film(Media(type="video/mp4", data=FILM), FilmLimits())
    frames: list[Image.Image] = [opened.picture(number) for number in (0, 5, 10)]
    if family == "idefics3":
        reference.processor.image_processor.do_image_splitting = False
    read = reference.processor(text=prompt, images=frames, return_tensors="pt")
    read.pop("token_type_ids", None)
    with torch.no_grad():
        made = reference.model.generate(
            **read, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False
        )
    return made[0, read["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_about_films_are_those_of_transformers_about_their_frames(
    family: str, folders: dict[str, Path], bundles: Bundles
) -> None:
    wanted = by_transformers(folders[family], family, "What happens?")
    with serving(bundles[family], "cpu-fp32") as (client, _):
        turns = [filmed(FILM, "What happens?")]
        assert tokens_of(client.chat("tiny", turns, sampling=GREEDY)) == wanted
        end = client.chat("tiny", turns, sampling=GREEDY).collected()
        rows = end.usage.media_tokens // 3
        assert (end.usage.images, end.usage.media_tokens) == (3, 3 * rows)
        assert rows == FAMILIES[family]
        assert client.stats().models["tiny"].images == 3  # the second time, none is encoded


MIXED = [
    [said("No picture at all.")],
    [said("One.", PICTURES[0])],
    [said(PICTURES[1], PICTURES[2], PICTURES[0], "Three.")],
    [filmed(FILM, "A film.")],
    [said("Words alone, many of them, and more.")],
    [said(PICTURES[2], "Here?"), said("A ball.", role=Role.ASSISTANT), said("So?", PICTURES[1])],
    [filmed(animation(4, shown_ms=1000), "An animation.")],
    [filmed(FILM, "Twice.", frames=2)],
]


@pytest.mark.parametrize("form", ["cpu-fp32", "cpu-int8-native"])
def test_a_batch_of_sixteen_of_every_kind_is_each_alone(form: str, bundles: Bundles) -> None:
    off = {"prefix_reuse": PrefixReuse.OFF}
    with serving(bundles["llava"], form, **off) as (client, _):
        alone = [tokens_of(client.chat("tiny", turns, sampling=GREEDY)) for turns in MIXED]
    assert len({tuple(tokens) for tokens in alone}) == len(MIXED)
    together = {"slots": 16, "prefill_chunk_tokens": 7, **off}
    with serving(bundles["llava"], form, **together) as (client, _):
        asked = [client.chat("tiny", turns, sampling=GREEDY) for turns in MIXED * 2]
        assert [tokens_of(one) for one in asked] == alone * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_second_turn_goes_on_behind_what_the_first_showed(family: str, bundles: Bundles) -> None:
    shown = (said("What is this?", PICTURES[0]), filmed(FILM, "What happens?"))
    with serving(bundles[family], "cpu-int8-native") as (client, _):
        for number, message in enumerate(shown):
            first = client.chat("tiny", [message], sampling=GREEDY).collected()
            encoded = client.stats().models["tiny"].images
            again = [message, said("A woman.", role=Role.ASSISTANT), said("Is she?")]
            second = client.chat("tiny", again, sampling=GREEDY).collected()
            assert second.usage.media_tokens == first.usage.media_tokens > 0, number
            assert second.usage.cached_tokens >= first.usage.media_tokens
            assert client.stats().models["tiny"].images == encoded


@pytest.mark.parametrize(
    ("turn", "error", "told"),
    [
        (filmed(FILM[:200], "?"), InvalidMedia, r"messages\[0\].content\[0\]: it cannot be read"),
        (filmed(media(PICTURES[0]).data, "?"), InvalidMedia, r"content\[0\]: .* are no film in"),
        (filmed(FILM, "?", frames=65), InvalidParameter, "65 frames; at most 64"),
        (filmed(FILM, "?", fps=30.0), InvalidParameter, "30 frames a second are 90 of 3 s"),
        (filmed(FILM, "?", fps=0.0), InvalidParameter, r"content\[0\].fps must be at least"),
        (filmed(FILM, "?", fps=5.0, frames=15), ContextExceeded, "the context holds 512"),
        (
            Message(role=Role.USER, content=(MediaPart(media=media(PICTURES[0]), frames=3),)),
            InvalidParameter,
            r"content\[0\].frames is of films, not of image/png",
        ),
    ],
)
def test_what_cannot_be_looked_at_is_refused(
    turn: Message, error: type[Exception], told: str, bundles: Bundles
) -> None:
    wide = {"context_tokens": 512}
    with serving(bundles["llava"], "cpu-fp32", **wide) as (client, _):
        with pytest.raises(error, match=told):
            client.chat("tiny", [turn] * (2 if error is ContextExceeded else 1)).collected()
        assert all(model.images == 0 for model in client.stats().models.values())


def test_doors_hand_films_on_and_count_their_tokens(bundles: Bundles) -> None:
    question, data = "What happens?", base64.b64encode(FILM).decode()
    text, url = {"type": "text", "text": question}, f"data:video/mp4;base64,{data}"
    config = {"temperature": 0, "max_tokens": TOKENS, "min_tokens": TOKENS}
    asked: dict[str, Any] = {
        "/v1/chat/completions": {
            "model": "tiny",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "video_url", "video_url": {"url": url}, "frames": 2},
                        text,
                    ],
                }
            ],
            **config,
        },
        "/v1/responses": {
            "model": "tiny",
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_video", "video_url": url, "frames": 2},
                        {"type": "input_text", "text": question},
                    ],
                }
            ],
            "temperature": 0,
            "max_output_tokens": TOKENS,
        },
        "/chat/vision": {
            "messages": [
                {
                    "role": "user",
                    "content": question,
                    "videos": [{"data_base64": data, "mime_type": "video/mp4", "frames": 2}],
                }
            ],
            "config": {"maxTokens": TOKENS, "temperature": 0},
        },
        "/api/generate": {"model": "tiny", "text": question, "video": url, "frames": 2, **config},
    }

    async def answers(endpoint: str) -> dict[str, Any]:
        async with (
            AsyncClient(endpoint) as client,
            running(client, settings=DoorSettings(vision_model="tiny")) as shim,
            aiohttp.ClientSession(shim.url) as session,
        ):
            told = {path: await posted(session, path, json=body) for path, body in asked.items()}
            form = aiohttp.FormData({"text": question, "model": "tiny", "frames": "2"})
            for name, value in config.items():
                form.add_field(name, str(value))
            form.add_field("video", FILM, filename="film.mp4", content_type="video/mp4")
            return told | {"form": await posted(session, "/api/generate", data=form)}

    async def posted(session: aiohttp.ClientSession, path: str, **body: Any) -> Any:
        async with session.post(path, **body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    turns = [filmed(FILM, question, frames=2)]
    with serving(bundles["llava"], "cpu-fp32") as (client, endpoint):
        told = asyncio.run(answers(endpoint))
        alone = client.chat("tiny", turns, sampling=GREEDY).collected()
        read = client.read_prompt(PromptQuestion(model="tiny", task=Chat(messages=tuple(turns))))
    assert len(read.token_ids) == alone.usage.prompt_tokens
    assert told["/v1/chat/completions"]["usage"]["prompt_tokens"] == alone.usage.prompt_tokens
    assert told["/v1/responses"]["usage"]["input_tokens"] == alone.usage.prompt_tokens
    chatted = told["/v1/chat/completions"]["choices"][0]["message"]["content"]
    assert chatted == alone.text
    assert told["/api/generate"]["text"] == told["form"]["text"] == alone.text
    assert re.search(r"\S", str(told["/chat/vision"]))
