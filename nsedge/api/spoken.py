"""Events of speech: what is spoken, and when, in a recording or in sound that still comes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """What is spoken in a recording, by its code such as `en`, before its first segment. How likely
    it is: 1 where it was told, or the model knows no other. Of sound that is still coming it may
    come again, until the first segment is final."""

    request_id: str
    language: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word of a segment, with the space before it and the punctuation at it; when it was said, in
    seconds of the recording, and how likely its tokens were."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of speech, in seconds of the recording. `seq` counts segments from 0; one that is
    not `final` will come again under the same number.

    - tokens: what it was written with, the model's timestamps among them.
    - seek_s: where the window begins that it was heard in.
    - temperature, avg_logprob, compression_ratio, no_speech_prob: of all that was written of that
      window: at which temperature, how likely (the mean of its tokens), how much it repeats itself
      (bytes of its text by those that zlib makes of it), how likely nobody spoke.
    - words: where they were asked for.
    - stable: of one that is not final, so many characters of its text will not change.
    """

    request_id: str
    seq: int
    start_s: float
    end_s: float
    text: str
    final: bool = True
    tokens: tuple[int, ...] = ()
    seek_s: float = 0.0
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0
    words: tuple[Word, ...] = ()
    stable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Somebody begins to speak, or has ended, in seconds of the sound that came. It begins with
    what is kept of the sound before, and ends with the silence that ends it."""

    request_id: str
    speaking: bool
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """All that was said in the sound that came until `at_s` is told, and final: after each end of
    speech, and where the client asked."""

    request_id: str
    at_s: float
