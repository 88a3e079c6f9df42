"""Pictures and recordings through every door: what reaches the core, and what is told of what was
made of them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from nsedge.api import Chat, Media, MediaPart, MediaRead, Message, Role
from nsedge.web.doors.openai.responses import store as storing
from nsedge.web.fetching import Fetcher, FetchRules
from tests.fakes import FakeClock, FakeService
from tests.unit.web.doors.websocket_client import Socket, end_of, talk
from tests.unit.web.events import delta
from tests.unit.web.forms import FORM, form
from tests.web_server import Answer, Shim, answered, ask, served

PNG = b"\x89PNG\r\n\x1a\nP"
WAV = b"RIFFsound"
TEXT64, SOUND64 = base64.b64encode(PNG).decode(), base64.b64encode(WAV).decode()
PICTURE = f"data:image/png;base64,{TEXT64}"
READ = MediaRead(
    request_id="r",
    place="there",
    media_type="image/png",
    task="caption",
    model="eyes",
    text="a dog",
    took_s=0.5,
)
TOLD = {
    "place": "there",
    "media_type": "image/png",
    "task": "caption",
    "model": "eyes",
    "text": "a dog",
    "took_s": 0.5,
    "audio_s": 0.0,
    "cached": False,
}
CHAT = [{"role": "user", "content": "Well?", "images": [TEXT64]}]
PARTS = [
    {"type": "text", "text": "Well?"},
    {"type": "image_url", "image_url": {"url": PICTURE}},
    {"type": "input_audio", "input_audio": {"data": SOUND64, "format": "wav"}},
]
ITEMS = [{"type": "input_text", "text": "Well?"}, {"type": "input_image", "image_url": PICTURE}]
BLOCKS = [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": TEXT64}},
    {"type": "text", "text": "Well?"},
]
SERVED = [{"role": "user", "content": "Well?",
           "images": [{"data_base64": TEXT64, "mime_type": "image/png"}]}]  # fmt: skip
OLLAMA = "/api/generate?ollama"
"""The same address, where the body is Ollama's."""
ROUTES: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "/v1/chat/completions",
        {"model": "echo", "messages": [{"role": "user", "content": PARTS}]},
        ["messages[0].content[1]", "messages[0].content[2]"],
    ),
    (
        "/v1/responses",
        {"model": "echo", "input": [{"type": "message", "role": "user", "content": ITEMS}]},
        ["input[0].content[1]"],
    ),
    (
        "/v1/messages",
        {"model": "echo", "max_tokens": 9, "system": "s",
         "messages": [{"role": "user", "content": BLOCKS}]},
        ["messages.0.content.0"],
    ),
    ("/chat/vision", {"messages": SERVED}, ["messages[0].images[0]"]),
    ("/api/chat", {"model": "echo", "messages": CHAT}, ["messages[0].images[0]"]),
    (
        OLLAMA,
        {"model": "echo", "prompt": "Well?", "images": [TEXT64, TEXT64]},
        ["images[0]", "images[1]"],
    ),
    (
        "/api/generate",
        {"text": "Well?", "image": [PICTURE, TEXT64], "audio": SOUND64},
        ["image[0]", "image[1]", "audio"],
    ),
]  # fmt: skip
IDS = [route for route, _, _ in ROUTES]


@dataclass
class Seeing(FakeService):
    """Tells what was made of what is shown before it starts, as the core does, then answers in a
    word; keeps the places of the media."""

    load_steps: int = 1

    def _words(self, request: Any) -> list[str]:
        return super()._words(request)[:1]

    def _results(self, request: Any, words: list[str]) -> Any:
        yield replace(delta("So."), request_id=request.request_id)

    def _loading(self, request: Any, step: int) -> Any:
        return replace(READ, request_id=request.request_id)

    @property
    def places(self) -> list[str]:
        (request,) = self.requests
        assert isinstance(request.task, Chat)
        parts = [part for one in request.task.messages for part in one.content]
        return [part.place for part in parts if isinstance(part, MediaPart)]


