"""Pictures that a command line names."""

from __future__ import annotations

from pathlib import Path

from nsedge.api import Media
from nsedge.api.media import picture_type
from nsedge.errors import InvalidParameter, NsedgeError


def read_picture(path: Path) -> Media:
    """The picture in a file.

    Raises:
        NsedgeError: it cannot be read.
        InvalidParameter: it does not begin as a picture does.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NsedgeError(f"{path}: {error.strerror}") from error
    return picture_of(str(path), data)


def picture_of(name: str, data: bytes) -> Media:
    """The picture that a file called `name` holds.

    Raises:
        InvalidParameter: it does not begin as a picture does.
    """
    kind = picture_type(data)
    if kind is None:
        raise InvalidParameter(f"{name} is no PNG, JPEG, GIF, WebP or BMP")
    return Media(type=kind, data=data)
