"""Pictures and recordings beside a prompt, as flags name them."""

from __future__ import annotations

import argparse
from pathlib import Path

from nsedge.api import Media, MediaPart, TextPart
from nsedge.cli.pictures import read_picture
from nsedge.errors import InvalidParameter, NsedgeError
from nsedge.ipc.asking import SOUND

PLACE_CHARS = 256


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--image` and `--audio`, any number of each, kept in the order in which they are given."""
    for flag, kind, meaning in (
        ("--image", _picture, "a picture before the prompt; may be repeated"),
        ("--audio", _recording, "a recording before the prompt; may be repeated"),
    ):
        parser.add_argument(
            flag, dest="media", type=kind, action="append", default=[], metavar="FILE", help=meaning
        )


def shown(options: argparse.Namespace) -> tuple[MediaPart, ...]:
    """What the flags name, each by its file.

    Raises:
        NsedgeError: a file that cannot be read.
        InvalidParameter: one that is no picture, or empty.
    """
    return tuple(
        MediaPart(
            media=read_picture(path) if picture else _read_recording(path),
            place=str(path)[:PLACE_CHARS],
        )
        for picture, path in options.media
    )


def content(media: tuple[MediaPart, ...], text: str) -> str | tuple[MediaPart | TextPart, ...]:
    """A message of `text`, behind what is shown with it."""
    return (*media, TextPart(text=text)) if media else text


def _picture(name: str) -> tuple[bool, Path]:
    return True, Path(name)


def _recording(name: str) -> tuple[bool, Path]:
    return False, Path(name)


def _read_recording(path: Path) -> Media:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NsedgeError(f"{path}: {error.strerror}") from error
    if not data:
        raise InvalidParameter(f"{path} is empty")
    return Media(type=SOUND, data=data)
