"""Pictures and recordings in a conversation with a model that reads text alone: the models that
caption and transcribe make texts of them, which stand in their places.

On the event loop's thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nsedge.api import (
    Chat,
    Event,
    Failed,
    Finished,
    MediaPart,
    MediaRead,
    Message,
    Request,
    Task,
    TextPart,
)
from nsedge.api.bounds import within
from nsedge.api.service import Submitter
from nsedge.core.media_asking import Asking, Failure, Shown
from nsedge.core.media_kinds import MediaKind, MediaSettings, kinds_of
from nsedge.core.media_texts import MediaText, MediaTexts
from nsedge.core.once import Once
from nsedge.errors import (
    ContextExceeded,
    DeadlineExceeded,
    InvalidParameter,
    InvalidRequest,
    of_code,
)
from nsedge.runtime.hosting.films import MediaFilms
from nsedge.runtime.residency.catalogue import Catalogue
from nsedge.runtime.residency.entries import Entry

AT_ONCE = 8
"""Media of one request that are read side by side."""
MAX_MEDIA = 256
"""In one conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A conversation whose media have become texts, and how many they were."""

    task: Chat
    images: int
    audio_s: float
    media: int

    def ending(self, event: Event) -> Event:
        """The terminal event of the request: it counts the media, and where the context is too
        short it says that they are in the prompt."""
        if isinstance(event, Finished):
            usage = event.usage
            counted = dataclasses.replace(
                usage, images=usage.images + self.images, audio_s=usage.audio_s + self.audio_s
            )
            return dataclasses.replace(event, usage=counted)
        if isinstance(event, Failed) and event.code == ContextExceeded.code:
            what = "one medium" if self.media == 1 else f"{self.media} media"
            message = f"{event.message} (the prompt has in it what was made of {what})"
            figures = {**event.figures, "media": self.media}
            return dataclasses.replace(event, message=message, figures=figures)
        return event


class Joining:
    """Finds the media of conversations, has texts made of them, and joins these."""

    def __init__(
        self,
        settings: MediaSettings,
        *,
        catalogue: Catalogue,
        core: Submitter,
        clock: Callable[[], float],
        films: MediaFilms | None = None,
    ) -> None:
        """`core` takes the requests that make texts. films: reads frames of films.

        Raises:
            ConfigInvalid: a template that cannot be filled, by its setting.
        """
        self._join = settings.join
        self._catalogue = catalogue
        self._core = core
        self._clock = clock
        self._texts = MediaTexts(settings.kept_bytes)
        self._once = Once[object, MediaText]()
        self._kinds = kinds_of(settings)
        self._films = films or MediaFilms()

    def shown(self, task: Task, entry: Entry) -> tuple[Shown, ...]:
        """The media that are to become text before `entry` can do `task`.

        Raises:
            InvalidParameter: naming the place of a medium, and the model that is missing.
        """
        if not isinstance(task, Chat) or not any(message.media for message in task.messages):
            return ()
        self._catalogue.refresh()
        found: list[Shown] = []
        counts: dict[str, int] = {}
        takes = () if entry.manifest is None else entry.manifest.media_kinds
        for message, part, one in _media_in(task.messages):
            place, name = one.place or f"messages[{message}].content[{part}]", one.media.kind
            if name in takes:
                continue
            kind, maker = self._maker(one, place, entry)
            counts[name] = counts.get(name, 0) + 1
            found.append(
                Shown(
                    message=message,
                    part=part,
                    n=counts[name],
                    place=place,
                    param=one.place or "messages",
                    media=one.media,
                    choice=(one.fps, one.frames),
                    kind=kind,
                    maker=maker,
                )
            )
        within("the number of media", len(found), 0, MAX_MEDIA, param="messages")
        return tuple(found)

    def _maker(self, one: MediaPart, place: str, entry: Entry) -> tuple[MediaKind, Entry]:
        """Who makes text of a medium.

        Raises:
            InvalidParameter: nobody, or media are not joined.
        """
        media, param = one.media, one.place or "messages"
        kind = self._kinds.get(media.kind)
        doing = [] if kind is None else self._doing(kind)
        if kind is None:
            why = "a model that makes text of it is missing here"
        elif not doing:
            why = f"a model that {kind.does} is missing here"
            if kind.model:
                why += f": {kind.setting} names {kind.model!a}"
        elif not self._join:
            why = f"{doing[0].name} {kind.does}: ask it first, and say what it found"
        elif len(doing) > 1:
            names = ", ".join(sorted(one.name for one in doing))
            why = f"{kind.setting} has to say which of these {kind.does}: {names}"
        else:
            return kind, doing[0]
        takes = () if entry.manifest is None else entry.manifest.media_kinds
        reads = " and ".join(("text", *takes))
        raise InvalidParameter(
            f"{place}: this model reads {reads}, and takes no {media.type}; {why}",
            param=param,
        )

    def _doing(self, kind: MediaKind) -> list[Entry]:
        """The models that do what a kind of media needs: the configured one, or all there are."""
        doing = [
            entry
            for entry in self._catalogue
            if entry.manifest is not None and kind.task in entry.manifest.tasks
        ]
        if kind.model:
            return [entry for entry in doing if kind.model in entry.names]
        return [entry for entry in doing if not entry.superseded]

    async def join(
        self,
        request: Request,
        shown: Sequence[Shown],
        tell: Callable[[Event], None],
        *,
        submitted_s: float,
    ) -> Joined:
        """The conversation of `request` with texts in the places of its media. `tell` hears which
        models are loaded for it, and what was made of each medium.

        Raises:
            NsedgeError: what a medium failed with, by its place; the others are cancelled.
        """
        ask = Asking(
            self._core,
            request,
            tell,
            clock=self._clock,
            submitted_s=submitted_s,
            films=self._films,
        )
        groups: dict[tuple[object, ...], list[Shown]] = {}
        for one in shown:
            groups.setdefault(one.key, []).append(one)
        gate = asyncio.Semaphore(AT_ONCE)

        async def read(key: tuple[object, ...], same: Sequence[Shown]) -> MediaText:
            async with gate:
                return await self._read(key, same, ask)

        try:
            async with asyncio.TaskGroup() as together:
                reading = {
                    key: together.create_task(read(key, same)) for key, same in groups.items()
                }
        except BaseExceptionGroup as group:
            raise _foremost(group) from group
        return _joined(request, shown, {key: task.result() for key, task in reading.items()})

    async def _read(self, key: tuple[object, ...], same: Sequence[Shown], ask: Asking) -> MediaText:
        """What is made of a medium, which stands in several places."""
        began_s, made, known = self._clock(), self._texts.get(key), True
        if made is None:
            made, known = await self._made(key, same[0], ask)
        took_s = self._clock() - began_s
        self._texts.keep(key, made)
        for one in same:
            cached = known or one is not same[0]
            ask.tell(
                MediaRead(
                    request_id=ask.request.request_id,
                    place=one.place,
                    media_type=one.media.type,
                    task=one.kind.task,
                    model=one.maker.name,
                    text=made.text,
                    took_s=0.0 if cached else took_s,
                    audio_s=made.audio_s,
                    cached=cached,
                )
            )
        return made

    async def _made(
        self, key: tuple[object, ...], shown: Shown, ask: Asking
    ) -> tuple[MediaText, bool]:
        """What is made of a medium, and whether another request of this priority had it made."""
        try:
            return await self._once.made(
                (key, ask.request.priority), lambda: ask.text_of(shown), patience_s=ask.left_s
            )
        except TimeoutError as error:
            late = DeadlineExceeded("it was not read in time", param="deadline_s")
            raise Failure(shown, late) from error


def _media_in(messages: Sequence[Message]) -> Iterator[tuple[int, int, MediaPart]]:
    for number, message in enumerate(messages):
        if not isinstance(message.content, str):
            for part, one in enumerate(message.content):
                if isinstance(one, MediaPart):
                    yield number, part, one


def _foremost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what went wrong at once, what is told: anything unforeseen, or else the first medium."""
    failures = [one for one in group.exceptions if isinstance(one, Failure)]
    if len(failures) < len(group.exceptions):
        return next(one for one in group.exceptions if not isinstance(one, Failure))
    first = min(failures, key=lambda failure: (failure.shown.message, failure.shown.part))
    error = first.error
    at_fault = isinstance(error, InvalidRequest)
    return of_code(error.code)(
        f"{first.shown.place}: {error.message}",
        param=first.shown.param if at_fault else error.param,
        retry_after_s=error.retry_after_s,
    )


def _joined(
    request: Request, shown: Sequence[Shown], texts: Mapping[tuple[object, ...], MediaText]
) -> Joined:
    if not isinstance(request.task, Chat):
        raise TypeError(f"{request.task.name} has no messages")
    said = {
        (one.message, one.part): one.kind.template.filled(one.n, texts[one.key].text)
        for one in shown
    }
    turns = [
        message
        if isinstance(message.content, str)
        else dataclasses.replace(
            message,
            content=tuple(
                TextPart(text=said[number, place]) if (number, place) in said else part
                for place, part in enumerate(message.content)
            ),
        )
        for number, message in enumerate(request.task.messages)
    ]
    return Joined(
        task=dataclasses.replace(request.task, messages=tuple(turns)),
        images=sum(texts[one.key].images for one in shown),
        audio_s=sum(texts[one.key].audio_s for one in shown),
        media=len(shown),
    )
