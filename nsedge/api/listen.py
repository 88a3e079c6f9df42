"""Sound that is transcribed while it comes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import ClassVar

from nsedge.api.bounds import MAX_PROMPT_CHARS, within
from nsedge.api.feed import Feed
from nsedge.api.languages import LANGUAGES
from nsedge.api.scheduling import SchedulingFields
from nsedge.errors import InvalidParameter

RATES = (4_000, 192_000)
"""Samples a second of sound that is pushed, least and most."""
MAX_CHANNELS = 8


class SoundForm(enum.StrEnum):
    """How samples lie in sound that has no header; those of several channels stand side by side."""

    S16LE = "s16le"
    """Integers of 16 bits, little-endian."""
    F32LE = "f32le"
    """Floats of 32 bits, little-endian, from -1 to 1."""
    ULAW = "ulaw"
    """G.711, mu-law."""
    ALAW = "alaw"
    """G.711, A-law."""

    @property
    def sample_bytes(self) -> int:
        """Of one sample of one channel."""
        return {SoundForm.S16LE: 2, SoundForm.F32LE: 4}.get(self, 1)


class ListenFields(SchedulingFields, total=False):
    """What sound that comes can be asked for with, as keyword arguments."""

    form: SoundForm
    rate: int
    channels: int
    language: str | None
    translate: bool
    prompt: str
    word_timestamps: bool
    condition_on_previous: bool
    partials: bool
    step_s: float
    vad: bool | None
    threshold: float
    silence_s: float
    padding_s: float
    idle_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Write what is said in sound that comes, while it comes: as segments with times, which are
    told anew until they are final.

    - feed: where the sound comes by. form, rate, channels: how its samples lie, how many there are
      a second, and of how many channels, which are mixed down.
    - language, translate, prompt, word_timestamps, condition_on_previous: as of `Transcribe`.
    - partials: tell segments before they are final, too. step_s: how much sound must have come for
      that, since the time before; it is more where the model takes long.
    - vad: find where somebody speaks, leave out the rest, and end segments where the speech does;
      None does where the model has a voice detector. Without, only the client ends them.
    - threshold: how likely speech is where it begins. silence_s: what ends it. padding_s: what is
      kept of the sound before it.
    - idle_s: so long without sound, or any mark, ends the request.
    """

    name: ClassVar[str] = "listen"

    feed: Feed = field(default_factory=Feed, compare=False, repr=False)
    form: SoundForm = SoundForm.S16LE
    rate: int = 16_000
    channels: int = 1
    language: str | None = None
    translate: bool = False
    prompt: str = ""
    word_timestamps: bool = False
    condition_on_previous: bool = True
    partials: bool = True
    step_s: float = 0.6
    vad: bool | None = None
    threshold: float = 0.5
    silence_s: float = 0.6
    padding_s: float = 0.3
    idle_s: float = 60.0

    @property
    def frame_bytes(self) -> int:
        """Of a sample of each channel."""
        return self.form.sample_bytes * self.channels

    def check(self) -> None:
        """Raises InvalidParameter for values out of range."""
        within("rate", self.rate, *RATES)
        within("channels", self.channels, 1, MAX_CHANNELS)
        if self.language is not None and self.language not in LANGUAGES:
            raise InvalidParameter(
                f"language must be a code such as en, not {self.language[:64]!a}", param="language"
            )
        within("the prompt's length", len(self.prompt), 0, MAX_PROMPT_CHARS, param="prompt")
        within("step_s", self.step_s, 0.1, 10.0)
        within("threshold", self.threshold, 0.01, 0.99)
        within("silence_s", self.silence_s, 0.1, 10.0)
        within("padding_s", self.padding_s, 0.0, 2.0)
        within("idle_s", self.idle_s, 1.0, 3600.0)
