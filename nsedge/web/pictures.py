"""Pictures in bodies: base64, bare or in a data URL, to media; pure."""

from __future__ import annotations

import base64
import binascii
import re

from nsedge.api import Media
from nsedge.api.media import picture_type
from nsedge.errors import InvalidParameter

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<options>(?:;[^;,]*)*),(?P<data>.*)", re.DOTALL)
_REMOTE = ("http://", "https://", "file:", "ftp://", "s3://")
KNOWN = "PNG, JPEG, GIF, WebP or BMP"


def picture_of(text: str, where: str, *, param: str) -> Media:
    """The picture that a data URL holds, or bare base64; `where` names it in messages.

    Raises:
        InvalidParameter: a URL to elsewhere, which is not fetched; no base64; no picture.
    """
    if text.startswith(_REMOTE):
        raise InvalidParameter(
            f"{where}: pictures are not fetched from elsewhere; send a data URL", param=param
        )
    found = _DATA_URL.fullmatch(text)
    if found is None:
        return sniffed(decoded(text, where, param=param), where, param=param)
    if "base64" not in found["options"].split(";"):
        raise InvalidParameter(f"{where}: a data URL is read where it is base64", param=param)
    data = decoded(found["data"], where, param=param)
    kind = found["type"].lower()
    if not kind.startswith("image/"):
        raise InvalidParameter(
            f"{where}: a data URL of {kind or 'no type'} is no picture", param=param
        )
    media = Media(type=kind, data=data)
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
