"""A request's transcript as one value, and as the files that players show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nsedge.api.events import Event, Failed, Finished, FinishReason, Language, Segment, Usage
from nsedge.errors import NsedgeError, Unavailable

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


class Gathering:
    """Takes the events of a request that transcribes."""

    def __init__(self) -> None:
        self._segments: dict[int, Segment] = {}
        self._language: str | None = None
        self._usage: Usage | None = None

    def saw(self, event: Event) -> None:
        """Take the next event.

        Raises:
            NsedgeError: the request failed.
            Unavailable: it was cancelled.
        """
        if isinstance(event, Segment):
            self._segments[event.seq] = event
        elif isinstance(event, Language):
            self._language = event.language
        elif isinstance(event, Failed):
            raise event.error()
        elif isinstance(event, Finished):
            if event.reason is FinishReason.CANCELLED:
                raise Unavailable("the request was cancelled before it ended")
            self._usage = event.usage

    def result(self) -> TranscriptText:
        """The whole.

        Raises:
            NsedgeError: the last event has not come.
        """
        if self._usage is None:
            raise NsedgeError("the transcript has no end")
        told = (self._segments[seq] for seq in sorted(self._segments))
        segments = tuple(one for one in told if one.final)
        return TranscriptText(segments=segments, language=self._language, usage=self._usage)


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
