"""What is asked of other models about the media of one request, in its name and under its terms.

On the event loop's thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from nsedge.api import Event, Loading, Media, Request
from nsedge.api.service import Submitter
from nsedge.api.stream import EventStream
from nsedge.core.media_kinds import MediaKind
from nsedge.core.media_texts import MediaText
from nsedge.errors import NsedgeError
from nsedge.runtime.hosting.films import MediaFilms
from nsedge.runtime.residency.entries import Entry

LEAST_S = 1e-3
"""The deadline of what is asked of a model when the request's own has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A medium of a conversation. n: its number among those of its kind, from 1 on. param: the
    field that is at fault where it cannot be read. choice: of a film, `fps` and `frames` of its
    part. maker: the model that makes text of it."""

    message: int
    part: int
    n: int
    place: str
    param: str
    media: Media
    choice: tuple[float | None, int | None] = (None, None)
    kind: MediaKind
    maker: Entry

    @property
    def key(self) -> tuple[object, ...]:
        """What its text depends on."""
        media = self.media
        form = (media.kind, media.shape, media.dtype, self.choice)
        return (self.maker.name, self.maker.stamp, media.sha256, *form)


class Failure(Exception):
    """What a medium failed with."""

    def __init__(self, shown: Shown, error: NsedgeError) -> None:
        super().__init__(shown.place)
        self.shown, self.error = shown, error


class Asking:
    """Asks models for texts, for one request and under its terms."""

    def __init__(
        self,
        core: Submitter,
        request: Request,
        tell: Callable[[Event], None],
        *,
        clock: Callable[[], float],
        submitted_s: float,
        films: MediaFilms,
    ) -> None:
        self.request = request
        self.tell = tell
        self._core = core
        self._clock = clock
        self._submitted_s = submitted_s
        self._films = films
        self._loading: dict[str, Loading] = {}
        """What was told last of each model that is loaded."""

    @property
    def left_s(self) -> float | None:
        """Until the request's deadline, LEAST_S where that has passed; None where it has none."""
        deadline_s = self.request.deadline_s
        if deadline_s is None:
            return None
        return max(deadline_s - (self._clock() - self._submitted_s), LEAST_S)

    async def text_of(self, shown: Shown) -> MediaText:
        """What is made of a medium.

        Raises:
            Failure: with what it failed.
        """
        try:
            if shown.kind.by_frames:
                return await self._of_frames(shown)
            return await self._made(shown, shown.media, shown.place)
        except NsedgeError as error:
            raise Failure(shown, error) from error

    async def _of_frames(self, shown: Shown) -> MediaText:
        """A line for each frame of a film that is looked at: its time, and what was made of it."""
        fps, frames = shown.choice
        lines = []
        for still in await self._films.stills(shown.media, fps=fps, frames=frames):
            made = await self._made(shown, still.media, f"{shown.place} at {still.time}")
            lines.append(f"{still.time} {made.text}")
        return MediaText(text="\n".join(lines), images=len(lines))

    async def _made(self, shown: Shown, media: Media, label: str) -> MediaText:
        """What the model of a medium makes of it, or of a frame of it.

        Raises:
            NsedgeError: what that failed with.
        """
        request = self.request
        wanted = Request(
            request_id=f"{request.request_id}/{label}",
            model=shown.maker.name,
            task=shown.kind.ask(media),
            priority=request.priority,
            deadline_s=self.left_s,
            traceparent=request.traceparent,
        )
        reading = shown.kind.reading()
        async with EventStream(self._core, wanted) as events:
            async for event in events:
                if isinstance(event, Loading):
                    self._tell_loading(event)
                reading.saw(event)
        return reading.made()

    def _tell_loading(self, event: Loading) -> None:
        """Several media may wait for one model: what is the same is told once."""
        told = dataclasses.replace(event, request_id=self.request.request_id)
        if self._loading.get(told.model) != told:
            self._loading[told.model] = told
            self.tell(told)
