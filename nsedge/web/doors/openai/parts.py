"""Parts of messages that are pictures or sound, as OpenAI's clients send them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

import msgspec

from nsedge.api import Media, MediaPart, Part, TextPart
from nsedge.api.messages import joined
from nsedge.errors import InvalidParameter
from nsedge.web.hints import Picture, Rules, Sound, named
from nsedge.web.inline_media import FORMAT, picture_of, recording_of, remote


class Place(msgspec.Struct):
    """Where a picture is: a data URL, or one that is fetched. What `detail` says of how closely to
    look is not heard."""

    url: Picture
    detail: str | None = None


class SoundPlace(msgspec.Struct):
    """Where sound is: a data URL, or one that is fetched."""

    url: Sound


class Recording(msgspec.Struct):
    """Sound as base64, in a format such as wav or mp3; or as a data URL."""

    rules: ClassVar[Rules] = (
        {
            "anyOf": [
                {"properties": {"data": {"type": "string", "format": "sound"}}},
                named(
                    data={"type": "string", "format": "base64", "minLength": 1},
                    format={"type": "string", "pattern": f"^{FORMAT}$"},
                ),
            ]
        },
    )
    data: str
    format: str | None = None


class Showing(Protocol):
    """A part that may show something, or let it be heard."""

    @property
    def type(self) -> str:
        """What it is."""

    @property
    def image_url(self) -> Place | str | None:
        """A picture."""

    @property
    def audio_url(self) -> SoundPlace | str | None:
        """Sound; vLLM's name of it."""

    @property
    def input_audio(self) -> Recording | None:
        """Sound."""


def shown(part: Showing, where: str) -> MediaPart:
    """What a part of any other type than text shows.

    Raises:
        InvalidParameter: it is of a type that is not known here, has nothing in it, is elsewhere,
            no base64, or of another kind.
    """
    return MediaPart(media=_media(part, where), place=where)


def _media(part: Showing, where: str) -> Media:
    if part.type in ("image_url", "input_image") and part.image_url is not None:
        text = _url(part.image_url)
        return remote(text, "image") or picture_of(text, f"{where}.image_url", param=where)
    if part.type == "audio_url" and part.audio_url is not None:
        text = _url(part.audio_url)
        return remote(text, "audio") or recording_of(
            text, f"{where}.audio_url", form=None, param=where
        )
    if part.type == "input_audio" and part.input_audio is not None:
        heard = part.input_audio
        return recording_of(heard.data, f"{where}.input_audio", form=heard.format, param=where)
    raise InvalidParameter(
        f"{where}: parts of type {part.type[:64]!a} are not supported here, or this one is empty",
        param=where,
    )


def content_of(parts: Iterable[str | MediaPart]) -> str | tuple[Part, ...]:
    """The content of a message: a text, where there is nothing else."""
    given: Sequence[str | MediaPart] = list(parts)
    texts = [one for one in given if isinstance(one, str)]
    if len(texts) == len(given):
        return joined(texts)
    return tuple(TextPart(text=one) if isinstance(one, str) else one for one in given)


def _url(place: Place | SoundPlace | str) -> str:
    return place if isinstance(place, str) else place.url
