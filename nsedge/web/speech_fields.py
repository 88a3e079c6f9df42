"""The fields of a form that say how the text of a recording is found."""

from __future__ import annotations

from typing import Annotated, TypedDict

from nsedge.api.sampling import MAX_BEAMS
from nsedge.web.bodies import Integer
from nsedge.web.hints import between, hint
from nsedge.web.request_fields import SchedulingBody


class SpeechSearchBody(SchedulingBody, kw_only=True):
    """A recording to be transcribed, as far as the doors agree on its fields."""

    vad: bool | None = None
    """Leave out what nobody speaks in; without it, of recordings longer than 30 s."""
    beam_size: Annotated[Integer, between((1, MAX_BEAMS))] | None = None
    """As faster-whisper and whisper.cpp have it: above 1, beams find the text at temperature 0."""
    patience: Annotated[float, hint(exclusiveMinimum=0, maximum=10)] | None = None
    """The search ends with beam_size * patience texts; 1."""


class SpeechSearchFields(TypedDict):
    """Fields of `Transcribe`."""

    vad: bool | None
    beams: int
    patience: float


def speech_search(body: SpeechSearchBody) -> SpeechSearchFields:
    """How the text is found, as a body says."""
    return {
        "vad": body.vad,
        "beams": 1 if body.beam_size is None else body.beam_size,
        "patience": 1.0 if body.patience is None else body.patience,
    }
