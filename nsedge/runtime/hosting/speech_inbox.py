"""What the speech loop is told, from other threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nsedge.api import Event
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.speech_work import SpeechWork


@dataclass(frozen=True, slots=True)
class Submit:
    """A request."""

    work: SpeechWork
    emit: Emit


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a request."""

    work: SpeechWork


@dataclass(frozen=True, slots=True)
class SoundCame:
    """There is sound for a request that hears it while it comes."""

    work: SpeechWork


@dataclass(frozen=True, slots=True)
class Written:
    """What the engine has to tell."""

    events: list[tuple[Emit, Event]]


@dataclass(frozen=True, slots=True)
class Ask:
    """Call `answer` when the loop comes round."""

    answer: Callable[[], None]


class Stop:
    """End the loop."""


Told = Submit | Cancel | SoundCame | Written | Ask | Stop
