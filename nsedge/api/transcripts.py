"""A request's transcript as one value, and as the files that players show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nsedge.api.collecting import Awaiting
from nsedge.api.events import Event, Usage
from nsedge.api.spoken import Language, Segment

ENGLISH = "en"
"""What translations are in."""


@dataclass(frozen=True, kw_only=True)
class TranscriptText:
    """What was said, in order. language: by its code; None where nothing was heard of any."""

    segments: tuple[Segment, ...]
    language: str | None
    usage: Usage

    @property
    def text(self) -> str:
        """All of it as one text."""
        return joined_text(self.segments)


def joined_text(segments: Iterable[Segment]) -> str:
    """The text of segments, which bring their own spaces."""
    return "".join(one.text for one in segments).strip()


class Gathering(Awaiting):
    """Keeps what a request that transcribes has heard, of each segment the newest."""

    def __init__(self) -> None:
        super().__init__()
        self._segments: dict[int, Segment] = {}
        self._language: str | None = None

    def take(self, event: Event) -> None:
        """Keep a segment, or the language."""
        if isinstance(event, Segment):
            self._segments[event.seq] = event
        elif isinstance(event, Language):
            self._language = event.language

    def result(self) -> TranscriptText:
        """The whole.

        Raises:
            NsedgeError: the last event has not come.
        """
        usage = self.ended()
        told = (self._segments[seq] for seq in sorted(self._segments))
        segments = tuple(one for one in told if one.final)
        return TranscriptText(segments=segments, language=self._language, usage=usage)


def srt(segments: Iterable[Segment]) -> str:
    """Segments as SubRip has them."""
    return "".join(
        f"{number}\n{_clock(one.start_s, ',')} --> {_clock(one.end_s, ',')}\n{_cue(one)}\n\n"
        for number, one in enumerate(segments, 1)
    )


def vtt(segments: Iterable[Segment]) -> str:
    """Segments as WebVTT has them."""
    cues = (
        f"{_clock(one.start_s, '.')} --> {_clock(one.end_s, '.')}\n"
        f"{_cue(one).replace('&', '&amp;').replace('<', '&lt;')}\n\n"
        for one in segments
    )
    return "".join(["WEBVTT\n\n", *cues])


def _cue(segment: Segment) -> str:
    """Its text, which an empty line would end, and `-->` would be taken for times in."""
    return " ".join(segment.text.split()).replace("-->", "->")


def _clock(seconds: float, point: str) -> str:
    """00:01:02.345"""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02d}:{minutes:02d}:{whole:02d}{point}{milliseconds:03d}"
