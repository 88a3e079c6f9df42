"""What an answer tells of the pictures and recordings that others read for its model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from nsedge.api import MediaRead, Result


class MediaObject(TypedDict):
    """What was made of a picture or recording of the conversation. place: where it stands. task:
    caption or transcribe. took_s: seconds; 0 where it was known (cached). audio_s: of sound."""

    place: str
    media_type: str
    task: str
    model: str
    text: str
    took_s: float
    audio_s: float
    cached: bool


class MediaTold(TypedDict, total=False):
    """Told where the model reads text alone, and others made texts of media."""

    media: list[MediaObject]


def media_object(event: MediaRead) -> MediaObject:
    """What is told of one."""
    return {
        "place": event.place,
        "media_type": event.media_type,
        "task": event.task,
        "model": event.model,
        "text": event.text,
        "took_s": round(event.took_s, 6),
        "audio_s": round(event.audio_s, 2),
        "cached": event.cached,
    }


def media_told(results: Iterable[Result]) -> MediaTold:
    """The field that tells of all of them; none where there are none."""
    media = [media_object(one) for one in results if isinstance(one, MediaRead)]
    return {"media": media} if media else {}
