"""Pictures in the prompts of a model that sees: where they stand, and what stands there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nsedge.api import Media, MediaPart, Message
from nsedge.api.messages import joined
from nsedge.errors import InvalidParameter, InvalidRequest
from nsedge.runtime.text.parts import PLACE


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How pictures stand in the prompts of a model.

    - marker: what its template writes in the place of one, and clients may.
    - token, token_id: what stands for each row that the encoder makes of one.
    - written: what comes in the marker's place for a picture, `token` for each of its rows in it.
    """

    marker: str
    token: str
    token_id: int
    written: Callable[[Media], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture in a prompt, and the places of its tokens, in order."""

    media: Media
    places: tuple[int, ...]


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


def with_pictures(text: str, sight: Sight, media: Sequence[Media]) -> tuple[str, list[int]]:
    """What a template rendered, with pictures in the place of markers; the rows of each.

    Raises:
        InvalidRequest: the template has not as many places as there are pictures.
    """
    before, *after = text.split(sight.marker)
    if len(after) != len(media):
        raise InvalidRequest(
            f"the chat template has places for {len(after)} of the {len(media)} pictures in these"
            " messages",
            param="messages",
        )
    written = [sight.written(medium) for medium in media]
    pieces = [piece for pair in zip(written, after, strict=True) for piece in pair]
    return "".join([before, *pieces]), [one.count(sight.token) for one in written]


def found_in(
    ids: Sequence[int], sight: Sight, media: Sequence[Media], rows: Sequence[int]
) -> tuple[Shown, ...]:
    """Where the tokens of pictures, of so many rows each, are in a prompt.

    Raises:
        InvalidRequest: other texts have become such tokens.
    """
    places = [place for place, number in enumerate(ids) if number == sight.token_id]
    if media and len(places) != sum(rows):
        raise InvalidRequest(
            f"the prompt has {len(places)} tokens {sight.token}, and its pictures have {sum(rows)}",
            param="messages",
        )
    shown, begin = [], 0
    for medium, count in zip(media, rows, strict=True):
        shown.append(Shown(media=medium, places=tuple(places[begin : begin + count])))
        begin += count
    return tuple(shown)
