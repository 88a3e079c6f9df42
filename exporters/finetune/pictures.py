"""Pictures of a dataset's rows: which files a row names, where they stand in its turns, and whether
they can be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from exporters.errors import Refused
from exporters.finetune.examples import PictureFile, Turn
from exporters.finetune.shapes import (
    TURN_KEYS,
    USER,
    BadRow,
    Conversation,
    Shape,
    conversation,
    unpacked,
)
from exporters.finetune.targets import PROJECTORS
from exporters.model.files import shown
from exporters.model.vision_lm import VisionSource
from nsedge.api import Media, MediaPart
from nsedge.api.messages import joined
from nsedge.bundle.vision_lm import FilmPrompt
from nsedge.errors import NsedgeError
from nsedge.runtime.settings import EngineSettings
from nsedge.runtime.text.parts import PLACE
from nsedge.runtime.text.sight import Sight
from nsedge.runtime.vision.films import FilmLimits
from nsedge.runtime.vision.shown import PromptPictures
from nsedge.runtime.vision.taken import Written

MAX_BYTES = 256 * 2**20
"""Of a picture's file."""
PICTURE_TYPES = ("image", "image_url", "input_image")
NAME_KEYS = ("image", "path", "url", "image_url")
"""Where a part tells its file, in this order."""
ROW_KEYS = ("images", "image")
"""Where a row tells the files of all its turns, as TRL's and LLaVA's datasets do."""

Fields = Mapping[str, Any]


def conversation_of(
    row: object, shape: Shape, *, system: str | None, marker: str | None
) -> Conversation:
    """What `row` holds, with places for its pictures in its turns; raises as
    `shapes.conversation` does.

    A place is where a part that is a picture stands, or where the turn says `marker` and has as
    many pictures as markers. Pictures of the row as a whole stand where its turns have places
    without a name, or markers, or before what the user says first. `marker` None: the base sees
    none.
    """
    if not isinstance(row, dict):
        return conversation(row, shape, system=system)
    placed, names = _with_places(row, marker)
    beside = _beside(row)
    if (names or beside) and marker is None:
        raise BadRow("it has pictures, and the base sees none")
    found = conversation(placed, shape, system=system)
    if sum(turn.content.count(PLACE) for turn in found.turns) != len(names):
        raise BadRow(f"U+{ord(PLACE):04X} is in its text, which is no character")
    if beside and marker is not None:
        found, names = _joined(found, names, beside, marker)
    if None in names:
        raise BadRow("it has a place for a picture, and names none")
    for place, turn in enumerate(found.turns, 1):
        if PLACE in turn.content and turn.role != USER:
            raise BadRow(f"turn {place}: only a user shows pictures")
    return msgspec.structs.replace(found, pictures=tuple(name for name in names if name))


def _with_places(row: Fields, marker: str | None) -> tuple[Fields, list[str | None]]:
    """`row` with places for the parts of its turns that are pictures, and the files of these; None
    for a part that names none."""
    key = next((key for key in TURN_KEYS if key in row), None)
    turns = None if key is None else unpacked(row[key])
    if key is None or not isinstance(turns, list):
        return row, []
    names: list[str | None] = []
    placed = []
    for place, turn in enumerate(turns, 1):
        if isinstance(turn, dict):
            turn, found = _turn_with_places(turn, place, marker)
            names += found
        placed.append(turn)
    return {**row, key: placed}, names


def _turn_with_places(
    turn: Fields, place: int, marker: str | None
) -> tuple[Fields, list[str | None]]:
    key = "content" if "content" in turn else "value"
    parts = turn.get(key)
    if not isinstance(parts, list):
        return turn, []
    names = [_name(part, place) for part in parts if _is_picture(part)]
    said = [PLACE if _is_picture(part) else _text(part) for part in parts]
    texts = [one for one in said if isinstance(one, str) and one != PLACE]
    marked = 0 if marker is None else sum(text.count(marker) for text in texts)
    if marker is not None and names and marked:
        if marked != len(names):
            raise BadRow(
                f"turn {place} says {marker} {marked} times, and has {len(names)} pictures"
            )
        said = [
            one.replace(marker, PLACE) if isinstance(one, str) else one
            for one in said
            if one != PLACE
        ]
    return {**turn, key: said}, names


def _joined(
    found: Conversation, names: list[str | None], beside: list[str], marker: str
) -> tuple[Conversation, list[str | None]]:
    """Turns with places for the pictures of the row as a whole, and the files of all."""
    if any(name is not None for name in names):
        raise BadRow("it names pictures both in its turns and beside them")
    count = len(names)
    if not names:
        users = [turn.content for turn in found.turns if turn.role == USER]
        count = sum(text.count(marker) for text in users)
        first = next((at for at, turn in enumerate(found.turns) if turn.role == USER), 0)
        turns = list(found.turns)
        if count:
            turns = [
                Turn(turn.role, turn.content.replace(marker, PLACE)) if turn.role == USER else turn
                for turn in turns
            ]
        else:
            count = len(beside)
            shown = joined([*[PLACE] * count, turns[first].content])
            turns[first] = Turn(turns[first].role, shown)
        found = msgspec.structs.replace(found, turns=tuple(turns))
    if count != len(beside):
        raise BadRow(f"its turns have places for {count} pictures, and it has {len(beside)}")
    return found, [*beside]


