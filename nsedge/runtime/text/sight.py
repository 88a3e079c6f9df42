"""Media in the prompts of a model that sees, or hears: where they stand, and what stands there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

from nsedge.api import Media, MediaPart, Message, TextPart
from nsedge.api.messages import joined
from nsedge.errors import InvalidParameter, InvalidRequest, NsedgeError
from nsedge.runtime.text.parts import ANY_PLACE, PLACE, SOUND_PLACE

PICTURE, FILM, SOUND = "image", "video", "audio"
"""The kinds of media that may be seen, and heard."""
TOLD = {PICTURE: "pictures", FILM: "films", SOUND: "sounds"}
NUMBER = "{n}"
"""In a marker, the number of its medium, from 1 on."""


class Written(Protocol):
    """What stands in a prompt for a medium. grid: the rows and columns that its tokens are, where
    a place in them tells a token's position."""

    @property
    def text(self) -> str: ...

    @property
    def grid(self) -> tuple[int, int] | None: ...


@dataclass(frozen=True, kw_only=True)
class Stand:
    """How media stand in the prompts of a model.

    - marker: what its template writes in the place of one, and clients may.
    - token, token_id: what stands for each row that the encoder makes of one.
    - written: what comes in the marker's place for a medium, `token` for each of its rows in it.
    """

    marker: str
    token: str
    token_id: int
    written: Callable[[Media], Written]

    def marks(self, text: str) -> list[re.Match[str]]:
        """The markers in a text; the number of one is a group."""
        return list(self._pattern().finditer(text))

    def unmarked(self, text: str, place: str) -> str:
        """The text with `place` for each marker."""
        return self._pattern().sub(place, text)

    def _pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.marker).replace(re.escape(NUMBER), r"(\d{1,9})"))


@dataclass(frozen=True, kw_only=True)
class Sight(Stand):
    """How pictures stand in the prompts of a model, and other media.

    - film: what comes in a picture's place for a film: texts, and frames of it as pictures.
    - sound: how sounds stand there, where it hears.
    - beside: what stands between a medium and what comes before or after it in its message.
    """

    film: Callable[[MediaPart], Sequence[str | Media]]
    sound: Stand | None = None
    beside: str = "\n"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the media that there may be."""
        return (PICTURE, FILM) if self.sound is None else (PICTURE, FILM, SOUND)

    @property
    def stands(self) -> dict[str, Stand]:
        """By the place that stands for them in a text."""
        return {PLACE: self} if self.sound is None else {PLACE: self, SOUND_PLACE: self.sound}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A medium in a prompt, the places of its tokens, in order, and the rows and columns that these
    are, where that matters. part: the place of the part that it is, or is a frame of."""

    media: Media
    part: str
    places: tuple[int, ...]
    grid: tuple[int, int] | None = None


@contextmanager
def told_of(part: str) -> Iterator[None]:
    """Errors name the part of a message that is at fault."""
    try:
        yield
    except NsedgeError as error:
        raise type(error)(f"{part}: {error.message}", param=part) from error


def shown_in(messages: Sequence[Message]) -> list[MediaPart]:
    """The media of a conversation, in order, each with its place."""
    return [
        replace(part, place=part.place or f"messages[{number}].content[{at}]")
        for number, message in enumerate(messages)
        if not isinstance(message.content, str)
        for at, part in enumerate(message.content)
        if isinstance(part, MediaPart)
    ]


def place_of(media: Media) -> str:
    """What stands for a medium in a text until a template is given it."""
    return SOUND_PLACE if media.kind == SOUND else PLACE


def placed(message: Message, sight: Sight, where: str, before: Mapping[str, int]) -> Message:
    """`message` as a text with places for its media: where its parts stand, or where the client
    wrote markers. `where` names the message; `before` tells of each place how many media in earlier
    messages it stands for.

    Raises:
        InvalidParameter: there are markers, and not one for each medium, in order; or a place is in
            the text already.
    """
    text = message.text
    if found := ANY_PLACE.search(text):
        raise InvalidParameter(
            f"{where}: U+{ord(found.group()):04X} is in its text, which is no character",
            param="messages",
        )
    if isinstance(message.content, str) or not message.media:
        return message
    if any(stand.marks(text) for stand in sight.stands.values()):
        for place, stand in sight.stands.items():
            count = sum(place_of(medium) == place for medium in message.media)
            what = TOLD[SOUND] if place == SOUND_PLACE else TOLD[PICTURE]
            _check_marks(stand, text, count, before[place], f"{where}: its text", what)
            text = stand.unmarked(text, place)
        return replace(message, content=text)
    said: list[str] = []
    for is_medium, parts in groupby(message.content, key=lambda part: isinstance(part, MediaPart)):
        if is_medium:
            said += [place_of(part.media) for part in parts if isinstance(part, MediaPart)]
        else:
            said.append(joined(part.text for part in parts if isinstance(part, TextPart)))
    return replace(message, content=sight.beside.join(said))


