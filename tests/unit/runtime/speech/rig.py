"""A small vocabulary whose tokens are bytes, and what drives a transcript by a script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nsedge.api import Event, Media, Transcribe
from nsedge.runtime.audio.timeline import Timeline
from nsedge.runtime.speech.asks import (
    Align,
    Aligned,
    Answer,
    Ask,
    Decode,
    Decoded,
    Detect,
    Detected,
    Hear,
    Heard,
    Take,
    Tell,
    Told,
)
from nsedge.runtime.speech.transcript import Transcript
from nsedge.runtime.speech.vocabulary import SpeechTokens

ENGLISH = SpeechTokens(
    end=256,
    start=257,
    start_of_previous=258,
    no_speech=259,
    no_timestamps=260,
    first_timestamp=270,
    suppressed=(ord("#"),),
    suppressed_first=(ord(" "),),
)
MANY = SpeechTokens(
    end=256,
    start=257,
    start_of_previous=258,
    no_speech=259,
    no_timestamps=260,
    first_timestamp=270,
    transcribe=261,
    translate=262,
    languages={"en": 263, "de": 264, "zh": 265},
)
SIZE = 270 + 1501


def at(seconds: float) -> int:
    """The timestamp of a time."""
    return 270 + round(seconds / 0.02)


def said(*parts: str | float) -> tuple[int, ...]:
    """Tokens of texts, and timestamps of numbers."""
    tokens: list[int] = []
    for part in parts:
        tokens += part.encode() if isinstance(part, str) else [at(part)]
    return tuple(tokens)


class Bytes:
    """A codec whose tokens are bytes."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def octets(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""


def take(tokens: Sequence[int], logprob: float = -0.1) -> Take:
    """What was written, each token and the end as likely as the others."""
    return Take(tokens=tuple(tokens), sum_logprob=logprob * (len(tokens) + 1))


def decoded(*parts: str | float, logprob: float = -0.1, no_speech: float = 0.0) -> Decoded:
    return Decoded(takes=(take(said(*parts), logprob),), no_speech_prob=no_speech)


@dataclass
class Driver:
    """Answers a transcript by a script.

    seconds: of the recording. script: what is written, a decoding each. detected: languages.
    silent_s: what of it has nothing to hear.
    """

    seconds: float
    script: Iterable[Decoded]
    detected: dict[str, float] = field(default_factory=lambda: {"en": 1.0})
    silent_s: float = 0.0
    asked: list[Ask] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)

    def run(self, transcript: Transcript) -> list[Event]:
        script = iter(self.script)
        steps = transcript.steps()
        answer: Answer | None = None
        while True:
            try:
                wanted = next(steps) if answer is None else steps.send(answer)
            except StopIteration:
                assert next(script, None) is None, "the script is longer than the transcript"
                return self.told
            self.asked.append(wanted)
            match wanted:
                case Hear(start=start):
                    left = round(self.seconds * 100) - start
                    silent = start + 3000 <= self.silent_s * 100
                    answer = Heard(frames=max(0, min(3000, left)), is_silent=silent)
                case Detect():
                    answer = Detected(probabilities=self.detected)
                case Decode():
                    answer = next(script)
                case Align(text=text, frames=frames):
                    answer = straight(len(text), frames)
                case Tell(event=event):
                    self.told.append(event)
                    answer = Told()

    def all(self, kind: type) -> list:
        return [one for one in (*self.asked, *self.told) if isinstance(one, kind)]


def straight(tokens: int, frames: int) -> Aligned:
    """Every token and the end as long as the others, one after the other."""
    positions = frames // 2
    weights = np.full((2, tokens + 1, positions), 1e-4, np.float32)
    for token in range(tokens + 1):
        begin, end = (positions * each // (tokens + 1) for each in (token, token + 1))
        weights[:, token, begin:end] = 1.0
    return Aligned(weights=weights, probabilities=np.full(tokens, 0.5, np.float32))


def transcript(
    tokens: SpeechTokens = ENGLISH, *, seconds: float | None = None, **task
) -> Transcript:
    return Transcript(
        request_id="r",
        task=Transcribe(media=Media(type="audio/wav", data=b"x"), **task),
        tokens=tokens,
        codec=Bytes(),
        timeline=Timeline(),
        seconds=seconds,
    )
