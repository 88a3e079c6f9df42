"""A process's requests as spans (OpenTelemetry), whoever takes them.

`otlp` sends them to a collector, and needs the extra `telemetry`; nothing else imports it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol

Attributes = Mapping[str, str | int | float | tuple[str, ...]]


class Phase(enum.StrEnum):
    """Where the time of a request goes; `Timings` says from when to when."""

    QUEUE = "queue"
    PREFILL = "prefill"
    DECODE = "decode"


class Span(Protocol):
    """Something that takes time; it ends once. On the thread that began it."""

    @property
    def traceparent(self) -> str | None:
        """This span as the W3C trace context of what is done for it; None where spans are off."""

    def phase(self, phase: Phase, begin_s: float, end_s: float) -> None:
        """A part of it that is over, in seconds since its beginning."""

    def end(self, attributes: Attributes, *, error: str | None = None) -> None:
        """It is over; `error` is the code that it failed with."""


class Tracing(Protocol):
    """Takes the spans of one process. Neither waits for anybody, nor raises."""

    def begin(self, name: str, *, parent: str | None, attributes: Attributes) -> Span:
        """A request that somebody else made begins; `parent` is the W3C trace context it came
        with."""

    def close(self) -> None:
        """Send what is left, and stop. Blocks for a moment."""
