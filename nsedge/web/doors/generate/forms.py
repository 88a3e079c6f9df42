"""What the generate door's routes have in common: pictures and recordings in forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from nsedge.api import Media, MediaPart
from nsedge.errors import InvalidParameter
from nsedge.web.errors import Refused
from nsedge.web.hints import Picture
from nsedge.web.inline_media import picture_of, recording_of, remote
from nsedge.web.multipart import FormPart
from nsedge.web.other_fields import OtherFields

MEDIA = ("image", "audio")
"""Fields of a form that are no text."""
OTHERS = OtherFields(refuse_unknown=False)
"""Clients of this door send fields of their own."""


InlineMedia = Picture | list[Picture] | None
"""Pictures or recordings in JSON."""


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


def inline(*, image: InlineMedia, audio: InlineMedia) -> tuple[MediaPart, ...]:
    """Pictures, then recordings, of a body in JSON, named as those of a form are. Raises
    InvalidParameter where one is neither base64 nor a data URL of its kind."""
    found = []
    for field, given in (("image", image), ("audio", audio)):
        texts = [given] if isinstance(given, str) else given or []
        for number, text in enumerate(texts):
            place = field if len(texts) == 1 else f"{field}[{number}]"
            media = remote(text, field) or (
                picture_of(text, place, param=place)
                if field == "image"
                else recording_of(text, place, form="unknown", param=place)
            )
            found.append(MediaPart(media=media, place=place))
    return tuple(found)


def media_of(part: FormPart) -> Media:
    """Raises InvalidParameter where the part is not of the kind that its name says, or empty."""
    media_type = part.media_type or ""
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
