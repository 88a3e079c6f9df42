"""What the generate door's routes have in common: pictures and recordings in forms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from nsedge.api import Chat, Media, Request
from nsedge.errors import InvalidParameter
from nsedge.web.errors import Refused
from nsedge.web.multipart import FormPart
from nsedge.web.other_fields import OtherFields

MEDIA = ("image", "audio")
"""Fields of a form that are no text."""
OTHERS = OtherFields(refuse_unknown=False)
"""Clients of this door send fields of their own."""


@contextmanager
def prompt_named(wanted: Request) -> Iterator[None]:
    """Refusals of a prompt name the field that it came from here."""
    try:
        yield
    except Refused as error:
        refusal = error.refusal
        if refusal.param not in ("messages", "prompt"):
            raise
        seen = wanted.task.messages[0].media if isinstance(wanted.task, Chat) else ()
        field = seen[0].kind if seen else "text"
        message = refusal.message.replace("messages[0]", field)
        raise Refused(replace(refusal, message=message, param=field)) from error


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
