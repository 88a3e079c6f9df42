"""Pictures in the prompts of a model that sees: where they stand, and what stands there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from nsedge.api import Media, MediaPart, Message
from nsedge.api.messages import joined
from nsedge.errors import InvalidParameter, InvalidRequest
from nsedge.runtime.text.parts import PLACE

PICTURE, FILM = "image", "video"
"""The kinds of media that may be seen."""


class Written(Protocol):
    """What stands in a prompt for a picture. grid: the rows and columns that its tokens are, where
    a place in them tells a token's position."""

    @property
    def text(self) -> str: ...

    @property
    def grid(self) -> tuple[int, int] | None: ...


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How pictures stand in the prompts of a model.

    - marker: what its template writes in the place of one, and clients may.
    - token, token_id: what stands for each row that the encoder makes of one.
    - written: what comes in the marker's place for a picture, `token` for each of its rows in it.
    - film: what comes there for a film: texts, and frames of it as pictures.
    """

    marker: str
    token: str
    token_id: int
    written: Callable[[Media], Written]
    film: Callable[[MediaPart], Sequence[str | Media]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture in a prompt, the places of its tokens, in order, and the rows and columns that
    these are, where that matters."""

    media: Media
    places: tuple[int, ...]
    grid: tuple[int, int] | None = None


def shown_in(messages: Sequence[Message]) -> list[MediaPart]:
    """The media of a conversation, in order, each with its place."""
    return [
        replace(part, place=part.place or f"messages[{number}].content[{at}]")
        for number, message in enumerate(messages)
        if not isinstance(message.content, str)
        for at, part in enumerate(message.content)
        if isinstance(part, MediaPart)
    ]


def placed(message: Message, marker: str, where: str) -> Message:
    """`message` as a text with places for its pictures: where its parts stand, or where the client
    wrote `marker`. `where` names the message.

    Raises:
        InvalidParameter: there are markers, and not as many as pictures; or a place is in the text
            already.
    """
    if PLACE in message.text:
        raise InvalidParameter(
            f"{where}: U+{ord(PLACE):04X} is in its text, which is no character", param="messages"
        )
    if isinstance(message.content, str) or not message.media:
        return message
    marked, count = message.text.count(marker), len(message.media)
    if marked not in (0, count):
        raise InvalidParameter(
            f"{where}: its text has {marker} {marked} times, and it holds {count} pictures; write"
            " one for each, or none",
            param="messages",
        )
    if marked:
        return replace(message, content=message.text.replace(marker, PLACE))
    said = [PLACE if isinstance(part, MediaPart) else part.text for part in message.content]
    return replace(message, content=joined(said))


@dataclass(frozen=True, slots=True)
class Placing:
    """A text with pictures in it, and what stands there for each, in order; frames of films among
    them."""

    text: str
    pictures: tuple[Media, ...] = ()
    written: tuple[Written, ...] = ()


def with_pictures(text: str, sight: Sight, parts: Sequence[MediaPart]) -> Placing:
    """What a template rendered, with pictures and films in the place of markers.

    Raises:
        InvalidRequest: the template has not as many places as there are of them.
    """
    before, *after = text.split(sight.marker)
    if len(after) != len(parts):
        raise InvalidRequest(
            f"the chat template has places for {len(after)} of the {len(parts)} pictures in these"
            " messages",
            param="messages",
        )
    pieces, pictures, all_written = [before], list[Media](), list[Written]()
    for part, behind in zip(parts, after, strict=True):
        for one in sight.film(part) if part.media.kind == FILM else (part.media,):
            if isinstance(one, Media):
                written = sight.written(one)
                pictures.append(one)
                all_written.append(written)
                one = written.text
            pieces.append(one)
        pieces.append(behind)
    return Placing("".join(pieces), tuple(pictures), tuple(all_written))


def found_in(ids: Sequence[int], sight: Sight, placing: Placing) -> tuple[Shown, ...]:
    """Where the tokens of pictures are in a prompt.

    Raises:
        InvalidRequest: other texts have become such tokens.
    """
    places = [place for place, number in enumerate(ids) if number == sight.token_id]
    rows = [one.text.count(sight.token) for one in placing.written]
    if rows and len(places) != sum(rows):
        raise InvalidRequest(
            f"the prompt has {len(places)} tokens {sight.token}, and its pictures have {sum(rows)}",
            param="messages",
        )
    shown, begin = [], 0
    for medium, one, count in zip(placing.pictures, placing.written, rows, strict=True):
        own = tuple(places[begin : begin + count])
        shown.append(Shown(media=medium, places=own, grid=one.grid))
        begin += count
    return tuple(shown)
