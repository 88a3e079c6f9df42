"""How fast an answer came: the first token as its reader saw it, the rest as the core timed it.

A reader cannot time tokens: what a core sends while the reader starts, or is busy with its
terminal, arrives all at once.
"""

from __future__ import annotations

from collections.abc import Callable

from nsedge.api import AnyDelta, Event, Finished


class Pace:
    """Watches the events of one request. Times are seconds of `clock`, from construction on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began_s = clock()
        self.first_token_s: float | None = None
        """From the request to the first token; None before it."""

    def saw(self, event: Event) -> None:
        """Take note of an event that came now."""
        if self.first_token_s is None and isinstance(event, AnyDelta) and event.token_ids:
            self.first_token_s = self._clock() - self._began_s

    def figures(self, end: Finished) -> dict[str, float | None]:
        """The figures by name, in seconds and tokens a second."""
        return {"first_token_s": self.first_token_s, "tokens_per_s": tokens_per_s(end)}

    def line(self, end: Finished) -> str:
        """The figures in one line."""
        first = "none" if self.first_token_s is None else f"{self.first_token_s * 1e3:.0f} ms"
        rate = tokens_per_s(end)
        paced = "" if rate is None else f" · {rate:.1f} tokens/s"
        reused = f" ({end.usage.cached_tokens} reused)" if end.usage.cached_tokens else ""
        counts = f"{end.usage.prompt_tokens}{reused} + {end.usage.completion_tokens} tokens"
        lowered = end.clipped_max_tokens
        clipped = "" if lowered is None else f" (max_tokens lowered to {lowered})"
        return f"{counts} · first token {first}{paced} · {end.reason.value}{clipped}"


def tokens_per_s(end: Finished) -> float | None:
    """Tokens after the first by the core's time for them; None where no time went by."""
    later, decode_s = end.usage.completion_tokens - 1, end.timings.decode_s
    return later / decode_s if later > 0 and decode_s > 0.0 else None
