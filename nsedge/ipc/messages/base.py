"""The building blocks of messages."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from nsedge.api.inputs import MAX_TOKEN_ID

SESSION_BYTES = 16

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Label = Annotated[str, Meta(max_length=256)]
SessionKey = Annotated[bytes, Meta(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
ByteCount = Annotated[int, Meta(ge=0, le=2**53)]
TokenId = Annotated[int, Meta(ge=0, le=MAX_TOKEN_ID)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Meta(pattern=r"^[0-9]{1,4}\.[0-9]{1,4}$")]


class Wire(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """A message: a map whose `type` is its tag."""
