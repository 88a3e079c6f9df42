"""Pictures, recordings and films beside a prompt: as flags name them, or as paths that are dragged
into it."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nsedge.api import Media, MediaPart, TextPart
from nsedge.api.media import film_type
from nsedge.cli import values
from nsedge.cli.pictures import picture_of
from nsedge.errors import InvalidParameter, NsedgeError
from nsedge.ipc.asking import SOUND

PLACE_CHARS = 256
_WORD = re.compile(r"'[^']+'|\"[^\"]+\"|(?:\\.|[^\s\\])+")
"""A word of a line: in quotes, or with its blanks behind backslashes, as terminals write a path."""


class Kind(enum.Enum):
    """The kind of medium that a file is taken for."""

    IMAGE = enum.auto()
    AUDIO = enum.auto()
    VIDEO = enum.auto()


_SUFFIXES = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"), Kind.IMAGE),
    **dict.fromkeys((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"), Kind.AUDIO),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".webm", ".mkv"), Kind.VIDEO),
}
"""By which a file that is dragged in is known."""
_ANIMATED = (b"NETSCAPE2.0", b"ANIM")
"""Marks near the beginning of a GIF or WebP that is an animation."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--image`, `--audio` and `--video`, any number of each, kept in the order in which they are
    given; `--fps` and `--frames` of all films."""
    for flag, kind, meaning in (
        ("--image", _image, "a picture before the prompt; may be repeated"),
        ("--audio", _audio, "a recording before the prompt; may be repeated"),
        ("--video", _video, "a film, or an animation, before the prompt; may be repeated"),
    ):
        parser.add_argument(
            flag, dest="media", type=kind, action="append", default=[], metavar="FILE", help=meaning
        )
    parser.add_argument(
        "--fps",
        type=values.number,
        metavar="N",
        help="frames of a film that are looked at a second",
    )
    parser.add_argument(
        "--frames",
        type=values.whole,
        metavar="N",
        help="frames of a film that are looked at at most; without --fps, spread over all of it",
    )


def shown(options: argparse.Namespace) -> tuple[MediaPart, ...]:
    """The media that the flags name, each by its file.

    Raises:
        NsedgeError: a file that cannot be read.
        InvalidParameter: one that is not of its kind, or empty; frames that are chosen of no film.
    """
    parts = tuple(part_of(kind, path, options) for kind, path in options.media)
    for name in ("fps", "frames"):
        if getattr(options, name) is not None and not any(
            one.media.kind == "video" for one in parts
        ):
            raise InvalidParameter(f"--{name} is of films: name one by --video")
    return parts


def part_of(kind: Kind, path: Path, options: argparse.Namespace) -> MediaPart:
    """A file as a part of a message. Raises as `shown`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NsedgeError(f"{path}: {error.strerror}") from error
    part = MediaPart(media=_READ[kind](str(path), data), place=str(path)[:PLACE_CHARS])
    if kind is not Kind.VIDEO:
        return part
    return dataclasses.replace(part, fps=options.fps, frames=options.frames)


def dragged(line: str, options: argparse.Namespace) -> tuple[str, tuple[MediaPart, ...]]:
    """The words of a line, and the media whose paths were dragged into it: names of files that are
    there, by suffixes of pictures, recordings and films. Raises as `shown`."""
    if (path := _file(line)) is not None:
        return "", (_found(path, options),)
    parts: list[MediaPart] = []

    def taken(word: re.Match[str]) -> str:
        path = _file(word[0])
        if path is None:
            return word[0]
        parts.append(_found(path, options))
        return ""

    left = _WORD.sub(taken, line)
    return (" ".join(left.split()) if parts else line), tuple(parts)


def content(media: tuple[MediaPart, ...], text: str) -> str | tuple[MediaPart | TextPart, ...]:
    """A message of `text`, behind what is shown with it."""
    return (*media, TextPart(text=text)) if media else text


def _file(word: str) -> Path | None:
    """The media file that a word, or a line, names as a terminal writes paths; None where none."""
    if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"":
        word = word[1:-1]
    elif word.startswith("file://"):
        word = unquote(urlsplit(word).path)
    else:
        word = re.sub(r"\\(.)", r"\1", word)
    try:
        path = Path(word).expanduser()
        return path if path.suffix.lower() in _SUFFIXES and path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long, or of nobody's home
        return None


def _found(path: Path, options: argparse.Namespace) -> MediaPart:
    kind = _SUFFIXES[path.suffix.lower()]
    if kind is Kind.IMAGE and path.suffix.lower() in (".gif", ".webp"):
        with path.open("rb") as file:
            head = file.read(1024)
        kind = Kind.VIDEO if any(mark in head for mark in _ANIMATED) else kind
    return part_of(kind, path, options)


def _image(name: str) -> tuple[Kind, Path]:
    return Kind.IMAGE, Path(name)


def _audio(name: str) -> tuple[Kind, Path]:
    return Kind.AUDIO, Path(name)


def _video(name: str) -> tuple[Kind, Path]:
    return Kind.VIDEO, Path(name)


def _recording_of(name: str, data: bytes) -> Media:
    if not data:
        raise InvalidParameter(f"{name} is empty")
    return Media(type=SOUND, data=data)


def _film_of(name: str, data: bytes) -> Media:
    kind = film_type(data)
    if kind is None:
        raise InvalidParameter(f"{name} is no MP4, MOV, WebM, GIF or WebP")
    return Media(type=kind, data=data)


_READ: dict[Kind, Callable[[str, bytes], Media]] = {
    Kind.IMAGE: picture_of,
    Kind.AUDIO: _recording_of,
    Kind.VIDEO: _film_of,
}
