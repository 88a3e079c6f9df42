"""Pictures, sound and video as bytes with a type."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field
from typing import Self

from nsedge.errors import InvalidParameter

_TYPE = re.compile(r"(image|audio|video|application)/[a-z0-9][a-z0-9.+-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Media:
    """Bytes of one picture, recording or film; `type` is their media type, such as image/png."""

    type: str
    data: bytes = field(repr=False)

    @classmethod
    def hashed(cls, *, type: str, data: bytes, sha256: str) -> Self:
        """Media whose hash is known already."""
        media = cls(type=type, data=data)
        vars(media)["sha256"] = sha256
        return media

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, in hexadecimal: their name."""
        return hashlib.sha256(self.data).hexdigest()

    def check(self) -> None:
        """Refuse a type that is none, and empty data.

        Raises:
            InvalidParameter: naming what is wrong.
        """
        if not _TYPE.fullmatch(self.type):
            raise InvalidParameter(f"{self.type!r} is no media type like image/png", param="type")
        if not self.data:
            raise InvalidParameter("the media is empty", param="data")
