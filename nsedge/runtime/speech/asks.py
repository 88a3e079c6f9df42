"""What a transcript asks of the model that hears for it, and what it is answered."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Event
from nsedge.runtime.audio.coming import Attend, Came
from nsedge.runtime.speech.rules import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Hear:
    """Encode the window that begins with frame `start` of the recording, 10 ms each."""

    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """`frames` of the window have sound, of 3000; none where the recording has ended before it.
    is_silent: there is nothing to hear in it, and it need not have been encoded."""

    frames: int
    is_silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Detect:
    """Tell the language of the window that was heard last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """How likely each language is, by code; 1 together."""

    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """Write what was heard last, behind `prompt`, `samples` times, each row held to `rules`. Where
    there are several `beams`, they find it, until there are beams * patience texts."""

    prompt: tuple[int, ...]
    temperature: float
    samples: int
    beams: int = 1
    patience: float = 1.0
    rules: Rules
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """What was written once: its tokens without the end, and the sum of the log-probabilities of
    all, the end among them where it came; after the rules, before the temperature."""

    tokens: tuple[int, ...]
    sum_logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """no_speech_prob: of <|nospeech|> in the place after <|startoftranscript|>."""

    takes: tuple[Take, ...]
    no_speech_prob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Align:
    """Run the decoder over `prompt`, <|notimestamps|>, `text` and the end, on what was heard last,
    and tell what its alignment heads look at in the first `frames` frames."""

    prompt: tuple[int, ...]
    text: tuple[int, ...]
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """weights: float32 [heads, len(text) + 1, frames // 2], softmaxed: of the steps that wrote each
    token of the text, and its end. probabilities: float32 [len(text)], of its tokens."""

    weights: NDArray[np.float32]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Give `event` to whoever asked for the transcript."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """It was given."""


Ask = Hear | Attend | Detect | Decode | Align | Tell
Answer = Heard | Came | Detected | Decoded | Aligned | Told
A = TypeVar("A", bound=Answer)
T = TypeVar("T")
Steps = Generator[Ask, Answer, T]
"""Asks one thing after another, and ends with a T."""


def ask(wanted: Ask, kind: type[A]) -> Steps[A]:
    """The answer to `wanted`, which is of one kind."""
    answer = yield wanted
    if not isinstance(answer, kind):
        raise TypeError(f"{type(wanted).__name__} was answered with {type(answer).__name__}")
    return answer
