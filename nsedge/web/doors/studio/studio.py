"""What the studio keeps while it serves: ideas, and how its routes are used."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from nsedge.web.doors.studio.ideas import Ideas

KEEP_S = 5.0
"""Between two writings of what changed."""
FIRST_GUESS = 256
"""Tokens of an answer, before a model has given any."""
WEIGHT = 0.2
"""Of the latest answer in the mean length of a model's answers."""


class Studio:
    """The state of one application's studio."""

    def __init__(
        self, ratings_file: Path | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """clock: monotonic, in seconds."""
        self.ideas = Ideas(ratings_file)
        self.active_sessions = 0
        self.batches: Counter[str] = Counter()
        self.streams = 0
        self.last_model: str | None = None
        self._stream_s = 0.0
        self._lengths: dict[str, float] = {}
        self._clock = clock

    @contextmanager
    def session(self) -> Iterator[None]:
        """A stream that is being given."""
        began_s = self._clock()
        self.streams += 1
        self.active_sessions += 1
        try:
            yield
        finally:
            self.active_sessions -= 1
            self._stream_s += self._clock() - began_s

    @property
    def average_stream_s(self) -> float:
        """Of the streams that have ended; 0 where none has."""
        ended = self.streams - self.active_sessions
        return round(self._stream_s / ended, 6) if ended else 0.0

    def expected_tokens(self, model: str, max_tokens: int | None) -> int:
        """How long an answer is likely to be: as its model's were, within what was asked for."""
        usual = max(1, round(self._lengths.get(model, FIRST_GUESS)))
        return usual if max_tokens is None else min(usual, max_tokens)

    def answered(self, idea_id: str, *, category: str, model: str, tokens: int) -> None:
        """An idea is there."""
        usual = self._lengths.get(model, float(tokens))
        self._lengths[model] = usual + WEIGHT * (tokens - usual)
        self.last_model = model
        self.ideas.add(idea_id, category, model)

    async def keep(self) -> None:
        """Write what has changed, now and then. Never ends."""
        while True:
            await asyncio.sleep(KEEP_S)
            await self.save()

    async def save(self) -> None:
        """Write what has changed."""
        if content := self.ideas.unsaved():
            await asyncio.to_thread(self.ideas.save, content)


STUDIO = web.AppKey("studio", Studio)


def new_id() -> str:
    """An idea's name."""
    return f"idea-{secrets.token_hex(8)}"


async def kept(app: web.Application) -> AsyncIterator[None]:
    """Keep the studio's ideas as long as the application serves, and once more at its end."""
    studio = app[STUDIO]
    keeping = asyncio.create_task(studio.keep())
    yield
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    await studio.save()
