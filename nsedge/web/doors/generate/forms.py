"""What the generate door's routes have in common: pictures, recordings and films in forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from nsedge.api import Media, MediaPart
from nsedge.errors import InvalidParameter
from nsedge.web.errors import Refused
from nsedge.web.hints import Picture
from nsedge.web.inline_media import (
    ANIMATED,
    film_in,
    film_of,
    picture_of,
    recording_of,
    remote,
)
from nsedge.web.multipart import FormPart
from nsedge.web.other_fields import OtherFields

IMAGE, AUDIO, VIDEO = "image", "audio", "video"
MEDIA = (IMAGE, AUDIO, VIDEO)
"""Fields of a form that are no text."""
OTHERS = OtherFields(refuse_unknown=False)
"""Clients of this door send fields of their own."""


InlineMedia = Picture | list[Picture] | None
"""Pictures, recordings or films in JSON."""


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Which frames of the films of a body are looked at."""

    fps: float | None = None
    frames: int | None = None

    def of(self, part: MediaPart) -> MediaPart:
        """A part, which may be a film."""
        if part.media.kind != VIDEO:
            return part
        return replace(part, fps=self.fps, frames=self.frames)


@contextmanager
def prompt_named() -> Iterator[None]:
    """Refusals of a prompt name the field that it came from here."""
    try:
        yield
    except Refused as error:
        refusal = error.refusal
        if refusal.param not in ("messages", "prompt"):
            raise
        message = refusal.message.replace("messages[0]", "text")
        raise Refused(replace(refusal, message=message, param="text")) from error


def shown(parts: Sequence[FormPart]) -> tuple[MediaPart, ...]:
    """The media of a form as parts of a message, each named by its field, and of several with its
    number from 0 on. Raises as `media_of`."""
    counts, so_far = Counter(part.name for part in parts), Counter[str]()
    found = []
    for part in parts:
        place = part.name if counts[part.name] == 1 else f"{part.name}[{so_far[part.name]}]"
        so_far[part.name] += 1
        found.append(MediaPart(media=media_of(part), place=place))
    return tuple(found)


def inline(*, image: InlineMedia, audio: InlineMedia, video: InlineMedia) -> tuple[MediaPart, ...]:
    """Pictures, then recordings, then films, of a body in JSON, named as those of a form are.
    Raises InvalidParameter where one is neither base64 nor a data URL of its kind."""
    found = []
    for field, given in ((IMAGE, image), (AUDIO, audio), (VIDEO, video)):
        texts = [given] if isinstance(given, str) else given or []
        for number, text in enumerate(texts):
            place = field if len(texts) == 1 else f"{field}[{number}]"
            media = remote(text, field) or _READ[field](text, place, param=place)
            found.append(MediaPart(media=media, place=place))
    return tuple(found)


_READ: Mapping[str, Callable[..., Media]] = {
    IMAGE: picture_of,
    AUDIO: partial(recording_of, form="unknown"),
    VIDEO: film_of,
}


def media_of(part: FormPart) -> Media:
    """Raises InvalidParameter where the part is not of the kind that its name says, or empty."""
    media_type = part.media_type or ""
    if part.name == VIDEO and part.data and media_type.startswith((f"{VIDEO}/", *ANIMATED)):
        return film_in(part.data, VIDEO, param=VIDEO)
    if not media_type.startswith(f"{part.name}/"):
        raise InvalidParameter(
            f"{part.name} wants a Content-Type that begins with {part.name}/, not {media_type!r}",
            param=part.name,
        )
    media = Media(type=media_type, data=part.data)
    try:
        media.check()
    except InvalidParameter as error:
        raise InvalidParameter(f"{part.name}: {error.message}", param=part.name) from error
    return media
