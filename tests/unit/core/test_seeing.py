"""Media in a conversation with a model that reads text: the model that is missing is named."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nsedge.api import Chat, Generate, Media, MediaPart, Message, Role, TextPart
from nsedge.core.seeing import check_media
from nsedge.errors import InvalidParameter


@dataclass
class Known:
    """What an entry tells of a model."""

    name: str
    tasks: tuple[str, ...]
    media_kinds: tuple[str, ...] = ()

    @property
    def manifest(self) -> Known:
        return self


TEXT = Known("writer", ("generate", "chat"))
EARS = Known("ears", ("transcribe",))
EYES = Known("eyes", ("caption",))
SEES = Known("sees", ("generate", "chat"), ("image",))


def shown(kind: str) -> Chat:
    parts = (TextPart(text="see"), MediaPart(media=Media(type=kind, data=b"x")))
    turns = [Message(role=Role.USER, content="hi"), Message(role=Role.USER, content=parts)]
    return Chat(messages=tuple(turns))


@pytest.mark.parametrize(
    ("kind", "others", "told"),
    [
        ("image/png", (EARS,), "a model that captions pictures is missing here"),
        ("audio/wav", (EYES,), "a model that transcribes sound is missing here"),
        ("image/png", (EARS, EYES), "eyes captions pictures: ask it first"),
        ("audio/wav", (EARS,), "ears transcribes sound: ask it first"),
        ("video/mp4", (), "a model that captions pictures is missing here"),
        ("application/pdf", (), "a model that makes text of it is missing here"),
    ],
)
def test_what_is_missing_is_named(kind: str, others: tuple[Known, ...], told: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_media(shown(kind), TEXT, (TEXT, *others))  # type: ignore[arg-type]
    assert caught.value.message.startswith(
        f"messages[1]: this model reads text, and takes no {kind}; "
    )
    assert told in caught.value.message
    assert caught.value.param == "messages"


def test_what_the_model_itself_takes_passes() -> None:
    check_media(shown("image/png"), SEES, ())  # type: ignore[arg-type]
    with pytest.raises(InvalidParameter, match="reads text and image, and takes no audio"):
        check_media(shown("audio/wav"), SEES, (EARS,))  # type: ignore[arg-type]


def test_text_alone_passes() -> None:
    said = (Message(role=Role.USER, content="hi"),)
    check_media(Chat(messages=said), TEXT, ())  # type: ignore[arg-type]
    check_media(Generate(text="hi"), TEXT, ())  # type: ignore[arg-type]
