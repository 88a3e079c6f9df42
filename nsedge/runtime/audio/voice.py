"""Voice activity: where in a sound somebody speaks, and the sound without the rest.

The rule is that of Silero's own `get_speech_timestamps`, with the times of faster-whisper: a
stretch of speech begins with a frame at or above 0.5, ends where frames stay below 0.35 for two
seconds, and is kept with 0.4 s on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.audio.samples import RATE, Samples
from nsedge.runtime.audio.timeline import Timeline

VOICE_FRAME = 512
"""Samples of a frame that is judged: 32 ms."""
Voice = Callable[[Samples], NDArray[np.float32]]
"""Samples [n * VOICE_FRAME] to how likely somebody speaks in each frame, float32 [n]. It remembers
what came before: one for each sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceRule:
    """begins, goes_on: how likely speech is in a frame that begins a stretch, and in one that does
    not end it. speech_s: what a stretch has of speech at least. silence_s: what ends it. margin_s:
    what is kept on either side."""

    begins: float = 0.5
    goes_on: float = 0.35
    speech_s: float = 0.25
    silence_s: float = 2.0
    margin_s: float = 0.4


RULE = VoiceRule()


def spoken(
    blocks: Iterator[Samples], voice: Voice, timeline: Timeline, rule: VoiceRule = RULE
) -> Iterator[Samples]:
    """The stretches of `blocks` in which somebody speaks, one behind the other; `timeline` is told
    where each is from."""
    cut = _Cut(timeline, rule)
    rest: Samples = np.zeros(0, np.float32)
    for block in blocks:
        whole = np.concatenate([rest, block])
        count = len(whole) // VOICE_FRAME
        rest = whole[count * VOICE_FRAME :]
        if count:
            yield from cut.feed(whole[: count * VOICE_FRAME], voice)
    if len(rest):
        last = np.zeros(VOICE_FRAME, np.float32)
        last[: len(rest)] = rest
        yield from cut.feed(last, voice, samples=len(rest))
    yield from cut.end()


def where_spoken(
    blocks: Iterator[Samples], voice: Voice, rule: VoiceRule = RULE
) -> Iterator[Samples]:
    """All of `blocks`, once somebody speaks in them; nothing where nobody does. What comes before
    is held."""
    held: list[Samples] = []

    def heard() -> Iterator[Samples]:
        for block in blocks:
            held.append(block)
            yield block

    for _ in spoken(heard(), voice, Timeline(), rule):
        yield from held
        yield from blocks
        return


class _Cut:
    """Decides of each frame whether it is kept, as late as that must be."""

    def __init__(self, timeline: Timeline, rule: VoiceRule) -> None:
        self._timeline = timeline
        self._begins, self._goes_on = rule.begins, rule.goes_on
        self._margin = round(rule.margin_s * RATE / VOICE_FRAME)
        self._silence = round(rule.silence_s * RATE / VOICE_FRAME)
        self._speech = round(rule.speech_s * RATE / VOICE_FRAME)
        self._held: list[Samples] = []
        """Frames that nothing is decided of: before a stretch, or in what may be its end."""
        self._speaking = False
        self._spoken = 0
        """Frames of speech in this stretch."""
        self._quiet = 0
        """Frames since the last of speech, where the stretch may have ended."""
        self._kept = False
        """Whether the stretch is long enough to be kept."""
        self._at = 0
        self._seen = 0

    def feed(self, frames: Samples, voice: Voice, samples: int | None = None) -> Iterator[Samples]:
        """What of `frames`, and of those that were held, is to be kept; `samples`: how much of the
        last frame is sound."""
        likely = voice(frames)
        for index, probability in enumerate(likely):
            frame = frames[index * VOICE_FRAME : (index + 1) * VOICE_FRAME]
            if samples is not None and index == len(likely) - 1:
                frame = frame[:samples]
            self._held.append(frame)
            self._seen += len(frame)
            self._judge(float(probability))
            if self._kept and not self._quiet:
                yield self._release(len(self._held))
            elif self._quiet >= self._silence:
                yield from self._close()
            elif not self._speaking:
                del self._held[: max(0, len(self._held) - self._margin)]

    def end(self) -> Iterator[Samples]:
        """What is still to be kept at the end of the sound."""
        if self._speaking:
            yield from self._close()

    def _judge(self, probability: float) -> None:
        if probability >= self._begins:
            self._speaking, self._quiet = True, 0
        elif self._speaking and (self._quiet or probability < self._goes_on):
            self._quiet += 1
        if self._speaking and not self._quiet:
            self._spoken += 1
            self._kept = self._kept or self._spoken >= self._speech

    def _close(self) -> Iterator[Samples]:
        """End the stretch: its margin is kept, and what follows may lead into the next."""
        if self._kept:
            silent = min(self._quiet, len(self._held))
            keep = len(self._held) - silent + min(silent, self._margin)
            if keep:
                yield self._release(keep)
        del self._held[: max(0, len(self._held) - self._margin)]
        self._speaking, self._kept, self._spoken, self._quiet = False, False, 0, 0

    def _release(self, count: int) -> Samples:
        frames, self._held = self._held[:count], self._held[count:]
        samples = np.concatenate(frames)
        self._timeline.keep(self._at, self._seen - sum(map(len, self._held)) - len(samples))
        self._at += len(samples)
        return samples