def _check_marks(stand: Stand, text: str, count: int, before: int, where: str, what: str) -> None:
    """Refuse markers that are not one for each medium of a kind, numbered in order."""
    marks = stand.marks(text)
    if len(marks) != count:
        raise InvalidParameter(
            f"{where} has {stand.marker} {len(marks)} times, and it holds {count} {what}; write one"
            " for each, or none",
            param="messages",
        )
    if NUMBER not in stand.marker:
        return
    numbers = [int(one.group(1)) for one in marks]
    if all(numbers != list(range(first, first + count)) for first in (1, 1 + before)):
        raise InvalidParameter(
            f"{where} numbers {what} {', '.join(map(str, numbers))}; they count in order, from 1 on"
            f" in a message, or from {1 + before} on in this conversation",
            param="messages",
        )


@dataclass(frozen=True, slots=True)
class Stood:
    """A medium, or a frame of a film, what stands for it, and the place of its part."""

    media: Media
    written: Written
    part: str


@dataclass(frozen=True, slots=True)
class Placing:
    """A text with media in it, and these; frames of films among them."""

    text: str
    stood: tuple[Stood, ...] = ()


def with_media(text: str, sight: Sight, parts: Sequence[MediaPart], *, marked: bool) -> Placing:
    """What a template rendered, with media in their places. marked: the template wrote the marker
    of pictures there.

    Raises:
        InvalidRequest: the template has not as many places as there are of them; or one cannot be
            seen, which the message names.
    """
    if marked:
        text = text.replace(sight.marker, PLACE)
    stood: list[Stood] = []
    for place, stand in sight.stands.items():
        own = [part for part in parts if place_of(part.media) == place]
        before, *after = text.split(place)
        if len(after) != len(own):
            what = TOLD[SOUND] if place == SOUND_PLACE else TOLD[PICTURE]
            raise InvalidRequest(
                f"the chat template has places for {len(after)} of the {len(own)} {what} in these"
                " messages",
                param="messages",
            )
        pieces = [before]
        for part, behind in zip(own, after, strict=True):
            with told_of(part.place):
                for one in sight.film(part) if part.media.kind == FILM else (part.media,):
                    if isinstance(one, Media):
                        stood.append(Stood(one, stand.written(one), part.place))
                        one = stood[-1].written.text
                    pieces.append(one)
            pieces.append(behind)
        text = "".join(pieces)
    return Placing(text, tuple(stood))


def found_in(ids: Sequence[int], sight: Sight, placing: Placing) -> tuple[Shown, ...]:
    """Where the tokens of media are in a prompt, in the order of their places.

    Raises:
        InvalidRequest: other texts have become such tokens.
    """
    shown: list[Shown] = []
    for place, stand in sight.stands.items():
        own = [
            (one, one.written.text.count(stand.token))
            for one in placing.stood
            if place_of(one.media) == place
        ]
        places = [at for at, number in enumerate(ids) if number == stand.token_id]
        if own and len(places) != (wanted := sum(rows for _, rows in own)):
            what = TOLD[SOUND] if place == SOUND_PLACE else TOLD[PICTURE]
            raise InvalidRequest(
                f"the prompt has {len(places)} tokens {stand.token}, and its {what} have {wanted}",
                param="messages",
            )
        shown += _dealt(own, places)
    return tuple(sorted(shown, key=lambda one: one.places))


def _dealt(stood: Sequence[tuple[Stood, int]], places: Sequence[int]) -> Iterator[Shown]:
    begin = 0
    for one, rows in stood:
        own = tuple(places[begin : begin + rows])
        yield Shown(media=one.media, part=one.part, places=own, grid=one.written.grid)
        begin += rows
