"""Sound that is still coming: where somebody speaks in it, and as windows that a model hears, in
constant memory. Pure: it takes what a feed has, and waits for nothing."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nsedge.api import Feed, Mark
from nsedge.runtime.audio.recording import MARGIN, Window, window_of
from nsedge.runtime.audio.samples import FRAME, FRAMES_PER_S, RATE, Samples
from nsedge.runtime.audio.voice import VOICE_FRAME, Voice

FULL_FRAMES = 28 * FRAMES_PER_S
"""No more is held of what somebody says, so that it fits a window."""
PIECE_BYTES = 16 << 10
"""What is taken of a feed at once."""
PAUSE_S = 0.2
"""Silence after which what was said before is heard: where the speech ends there, it is known
already."""
_ONSET = 8
"""Frames that the beginning of speech is looked for in,"""
_ONSET_VOICED = 3
"""and of these, so many are speech."""


class Why(enum.Enum):
    """Why something is to be done of sound that comes."""

    BEGAN = "began"
    """Somebody begins to speak."""
    MORE = "more"
    """So much more came as was asked for, or somebody pauses who spoke since it was last heard."""
    FULL = "full"
    """No more fits a window."""
    STOPPED = "stopped"
    """Nobody speaks any more."""
    COMMIT = "commit"
    CLEAR = "clear"
    END = "end"
    """As the client asked."""


_OF_MARK = {Mark.COMMIT: Why.COMMIT, Mark.CLEAR: Why.CLEAR, Mark.END: Why.END}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attend:
    """Wait until something is to be done of sound that comes. Frames of 10 ms, counted from the
    beginning of the sound: nothing before `seek` is wanted any more, and up to `heard` it was
    heard; `least` more are wanted, None where none are."""

    seek: int
    heard: int
    least: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """`begin`: where it begins that somebody speaks, and `voiced` where he does last; `end`: of the
    sound that came; all in frames. speaking: whether somebody speaks."""

    why: Why
    begin: int
    voiced: int
    end: int
    speaking: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRule:
    """threshold: how likely speech is where it begins. silence_s: what ends it. padding_s: what is
    kept before it."""

    threshold: float = 0.5
    silence_s: float = 0.6
    padding_s: float = 0.3

    @property
    def goes_on(self) -> float:
        """How likely speech is in a frame that does not end it."""
        return max(0.01, self.threshold - 0.15)


class Decoding(Protocol):
    """Bytes to samples: `nsedge.runtime.audio.pushed.Pushed`."""

    @property
    def read_s(self) -> float:
        """Seconds that came."""

    def samples(self, data: bytes) -> Samples:
        """What `data` brings."""

    def end(self) -> Samples:
        """What comes behind the last."""


class ComingSound:
    """Takes sound from a feed, and tells what is to be done of it. From one thread."""

    def __init__(
        self, feed: Feed, decoding: Decoding, voice: Voice | None, rule: TurnRule | None = None
    ) -> None:
        """voice: tells where somebody speaks; without, all counts as speech."""
        self._feed = feed
        self._decoding = decoding
        self._voice = voice
        self._rule = rule or TurnRule()
        self._silence = round(self._rule.silence_s * RATE)
        self._lead = round(self._rule.padding_s * RATE) + _ONSET * VOICE_FRAME
        self._held: deque[Samples] = deque()
        self._first = 0
        self._end = 0
        """Where what is held begins and ends, in samples of the sound."""
        self._coming: deque[tuple[Samples, float]] = deque()
        """Frames with how likely somebody speaks in each, of which nothing is decided."""
        self._rest: Samples = np.zeros(0, np.float32)
        """Less than a frame."""
        self._mark: Mark | None = None
        self._onset: deque[bool] = deque(maxlen=_ONSET)
        self._speaking = False
        self._begin = 0
        self._voiced = 0

    @property
    def read_s(self) -> float:
        """Seconds that came."""
        return self._decoding.read_s

    @property
    def held_s(self) -> float:
        """Seconds that are held."""
        return sum(map(len, self._held)) / RATE

    def attend(self, asked: Attend) -> Came | None:
        """What is to be done; None where more has to come.

        Raises:
            InvalidMedia: the sound has values that are no numbers.
        """
        seek = asked.seek * FRAME
        while True:
            if self._speaking and self._end - max(seek, self._begin) >= FULL_FRAMES * FRAME:
                return self._came(Why.FULL)
            if self._coming:
                why = self._judge(*self._coming.popleft())
                if why is not None:
                    return self._came(why)
            elif self._mark is not None:
                mark, self._mark = self._mark, None
                why = _OF_MARK[mark]
                if mark is Mark.CLEAR:
                    self._speaking = False
                    self._onset.clear()
                    self._forget_before(self._end)
                return self._came(why)
            elif not self._take():
                break
        return self._came(Why.MORE) if self._is_due(asked) else None

    def window(self, start: int) -> Window:
        """The window that begins with frame `start`; what is before is dropped."""
        begin = start * FRAME
        whole = np.concatenate(self._held) if self._held else np.zeros(0, np.float32)
        passed = min(max(0, begin - MARGIN - self._first), len(whole))
        whole = whole[passed:]
        self._first += passed
        self._held = deque([whole])
        return window_of(whole, self._first, begin, ended=False)

    def _came(self, why: Why) -> Came:
        return Came(
            why=why,
            begin=self._begin // FRAME,
            voiced=-(-self._voiced // FRAME),
            end=self._end // FRAME,
            speaking=self._speaking,
        )

    def _is_due(self, asked: Attend) -> bool:
        """Whether it is to be heard though it goes on."""
        if not self._speaking or asked.least is None:
            return False
        if self._end // FRAME - asked.heard >= asked.least:
            return True
        pauses = self._end - self._voiced >= round(PAUSE_S * RATE)
        return pauses and self._voiced > asked.heard * FRAME

    def _take(self) -> bool:
        """Take the next piece or mark of the feed; whether there was any."""
        taken = self._feed.take(PIECE_BYTES)
        if taken is None:
            return False
        if isinstance(taken, bytes):
            self._split(self._decoding.samples(taken))
            return True
        if taken is Mark.END:
            self._split(self._decoding.end(), last=True)
        self._mark = taken
        return True

    def _split(self, samples: Samples, *, last: bool = False) -> None:
        """Cut to frames, and have them judged; `last`: the rest is a frame, too."""
        whole = np.concatenate([self._rest, samples])
        if last:
            whole = np.concatenate([whole, np.zeros(-len(whole) % VOICE_FRAME, np.float32)])
        count = len(whole) // VOICE_FRAME
        self._rest = whole[count * VOICE_FRAME :]
        if not count:
            return
        frames = whole[: count * VOICE_FRAME]
        likely = np.ones(count, np.float32) if self._voice is None else self._voice(frames)
        for number, probability in enumerate(likely):
            frame = frames[number * VOICE_FRAME : (number + 1) * VOICE_FRAME]
            self._coming.append((frame, float(probability)))

    def _judge(self, frame: Samples, likely: float) -> Why | None:
        """Add a frame, and decide whether speech begins or ends with it."""
        self._held.append(frame)
        self._end += len(frame)
        if self._speaking:
            if likely >= self._rule.goes_on:
                self._voiced = self._end
            elif self._end - self._voiced >= self._silence:
                self._speaking = False
                return Why.STOPPED
            return None
        self._onset.append(likely >= self._rule.threshold)
        self._forget_before(self._end - self._lead - MARGIN)
        if self._voice is not None and sum(self._onset) < _ONSET_VOICED:
            return None
        self._speaking, self._voiced = True, self._end
        first_voiced = self._end - (len(self._onset) - self._onset.index(True)) * VOICE_FRAME
        begin = first_voiced - round(self._rule.padding_s * RATE)
        self._begin = max(begin, self._first, 0)
        self._onset.clear()
        return Why.BEGAN

    def _forget_before(self, sample: int) -> None:
        while self._held and self._first + len(self._held[0]) <= sample:
            self._first += len(self._held.popleft())
