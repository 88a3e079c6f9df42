"""How fast an answer came, as its reader saw it."""

from __future__ import annotations

from collections.abc import Callable

from nsedge.api import Delta, Event, Finished


class Pace:
    """Watches the events of one request. Times are seconds of `clock`, from construction on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began_s = clock()
        self._first_s: float | None = None
        self._last_s = self._began_s
        self._later_tokens = 0

    def saw(self, event: Event) -> None:
        """Take note of an event that came now."""
        if not isinstance(event, Delta) or not event.token_ids:
            return
        self._last_s = self._clock()
        if self._first_s is None:
            self._first_s = self._last_s
        else:
            self._later_tokens += len(event.token_ids)

    @property
    def first_token_s(self) -> float | None:
        """From the request to the first text; None before it."""
        return None if self._first_s is None else self._first_s - self._began_s

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens after the first text, by the time they took; None where there were none."""
        if self._first_s is None or self._last_s <= self._first_s or not self._later_tokens:
            return None
        return self._later_tokens / (self._last_s - self._first_s)

    def figures(self) -> dict[str, float | None]:
        """The figures by name, in seconds and tokens a second."""
        return {"first_token_s": self.first_token_s, "tokens_per_s": self.tokens_per_s}

    def line(self, end: Finished) -> str:
        """The figures in one line."""
        first = "none" if self.first_token_s is None else f"{self.first_token_s * 1e3:.0f} ms"
        rate = "" if self.tokens_per_s is None else f" · {self.tokens_per_s:.1f} tokens/s"
        reused = f" ({end.usage.cached_tokens} reused)" if end.usage.cached_tokens else ""
        counts = f"{end.usage.prompt_tokens}{reused} + {end.usage.completion_tokens} tokens"
        lowered = end.clipped_max_tokens
        clipped = "" if lowered is None else f" (max_tokens lowered to {lowered})"
        return f"{counts} · first token {first}{rate} · {end.reason.value}{clipped}"
