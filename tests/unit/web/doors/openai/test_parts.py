"""Pictures and sound in the messages of OpenAI's doors."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from nsedge.api import Chat, Media, MediaPart, TextPart
from nsedge.errors import InvalidParameter
from tests.fakes import MODEL, FakeService
from tests.unit.web.doors.openai.asking import USER, chat
from tests.web_server import answered

PNG = b"\x89PNG\r\n\x1a\n a little picture"
AS_BASE64 = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{AS_BASE64}"
SOUND = base64.b64encode(b"RIFF sound").decode()
TEXT = {"type": "text", "text": "see"}


def shown(*parts: dict[str, Any]) -> tuple[Any, ...]:
    (request,) = chat(messages=[USER | {"content": list(parts)}])
    assert isinstance(request.task, Chat)
    return request.task.messages[0].content  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("part", "media"),
    [
        ({"type": "image_url", "image_url": {"url": URL}}, Media(type="image/png", data=PNG)),
        (
            {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
            Media(type="image/png", data=PNG),
        ),
        ({"type": "image_url", "image_url": URL}, Media(type="image/png", data=PNG)),
        (
            {"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}},
            Media(type="audio/wav", data=b"RIFF sound"),
        ),
        (
            {"type": "audio_url", "audio_url": {"url": f"data:audio/mpeg;base64,{SOUND}"}},
            Media(type="audio/mpeg", data=b"RIFF sound"),
        ),
    ],
)
def test_parts_stand_in_their_order(part: dict[str, Any], media: Media) -> None:
    wanted = (TextPart(text="see"), MediaPart(media=media), TextPart(text="see"))
    assert shown(TEXT, part, TEXT) == wanted


def test_parts_that_are_all_text_are_one_text() -> None:
    assert shown(TEXT, TEXT) == "see\nsee"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "image_url", "image_url": "s3://example/a.png"}, "nothing is fetched"),
        ({"type": "image_url", "image_url": "data:image/png,x"}, "where it is base64"),
        ({"type": "image_url", "image_url": f"data:audio/wav;base64,{SOUND}"}, "is no image"),
        ({"type": "input_audio", "input_audio": {"data": SOUND}}, "wants its format"),
        ({"type": "input_audio", "input_audio": {"data": "!", "format": "wav"}}, "is not base64"),
        ({"type": "audio_url", "audio_url": SOUND}, "wants its format"),
        ({"type": "video_url"}, "parts of type 'video_url' are not supported"),
    ],
)
def test_what_is_none_is_named(part: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        shown(TEXT, part)
    assert message in caught.value.message
    assert caught.value.param == "messages[0].content[1]"


def test_a_response_is_asked_for_with_pictures() -> None:
    service = FakeService()
    content = [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": URL}]
    body = {"model": MODEL, "input": [{"role": "user", "content": content}]}
    assert answered("POST", "/v1/responses", body, service=service).status == 200
    task = service.requests[-1].task
    assert isinstance(task, Chat)
    media = MediaPart(media=Media(type="image/png", data=PNG))
    assert task.messages[0].content == (TextPart(text="see"), media)


def test_a_tool_gives_no_pictures() -> None:
    output = [{"type": "input_image", "image_url": URL}]
    items = [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": output},
    ]
    answer = answered("POST", "/v1/responses", {"model": MODEL, "input": items})
    assert answer.status == 400
    assert "a tool gives text" in str(answer.json)
