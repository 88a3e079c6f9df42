"""Parts of messages that are pictures, sound or films, as OpenAI's clients send them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

import msgspec

from nsedge.api import Media, MediaPart, Part, TextPart
from nsedge.api.messages import joined
from nsedge.errors import InvalidParameter
from nsedge.web.hints import Film, Picture, Rules, Sound, named
from nsedge.web.inline_media import FORMAT, film_of, picture_of, recording_of, remote
from nsedge.web.request_fields import Fps, Frames


class Place(msgspec.Struct):
    """Where a picture is: a data URL, or one that is fetched. What `detail` says of how closely to
    look is not heard."""

    url: Picture
    detail: str | None = None


class SoundPlace(msgspec.Struct):
    """Where sound is: a data URL, or one that is fetched."""

    url: Sound


class FilmPlace(msgspec.Struct):
    """Where a film is: a data URL, or one that is fetched; which of its frames are looked at."""

    url: Film
    fps: Fps | None = None
    frames: Frames | None = None


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
    def video_url(self) -> FilmPlace | str | None:
        """A film; vLLM's name of it."""

    @property
    def fps(self) -> float | None:
        """Frames of a film that are looked at a second."""

    @property
    def frames(self) -> int | None:
        """And at most."""

    @property
    def input_audio(self) -> Recording | None:
        """Sound."""


def shown(part: Showing, where: str) -> MediaPart:
    """What a part of any other type than text shows.

    Raises:
        InvalidParameter: it is of a type that is not known here, has nothing in it, is elsewhere,
            no base64, or of another kind.
    """
    if part.type in ("video_url", "input_video") and part.video_url is not None:
        return _film(part, part.video_url, where)
    return MediaPart(media=_media(part, where), place=where)


def _film(part: Showing, video: FilmPlace | str, where: str) -> MediaPart:
    text = _url(video)
    media = remote(text, "video") or film_of(text, f"{where}.video_url", param=where)
    own = FilmPlace(url=text) if isinstance(video, str) else video
    for name in ("fps", "frames"):
        if getattr(own, name) is not None and getattr(part, name) is not None:
            raise InvalidParameter(f"{where}: {name} is given twice", param=where)
    return MediaPart(
        media=media,
        place=where,
        fps=part.fps if own.fps is None else own.fps,
        frames=part.frames if own.frames is None else own.frames,
    )


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


def _url(place: Place | SoundPlace | FilmPlace | str) -> str:
    return place if isinstance(place, str) else place.url
