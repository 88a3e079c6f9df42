"""Sound in forms: what it is, how long, and what is told where it cannot be heard; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from nsedge.api import Finished, Media
from nsedge.errors import InvalidParameter
from nsedge.web.errors import Refused
from nsedge.web.multipart import FormPart

UNKNOWN = "audio/unknown"
"""The type of sound whose part says none: what it is, is read from its bytes."""
_SOUND = re.compile(r"(audio|video)/[a-z0-9][a-z0-9.+-]{0,62}")


def sound_of(parts: Sequence[FormPart], field: str) -> Media:
    """The one recording of a form, whatever type its part says that it is of.

    Raises:
        InvalidParameter: there is none, are several, or it is empty.
    """
    if len(parts) != 1:
        raise InvalidParameter(f"one {field} is wanted, not {len(parts)}", param=field)
    part = parts[0]
    if not part.data:
        raise InvalidParameter(f"{field} is empty", param=field)
    said = part.media_type or ""
    return Media(type=said if _SOUND.fullmatch(said) else UNKNOWN, data=part.data)


def seconds_of(finished: Finished) -> float:
    """How much sound was heard, to 10 ms."""
    return round(finished.usage.audio_s, 2)


@contextmanager
def fields_named(field: str) -> Iterator[None]:
    """Refusals of a transcript name the fields of the form, whose recording is called `field`."""
    names = {"media": field, "messages": field, "temperatures": "temperature", "beams": "beam_size"}
    try:
        yield
    except InvalidParameter as error:
        error.param = names.get(error.param or "", error.param)
        raise
    except Refused as error:
        refusal = error.refusal
        param = field if refusal.code == "invalid_media" else refusal.param
        raise Refused(replace(refusal, param=names.get(param or "", param))) from error