def _is_picture(part: object) -> bool:
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    return kind in PICTURE_TYPES or (kind is None and "image" in part)


def _text(part: object) -> object:
    """The text of a part that is one; the part itself else."""
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else part


def _name(part: Fields, place: int) -> str | None:
    for key in NAME_KEYS:
        value = part.get(key)
        if isinstance(value, dict):
            value = value.get("path", value.get("url"))
        if value is not None and not isinstance(value, str):
            raise BadRow(f"turn {place}: the {key} of a picture is no path")
        if value:
            return value
    return None


def _beside(row: Fields) -> list[str]:
    """The files of the row as a whole."""
    for key in ROW_KEYS:
        given = unpacked(row.get(key)) if key == "images" else row.get(key)
        if not given:
            continue
        listed = given if isinstance(given, list) else [given]
        told = [one.get("path") if isinstance(one, dict) else one for one in listed]
        names = [name for name in told if isinstance(name, str) and name]
        if len(names) != len(told):
            raise BadRow(f"{key} is no list of paths")
        return names
    return []


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A picture that can be read: its file, and its place for the renderer, without bytes."""

    file: PictureFile
    part: MediaPart


class PictureShelf:
    """The pictures that rows name, each looked at once."""

    def __init__(self, source: VisionSource, output: Path) -> None:
        """output: the folder that the files are told from.

        Raises:
            Refused: the base's pictures have no form here.
        """
        told = source.prompt()
        self._output = output
        self._reader = pictures_of(source)
        self._known: dict[Path, Seen | str] = {}
        self._written: dict[str, Written] = {}
        self.sight = Sight(
            marker=told.marker,
            token=told.token,
            token_id=told.token_id,
            written=lambda media: self._written[media.sha256],
            film=self._reader.film,
        )
        """How pictures that were taken stand in a prompt."""

    def __len__(self) -> int:
        """Pictures that can be read."""
        return sum(isinstance(found, Seen) for found in self._known.values())

    def take(self, names: Sequence[str], folder: Path) -> list[Seen]:
        """The pictures of these names, which are paths from `folder` on.

        Raises:
            BadRow: one is missing, broken or too large.
        """
        return [self._one(name, folder) for name in names]

    def _one(self, name: str, folder: Path) -> Seen:
        if "://" in name or name.startswith("data:"):
            raise BadRow(
                f"picture {name[:60]}: a path is wanted, from the file of rows on; nothing is"
                " fetched"
            )
        if not _is_path(name):
            raise BadRow(f"picture {shown(name)[1:-1]}: no path")
        path = Path(os.path.normpath(folder.absolute() / name))
        if path not in self._known:
            self._known[path] = self._looked_at(path)
        found = self._known[path]
        if isinstance(found, str):
            raise BadRow(f"picture {name}: {found}")
        return found

    def _looked_at(self, path: Path) -> Seen | str:
        """The picture, or the reason why it cannot be used."""
        try:
            told = path.stat()
            if not (stat.S_ISREG(told.st_mode) or stat.S_ISDIR(told.st_mode)):
                return "no file"  # a pipe or a device, which may never end
            if (size := told.st_size) > MAX_BYTES:
                return f"{size} bytes, more than {MAX_BYTES}"
            media = Media(type="image/png", data=path.read_bytes())
            self._reader.read(media)
            self._written[media.sha256] = self._reader.written(media)
        except OSError as error:
            return error.strerror or type(error).__name__
        except NsedgeError as error:
            return error.message
        name = os.path.relpath(path, self._output.absolute())
        return Seen(
            file=PictureFile(path=name, sha256=media.sha256),
            part=MediaPart(media=Media.hashed(type=media.type, data=b"", sha256=media.sha256)),
        )


def _is_path(name: str) -> bool:
    """Whether a file may have that name."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def pictures_of(source: VisionSource) -> PromptPictures:
    """What reads the pictures of a base, as the daemon does with its settings left alone.

    Raises:
        Refused: they have no form here, or a family of the kind is not fine-tuned here.
    """
    source.check_architecture()
    if source.kind not in PROJECTORS:
        raise Refused(
            f"{source.architecture()} is exported, but not fine-tuned here; known are"
            f" {', '.join(PROJECTORS)}"
        )
    settings = EngineSettings()
    return PromptPictures(
        source.pictures(source.rows()),
        source.prompt(),
        FilmPrompt(),
        max_pixels=settings.max_picture_pixels,
        films=FilmLimits(max_pixels=settings.max_picture_pixels),
        context=settings.context_tokens,
    )
