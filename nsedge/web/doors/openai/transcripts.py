"""OpenAI's transcripts and translations: the answer in each format, and its stream; pure."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from nsedge.api import Failed, Finished, Language, Segment, Word
from nsedge.api.languages import LANGUAGES
from nsedge.api.transcripts import ENGLISH, joined_text, srt, vtt
from nsedge.web.answer_stream import Batch, StreamEncoder, json_text, settled
from nsedge.web.choices import Choice
from nsedge.web.doors.openai.errors import error_body
from nsedge.web.doors.openai.shapes import (
    HeardSeconds,
    SegmentObject,
    TranscriptObject,
    Verbose,
    WordObject,
)
from nsedge.web.errors import Refusal
from nsedge.web.framing import SSE
from nsedge.web.sound import seconds_of

_encode = msgspec.json.Encoder().encode
JSON, VERBOSE, TEXT, SRT, VTT = FORMATS = ("json", "verbose_json", "text", "srt", "vtt")
STREAMED = (JSON, TEXT)
SEGMENT, WORD = GRANULARITIES = ("segment", "word")
TYPES = {JSON: "application/json", VERBOSE: "application/json", VTT: "text/vtt"}
"""Of the formats that are not plain text."""


def segments_of(choice: Choice) -> list[Segment]:
    """What was said, in order."""
    return [one for one in choice.results if isinstance(one, Segment)]


def body_of(
    choice: Choice, form: str, *, translate: bool, granularities: Collection[str] = (SEGMENT,)
) -> bytes:
    """The answer in the format `form`."""
    segments = segments_of(choice)
    if form == SRT:
        return srt(segments).encode()
    if form == VTT:
        return vtt(segments).encode()
    text = joined_text(segments)
    if form == TEXT:
        return f"{text}\n".encode()
    told: TranscriptObject = {"text": text, "usage": _usage(choice.finished)}
    if form == VERBOSE:
        told = {**_verbose(choice, segments, granularities, translate=translate), **told}
    return _encode(told)


def _verbose(
    choice: Choice, segments: list[Segment], granularities: Collection[str], *, translate: bool
) -> Verbose:
    heard = next((one.language for one in choice.results if isinstance(one, Language)), ENGLISH)
    language = ENGLISH if translate else heard
    told: Verbose = {
        "task": "translate" if translate else "transcribe",
        "language": LANGUAGES.get(language, language),
        "duration": seconds_of(choice.finished),
    }
    if SEGMENT in granularities:
        told["segments"] = [_segment(one) for one in segments]
    if WORD in granularities:
        told["words"] = [_word(word) for one in segments for word in one.words]
    return told


def _segment(one: Segment) -> SegmentObject:
    return {
        "id": one.seq,
        "seek": round(one.seek_s * 100),
        "start": one.start_s,
        "end": one.end_s,
        "text": one.text,
        "tokens": one.tokens,
        "temperature": one.temperature,
        "avg_logprob": one.avg_logprob,
        "compression_ratio": one.compression_ratio,
        "no_speech_prob": one.no_speech_prob,
    }


def _word(one: Word) -> WordObject:
    return {"word": one.text.strip(), "start": one.start_s, "end": one.end_s}


def _usage(finished: Finished) -> HeardSeconds:
    return {"type": "duration", "seconds": seconds_of(finished)}


class TranscriptStream(StreamEncoder):
    """`transcript.text.delta`, a segment each, and `transcript.text.done`. The deltas together are
    the text."""

    framing = SSE

    def __init__(self) -> None:
        super().__init__()
        self._text = ""

    def encode(self, batch: Batch) -> bytes:
        """The bytes that `batch` adds to the stream; after the end, none."""
        pieces: list[bytes] = []
        for _, event in batch:
            if self.ended:
                break
            event = settled(event)
            if isinstance(event, Segment):
                pieces.append(self._delta(event))
            elif isinstance(event, Failed):
                self.ended = True
                pieces.append(self.error(Refusal.of(event)))
            elif isinstance(event, Finished):
                self.ended = True
                done = {"type": "transcript.text.done", "text": self._text, "usage": _usage(event)}
                pieces.append(SSE.record(json_text(done)))
        return b"".join(pieces) or (b"" if self.ended else SSE.remark("listening"))

    def error(self, refusal: Refusal) -> bytes:
        """The last piece of a stream that broke off."""
        return SSE.record(error_body(refusal))

    def _delta(self, segment: Segment) -> bytes:
        delta = segment.text if self._text else segment.text.lstrip()
        self._text += delta
        return SSE.record(json_text({"type": "transcript.text.delta", "delta": delta}))
