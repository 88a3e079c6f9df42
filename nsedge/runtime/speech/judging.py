"""Whether what was written of a window is to be believed (the thresholds of OpenAI's
whisper/transcribe.py)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from nsedge.runtime.speech.asks import Decoded, Take
from nsedge.runtime.speech.vocabulary import Codec, text_of

MAX_COMPRESSION = 2.4
"""A text that compresses better repeats itself."""
MIN_LOGPROB = -1.0
MAX_NO_SPEECH = 0.6
RESET_ABOVE = 0.5
"""What was drawn at a higher temperature is no prompt for the next window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """compression_ratio, avg_logprob: above and below these it is tried anew at the next
    temperature. no_speech_prob: above it nothing was said, unless the text is likely after all.
    None judges nothing by that."""

    compression_ratio: float | None = MAX_COMPRESSION
    avg_logprob: float | None = MIN_LOGPROB
    no_speech_prob: float | None = MAX_NO_SPEECH


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was written of a window, and how sure that is. avg_logprob: of its tokens, the end among
    them. compression_ratio: bytes of its text by those that zlib makes of it."""

    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float

    def is_silence(self, limits: Thresholds) -> bool:
        """Whether nothing was said."""
        if limits.no_speech_prob is None or self.no_speech_prob <= limits.no_speech_prob:
            return False
        return limits.avg_logprob is None or self.avg_logprob <= limits.avg_logprob

    def repeats(self, limits: Thresholds) -> bool:
        """Whether it says the same over and over."""
        most = limits.compression_ratio
        return most is not None and self.compression_ratio > most

    def is_doubtful(self, limits: Thresholds) -> bool:
        """Whether it is to be tried anew; silence is not."""
        if self.is_silence(limits):
            return False
        unlikely = limits.avg_logprob is not None and self.avg_logprob < limits.avg_logprob
        return unlikely or self.repeats(limits)


def judged(
    decoded: Decoded, temperature: float, codec: Codec, end: int, limits: Thresholds
) -> Judged:
    """The best of what was written."""

    def of(take: Take) -> Judged:
        text = text_of(codec, [token for token in take.tokens if token < end])
        return Judged(
            tokens=take.tokens,
            temperature=temperature,
            avg_logprob=take.sum_logprob / (len(take.tokens) + 1),
            compression_ratio=compression_ratio(text.strip()),
            no_speech_prob=decoded.no_speech_prob,
        )

    return best([of(take) for take in decoded.takes], limits)


def best(tried: list[Judged], limits: Thresholds) -> Judged:
    """The likeliest that does not repeat itself, or else of all: a loop is likely once begun."""
    plain = [one for one in tried if not one.repeats(limits)]
    return max(plain or tried, key=lambda one: one.avg_logprob)


def compression_ratio(text: str) -> float:
    """Bytes of a text by those that zlib makes of it; below 1 for short ones."""
    octets = text.encode()
    return len(octets) / len(zlib.compress(octets))
