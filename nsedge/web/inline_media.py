"""Pictures, sound and films in bodies: base64, bare or in a data URL, to media; pure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from nsedge.api import Media
from nsedge.api.media import film_type, picture_type
from nsedge.errors import InvalidParameter

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<options>(?:;[^;,]*)*),(?P<data>.*)", re.DOTALL)
_FETCHED = ("http://", "https://")
_REMOTE = ("http://", "https://", "file:", "ftp://", "s3://")
FORMAT = "[a-z0-9][a-z0-9.+-]{0,31}"
"""The pattern of a format of sound."""
KNOWN = "PNG, JPEG, GIF, WebP or BMP"
FILMS = "MP4, MOV, WebM, GIF or WebP"
ANIMATED = ("image/gif", "image/webp")
"""Types of pictures that may be films."""


@dataclass(frozen=True, kw_only=True)
class Remote(Media):
    """A medium that is elsewhere, to be fetched before the core is asked; `type` tells its kind
    alone."""

    url: str

    def check(self) -> None:
        """Nothing is known of it yet."""


def remote(text: str, kind: str) -> Remote | None:
    """What an http or https URL leads to, a picture (`kind` image), sound (audio) or a film
    (video); None where `text` is no such URL."""
    if not text.startswith(_FETCHED):
        return None
    return Remote(type=f"{kind}/unknown", data=b"", url=text)


def picture_of(text: str, where: str, *, param: str) -> Media:
    """The picture that a data URL holds, or bare base64; `where` names it in messages.

    Raises:
        InvalidParameter: a URL to elsewhere, which is not fetched; no base64; no picture.
    """
    media = _of_url(text, where, "image", param=param)
    if media is None:
        return sniffed(decoded(text, where, param=param), where, param=param)
    return media


def film_of(text: str, where: str, *, param: str) -> Media:
    """The film that a data URL holds, or bare base64: an animation in GIF or WebP is one, too.
    Raises as `picture_of`."""
    media = _of_url(text, where, "video", param=param)
    data = decoded(text, where, param=param) if media is None else media.data
    return film_in(data, where, param=param)


def film_in(data: bytes, where: str, *, param: str) -> Media:
    """A film of the type that its first bytes tell. Raises InvalidParameter where they tell of
    none."""
    kind = film_type(data)
    if kind is None:
        raise InvalidParameter(f"{where} is no {FILMS}", param=param)
    return Media(type=kind, data=data)


def recording_of(text: str, where: str, *, form: str | None, param: str) -> Media:
    """The sound that a data URL holds, or bare base64 of the format `form`, such as wav. Raises as
    `picture_of`."""
    media = _of_url(text, where, "audio", param=param)
    if media is not None:
        return media
    if form is None or re.fullmatch(FORMAT, form) is None:
        raise InvalidParameter(f"{where}: sound in base64 wants its format", param=param)
    return Media(type=f"audio/{form}", data=decoded(text, where, param=param))


def _of_url(text: str, where: str, kind: str, *, param: str) -> Media | None:
    """What a data URL holds; None where `text` is no URL."""
    if text.startswith(_REMOTE):
        raise InvalidParameter(
            f"{where}: nothing is fetched from elsewhere; send a data URL", param=param
        )
    found = _DATA_URL.fullmatch(text)
    if found is None:
        return None
    if "base64" not in found["options"].split(";"):
        raise InvalidParameter(f"{where}: a data URL is read where it is base64", param=param)
    data = decoded(found["data"], where, param=param)
    said = found["type"].lower()
    if not said.startswith(f"{kind}/") and not (kind == "video" and said in ANIMATED):
        raise InvalidParameter(
            f"{where}: a data URL of {said or 'no type'} is no {kind}", param=param
        )
    media = Media(type=said, data=data)
    try:
        media.check()
    except InvalidParameter as error:
        raise InvalidParameter(f"{where}: {error.message}", param=param) from error
    return media


def decoded(text: str, where: str, *, param: str) -> bytes:
    """The bytes behind base64. Raises InvalidParameter where it is none, or empty."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameter(f"{where} is not base64", param=param) from error
    if not data:
        raise InvalidParameter(f"{where} is empty", param=param)
    return data


def sniffed(data: bytes, where: str, *, param: str) -> Media:
    """A picture of the type that its first bytes tell. Raises InvalidParameter where they tell of
    none."""
    kind = picture_type(data)
    if kind is None:
        raise InvalidParameter(f"{where} is no {KNOWN}", param=param)
    return Media(type=kind, data=data)
