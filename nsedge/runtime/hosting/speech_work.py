"""A request for a transcript in the speech loop: what it has heard, and what is being written."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Delta, Event, Failed, Finished, Listen, Request
from nsedge.errors import NsedgeError, UploadStalled
from nsedge.runtime.audio.coming import Attend, Came
from nsedge.runtime.audio.recording import Window
from nsedge.runtime.audio.samples import FRAMES_PER_S
from nsedge.runtime.decode.job import Job
from nsedge.runtime.speech.asks import (
    Align,
    Aligned,
    Answer,
    Ask,
    Decode,
    Detect,
    Steps,
    Take,
)

REST = 3.0
"""How much longer than the last hearing took sound must have come for the next."""
MOST_REST_FRAMES = 5 * FRAMES_PER_S


class Asking(Protocol):
    """A transcript in the making: `nsedge.runtime.speech.transcript.Transcript`."""

    @property
    def written(self) -> int:
        """Tokens so far."""

    def steps(self) -> Steps[None]:
        """What it asks, one thing after another."""


class Listening(Protocol):
    """A recording: `nsedge.runtime.audio.recording.Recording`."""

    def window(self, start: int) -> Window:
        """The window that begins with frame `start`."""


class Audio(Protocol):
    """A recording's file: `nsedge.runtime.audio.sound.Sound`."""

    @property
    def read_s(self) -> float:
        """Seconds of it that were decoded."""


class Coming(Protocol):
    """Sound that is still coming: `nsedge.runtime.audio.coming.ComingSound`."""

    def attend(self, asked: Attend) -> Came | None:
        """What is to be done of it; None where more has to come."""


@dataclass(eq=False, slots=True, kw_only=True)
class SpeechWork:
    """One request, on the loop's thread once it was submitted. steps: what its transcript asks, one
    thing after another."""

    request: Request
    transcript: Asking
    recording: Listening
    audio: Audio
    submitted_s: float
    coming: Coming | None = None
    """The sound, where it is transcribed while it comes."""
    steps: Generator[Ask, Answer, None] = field(init=False)
    started_s: float | None = None
    due_s: float = 0.0
    """When it should hear its next window."""
    start: int = 0
    """The frame that this window begins with."""
    row: int | None = None
    """Of the memory, where it has heard something."""
    wanted: Detect | Decode | None = None
    """What is being written."""
    takes: list[Writing] = field(default_factory=list)
    running: int = 0
    """Jobs of it that have not ended."""
    ended: bool = False
    attends: Attend | None = None
    """What it waits for of sound that comes."""
    came_s: float = 0.0
    """When sound last came, or began to be waited for."""
    _resumed_s: float | None = None

    def __post_init__(self) -> None:
        self.steps = self.transcript.steps()

    @property
    def request_id(self) -> str:
        """Its request's."""
        return self.request.request_id

    def pause(self, asked: Attend, now_s: float) -> None:
        """Wait for what is asked for, and at least so long that the model is this one's for a small
        part of the time only."""
        self.came_s = now_s
        if asked.least is not None and self._resumed_s is not None:
            took = round(REST * (now_s - self._resumed_s) * FRAMES_PER_S)
            least = max(asked.least, min(took, MOST_REST_FRAMES))
            asked = dataclasses.replace(asked, least=least)
        self.attends = asked

    def resume(self, now_s: float) -> None:
        """Something is to be done."""
        self.attends, self._resumed_s = None, now_s

    def stalled(self, now_s: float) -> NsedgeError | None:
        """What it fails with, where no sound came for too long."""
        task = self.request.task
        if isinstance(task, Listen) and self.attends and now_s - self.came_s >= task.idle_s:
            return UploadStalled(f"no sound came for {task.idle_s:g} s")
        return None

    @property
    def deadline_s(self) -> float | None:
        """When it is too late."""
        limit = self.request.deadline_s
        return None if limit is None else self.submitted_s + limit


class Writing:
    """A job of the engine, whose tokens are gathered."""

    def __init__(self, work: SpeechWork) -> None:
        self.work = work
        self.job: Job | None = None
        self.failure: Failed | None = None
        self.after_start: NDArray[np.float32] | None = None
        """Probabilities [V] after <|startoftranscript|>, before any rule."""
        self._tokens: list[int] = []
        self._logprob = 0.0

    def look(self, logits: NDArray[np.float32]) -> None:
        """Note what the model says after <|startoftranscript|>; on the engine's thread."""
        shares = np.exp(logits - logits.max())
        self.after_start = shares / shares.sum()

    def saw(self, event: Event) -> bool:
        """Take an event of the job; whether it is its last, with which the job is let go of."""
        match event:
            case Delta(token_ids=ids):
                self._tokens.extend(ids)
                return False
            case Finished(cumulative_logprob=logprob):
                self._logprob = logprob or 0.0
            case Failed():
                self.failure = event
            case _:
                return False
        self.job = None
        return True

    @property
    def take(self) -> Take:
        """What was written."""
        return Take(tokens=tuple(self._tokens), sum_logprob=self._logprob)


class Hearing(Protocol):
    """What makes a row of the memory of a window."""

    def features(self, window: Window) -> NDArray[np.float32]:
        """What the encoder reads of it."""

    def run(self, features: NDArray[np.float32], row: int) -> None:
        """Run the encoder."""

    def align(self, asked: Align, row: int) -> Aligned:
        """Find where in a row's window a text was said; raises where the model cannot."""


class Desk(Protocol):
    """What has text written, of what a work has heard; both from any thread."""

    def write(self, writing: Writing, wanted: Detect | Decode, number: int) -> None:
        """Begin; the events of it come to `SpeechLoop.written`."""

    def cancel(self, writing: Writing) -> None:
        """End it before its time; its last event still comes."""