def streamed(path: str, body: dict[str, Any]) -> Answer:
    if path == "/chat/vision":
        return answered("POST", f"{path}/stream", body, service=Seeing())
    if path == "/api/generate":
        return answered("POST", f"{path}/stream", body, service=Seeing())
    return answered("POST", path, {**body, "stream": True}, service=Seeing())


@pytest.mark.parametrize(("path", "body", "places"), ROUTES, ids=IDS)
def test_media_keep_their_place_and_the_answer_tells_what_was_made_of_them(
    path: str, body: dict[str, Any], places: list[str]
) -> None:
    service = Seeing()
    body = {**body, "stream": False}
    answer = answered("POST", path, body, service=service)
    assert answer.status == 200, answer.body
    assert service.places == places
    assert answer.json["media"] == [TOLD]
    assert "So." in answer.body.decode()


def told_in(value: Any) -> list[Any]:
    """Where a record of a stream tells of media."""
    if not isinstance(value, dict):
        return []
    media = value.get("media")
    inner = [one for key in ("message", "response") for one in told_in(value.get(key))]
    return (media if isinstance(media, list) else [media] if media else []) + inner


@pytest.mark.parametrize(("path", "body", "places"), ROUTES, ids=IDS)
def test_a_stream_tells_it_before_its_text(
    path: str, body: dict[str, Any], places: list[str]
) -> None:
    answer = streamed(path, body)
    assert answer.status == 200, answer.body
    lines = [line.removeprefix(b"data: ") for line in answer.body.splitlines()]
    records = [msgspec.json.decode(line) for line in lines if line.startswith(b"{")]
    (first, *_) = [at for at, record in enumerate(records) if told_in(record)]
    said = [
        at for at, record in enumerate(records) if "So." in msgspec.json.encode(record).decode()
    ]
    assert first < said[0]
    assert all(one == TOLD for record in records for one in told_in(record))


def test_a_form_brings_pictures_and_sound() -> None:
    service = Seeing()
    raw = form(
        ("text", b"Well?"),
        ("image", PNG, "image/png"),
        ("audio", WAV, "audio/wav"),
        ("image", PNG, "image/gif"),
    )
    answer = answered("POST", "/api/generate", raw=raw, service=service, **FORM)
    assert answer.json["media"] == [TOLD]
    assert service.places == ["image[0]", "audio", "image[1]"]


def test_an_answer_without_media_tells_of_none() -> None:
    answer = answered("POST", "/api/generate", {"text": "a"})
    assert "media" not in answer.json


@pytest.mark.parametrize(
    ("field", "given", "param"),
    [
        ("image", "!", "image"),
        ("image", [TEXT64, "!"], "image[1]"),
        ("image", SOUND64, "image"),
        ("audio", PICTURE, "audio"),
        ("audio", "http://x/y.wav", "audio"),
    ],
)
def test_what_is_no_picture_or_sound_is_refused_by_name(field: str, given: Any, param: str) -> None:
    answer = answered("POST", "/api/generate", {"text": "a", field: given})
    error: Any = answer.json["error"]
    assert (answer.status, error["param"]) == (400, param)


def test_a_raw_text_takes_no_media() -> None:
    answer = answered("POST", "/api/generate", {"text": "a", "raw": True, "image": TEXT64})
    assert answer.json["error"]["param"] == "raw"  # type: ignore[index]


def test_a_response_goes_on_from_pictures_that_are_named_by_where_they_came_from() -> None:
    service = Seeing()

    async def twice(shim: Shim) -> None:
        item = {"type": "message", "role": "user", "content": ITEMS}
        body = {"model": "echo", "input": [item]}
        first = await ask(shim.port, "POST", "/v1/responses", body)
        more = {"model": "echo", "input": "And?", "previous_response_id": first.json["id"]}
        assert (await ask(shim.port, "POST", "/v1/responses", more)).status == 200

    served(twice, service)
    task = service.requests[-1].task
    assert isinstance(task, Chat)
    (shown,) = (one for one in task.messages[0].content if isinstance(one, MediaPart))
    assert shown.place == "previous_response_id"
    assert shown.media.data == PNG


