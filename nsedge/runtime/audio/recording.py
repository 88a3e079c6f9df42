"""A recording as windows of 30 s that a model hears, from front to back, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nsedge.runtime.audio.samples import FRAME, WINDOW, WINDOW_FRAMES, Samples
from nsedge.runtime.audio.timeline import Timeline
from nsedge.runtime.audio.voice import Voice, spoken, where_spoken

MARGIN = 200
"""Samples on each side of a window that its first and last features reach into."""
SILENCE = 1e-4
"""A window whose samples are all nearer to 0, -80 dB, has nothing to hear."""


class Source(Protocol):
    """What is recorded: `nsedge.runtime.audio.sound.Sound`."""

    def blocks(self) -> Iterator[Samples]:
        """Its samples; raises InvalidMedia where it cannot be decoded any further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Samples float32 [MARGIN + WINDOW + MARGIN], zeros behind the sound's end.

    frames: how many of its 3000 have sound. is_last: the sound ends in it. is_silent: there is
    nothing to hear in it.
    """

    samples: Samples
    frames: int
    is_last: bool
    is_silent: bool


def window_of(held: Samples, first: int, begin: int, *, ended: bool) -> Window:
    """The window that begins with sample `begin`, of what is held from sample `first` on. ended:
    nothing follows."""
    samples = np.zeros(MARGIN + WINDOW + MARGIN, np.float32)
    lead = begin - MARGIN - first
    have = held[max(lead, 0) : max(lead + len(samples), 0)]
    at = max(-lead, 0)
    samples[at : at + len(have)] = have
    if (missing := MARGIN - begin) > 0:  # a feature extractor reflects a sound at its edge
        samples[:missing] = samples[2 * missing : missing : -1]
    left = max(0, first + len(held) - begin)
    return Window(
        samples=samples,
        frames=min(WINDOW_FRAMES, -(-left // FRAME)),
        is_last=ended and left <= WINDOW,
        is_silent=float(np.abs(have).max(initial=0.0)) < SILENCE,
    )


class Recording:
    """Hands out windows, whose beginnings never fall. From one thread at a time."""

    def __init__(
        self, source: Source, *, voice: Voice | None = None, keeps_pauses: bool = False
    ) -> None:
        """voice: tells where somebody speaks; the rest is left out then. keeps_pauses: all is kept
        instead where somebody speaks at all; for short sounds, which are held for that."""
        self.timeline = Timeline()
        """Where in the source the samples of the windows are."""
        self._blocks = source.blocks()
        if voice is not None and keeps_pauses:
            self._blocks = where_spoken(self._blocks, voice)
        elif voice is not None:
            self._blocks = spoken(self._blocks, voice, self.timeline)
        self._ended = False
        self._held: Samples = np.zeros(0, np.float32)
        self._first = 0
        """Where what is held begins, in samples of the recording."""

    def window(self, start: int) -> Window:
        """The window that begins with frame `start`. Raises what decoding raises."""
        begin = start * FRAME
        self._drop_before(begin - MARGIN)
        self._hold_until(begin + WINDOW + MARGIN)
        return window_of(self._held, self._first, begin, ended=self._ended)

    def _drop_before(self, sample: int) -> None:
        passed = min(sample - self._first, len(self._held))
        if passed > 0:
            self._held = self._held[passed:]
            self._first += passed

    def _hold_until(self, sample: int) -> None:
        held, end = [self._held], self._first + len(self._held)
        while end < sample and not self._ended:
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
            else:
                held.append(block)
                end += len(block)
        self._held = np.concatenate(held)
