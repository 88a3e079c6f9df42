"""What an engine is told between two steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nsedge.runtime.decode.job import Job


@dataclass(frozen=True, slots=True)
class Submit:
    """A job to be taken."""

    job: Job


@dataclass(frozen=True, slots=True)
class Cancel:
    """A job to be ended."""

    job: Job


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody to be called."""

    answer: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Stop:
    """The end."""