def test_kept_pictures_count_with_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "MAX_KEPT", 1000)
    picture = MediaPart(media=Media(type="image/png", data=bytes(300)))
    store = storing.Store(FakeClock())
    for label in ("a", "b"):
        message = Message(role=Role.USER, content=(picture,))
        response: Any = {"id": label}
        store.keep(
            storing.Kept(
                caller="c", response=response, items=[], messages=(message,), since_s=store.now_s()
            ),
            most=9,
            for_s=9.0,
        )
    assert len(store) == 1


URL = "https://pics.example/p.png"
NAMED: list[tuple[str, dict[str, Any], str]] = [
    (
        "/v1/chat/completions",
        {
            "model": "echo",
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}]}
            ],
        },
        "messages[0].content[0]",
    ),
    (
        "/v1/chat/completions",
        {
            "model": "echo",
            "messages": [
                {"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": URL}}]}
            ],
        },
        "messages[0].content[0]",
    ),
    (
        "/v1/responses",
        {
            "model": "echo",
            "input": [
                {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": URL}],
                }
            ],
        },
        "input[0].content[0]",
    ),
    (
        "/v1/messages",
        {
            "model": "echo",
            "max_tokens": 9,
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image", "source": {"type": "url", "url": URL}}],
                }
            ],
        },
        "messages.0.content.0",
    ),
    ("/api/generate", {"text": "Well?", "image": URL}, "image"),
]


@pytest.mark.parametrize(("path", "body", "place"), NAMED)
def test_a_url_is_refused_by_its_place_where_no_host_is_named(
    path: str, body: dict[str, Any], place: str
) -> None:
    service = Seeing()
    answer = answered("POST", path, body, service=service)
    assert answer.status == 400
    assert f"{place}: nothing is fetched from elsewhere: send a data URL" in answer.body.decode()
    assert not service.requests


class Elsewhere(Fetcher):
    """Has one picture, and knows who asked for it."""

    def __init__(self) -> None:
        super().__init__(FetchRules())
        self.asked: list[tuple[str, str]] = []

    async def fetch(self, url: str, kind: str, take: Any = None, *, caller: str = "") -> Media:
        self.asked.append((url, kind))
        return Media(type="image/png", data=PNG)


@pytest.mark.parametrize(("path", "body", "place"), NAMED)
def test_what_is_fetched_reaches_the_core(path: str, body: dict[str, Any], place: str) -> None:
    service, fetcher = Seeing(), Elsewhere()
    answer = answered("POST", path, body, service=service, fetcher=fetcher)
    assert answer.status == 200
    assert service.places == [place]
    kind = "audio" if "audio_url" in answer.body.decode() + str(body) else "image"
    assert fetcher.asked == [(URL, kind)]
    (request,) = service.requests
    assert isinstance(request.task, Chat)
    assert [media.data for one in request.task.messages for media in one.media] == [PNG]


def test_tokens_are_counted_with_what_is_elsewhere() -> None:
    fetcher = Elsewhere()
    block = {"type": "image", "source": {"type": "url", "url": URL}}
    body = {"model": "echo", "messages": [{"role": "user", "content": [block]}]}
    answer = answered("POST", "/v1/messages/count_tokens", body, fetcher=fetcher)
    assert answer.status == 200, answer.body
    assert fetcher.asked == [(URL, "image")]


def test_a_websocket_carries_both() -> None:
    service = Seeing()

    async def said(socket: Socket) -> None:
        part = {"type": "media", "media_type": "image/png", "data": TEXT64, "place": "shown"}
        turn = {"role": "user", "content": [part, {"type": "text", "text": "Well?"}]}
        chat = {"type": "chat", "id": "a", "model": "echo", "messages": [turn]}
        await socket.send_str(json.dumps(chat))
        told = await end_of(socket, "a")
        assert [one["type"] for one in told] == ["media_read", "started", "delta", "finished"]
        assert told[0]["text"] == "a dog"

    talk(said, service)
    assert service.places == ["shown"]
