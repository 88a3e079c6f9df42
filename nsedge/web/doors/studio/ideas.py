"""The ideas that were generated: counted, rated, and kept over restarts. No text is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from nsedge.process.state_file import StateFile, encode
from nsedge.web.errors import Refusal, Refused

MAX_IDEAS = 1024
"""The latest ideas, which can be rated."""
MAX_CATEGORIES = 128
OTHER = "other"
"""Where ideas of further categories are counted."""


class Idea(msgspec.Struct, kw_only=True):
    """An idea. at_s: when it was there, in seconds since the Unix epoch."""

    id: str
    category: str
    model: str
    at_s: float
    rating: int | None = None


class Kept(msgspec.Struct, kw_only=True):
    """What the file has. rated: ideas that were; stars: of all ratings together."""

    total: int = 0
    categories: dict[str, int] = {}
    rated: int = 0
    stars: int = 0
    ideas: list[Idea] = []


class Ideas:
    """All ideas in figures, and the latest of them."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        """`path` None keeps nothing over a restart."""
        self._file = StateFile(path, kind=Kept, fresh=Kept, what="ratings of ideas")
        kept = self._file.read()
        self.total, self.categories = kept.total, dict(kept.categories)
        self._rated, self._stars = kept.rated, kept.stars
        self._latest = {idea.id: idea for idea in kept.ideas}
        self._clock = clock
        self._changed = False

    def add(self, idea_id: str, category: str, model: str) -> None:
        """An idea is there."""
        counted = category
        if category not in self.categories and len(self.categories) >= MAX_CATEGORIES:
            counted = OTHER
        self.categories[counted] = self.categories.get(counted, 0) + 1
        self.total += 1
        self._latest[idea_id] = Idea(id=idea_id, category=category, model=model, at_s=self._clock())
        if len(self._latest) > MAX_IDEAS:
            del self._latest[next(iter(self._latest))]
        self._changed = True

    def rate(self, idea_id: str, rating: int) -> None:
        """Give an idea 1 to 5 stars, in place of those it had.

        Raises:
            Refused: unknown_idea, where it is none of the latest.
        """
        idea = self._latest.get(idea_id)
        if idea is None:
            message = f"no idea {idea_id[:64]!r} is among the latest {MAX_IDEAS}"
            raise Refused(Refusal(code="unknown_idea", message=message, param="idea_id"))
        self._rated += idea.rating is None
        self._stars += rating - (idea.rating or 0)
        idea.rating = rating
        self._changed = True

    @property
    def average_rating(self) -> float:
        """In stars; 0 where nothing was rated."""
        return round(self._stars / self._rated, 4) if self._rated else 0.0

    def latest(self, most: int) -> Iterator[Idea]:
        """The latest ideas, the newest first."""
        return islice(reversed(self._latest.values()), most)

    def unsaved(self) -> bytes | None:
        """The file's content, where it has changed since it was last asked for."""
        if not self._changed:
            return None
        self._changed = False
        return encode(
            Kept(
                total=self.total,
                categories=self.categories,
                rated=self._rated,
                stars=self._stars,
                ideas=list(self._latest.values()),
            )
        )

    def save(self, content: bytes) -> None:
        """Replace the file; a failure is logged. May be called from another thread."""
        self._file.write(content)
